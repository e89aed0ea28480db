"""Models in OpenVINO: --runtime, model@runtime, and what records and reports say of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from quantlab.evaluate.predictions import Predictions
from quantlab.runs.figures import figures_of


@pytest.fixture
def int8(cli: Any, scene: Any) -> Path:
    output = scene.folder / "int8.onnx"
    cli("quantize", "--model", scene.model, *scene.words, "--output", output)
    return Path(output)


def test_an_evaluation_in_openvino_answers_as_onnx_runtime(cli: Any, scene: Any) -> None:
    here, there = (
        cli("evaluate", scene.model, *scene.words, "--runtime", runtime)
        for runtime in ("onnxruntime", "openvino")
    )
    answers = [Predictions.load(said.folder / "predictions.npz") for said in (here, there)]
    np.testing.assert_allclose(answers[0].outputs, answers[1].outputs, atol=1e-3)
    assert [a.model_name for a in answers] == ["tiny", "tiny@openvino"]
    assert there.record.results["model"]["runtime"] == "openvino"
    assert there.record.environment["openvino"]
    series = {figure.series for said in (here, there) for figure in figures_of(said.record)}
    assert len(series) == 2
    assert [text.endswith("runtime openvino") for text in sorted(series)] == [False, True]


def test_answers_of_one_runtime_are_not_taken_for_the_other_s(cli: Any, scene: Any) -> None:
    cli("evaluate", scene.model, *scene.words)
    said = cli("evaluate", f"{scene.model}@openvino", *scene.words)
    assert "from the cache" not in said.err
    assert "from the cache" in cli("evaluate", f"{scene.model}@openvino", *scene.words).err


def test_a_gain_is_told_apart_into_the_runtime_s_and_quantization_s(
    cli: Any, scene: Any, int8: Path
) -> None:
    words = ("compare", scene.model, int8, *scene.words, "--rounds", "2", "--runtime", "openvino")
    said = cli(*words, "--fp32-runtime", "onnxruntime", code=None)
    assert "fp32 ran in onnxruntime and int8 in openvino" in said.out
    assert "is the runtime's, openvino in the place of onnxruntime for fp32" in said.out
    (gain,) = said.record.results["comparison"]["runtime_gains"]
    assert gain["by_runtime"] > 0 < gain["by_quantization"]
    for kind in ("report.md", "report.html"):
        assert "in the place of onnxruntime for fp32" in (said.folder / kind).read_text()
    assert "runtime" not in cli(*words, code=None).out


def test_pairs_of_model_and_runtime_are_timed_in_one_run(cli: Any, scene: Any, int8: Path) -> None:
    models = [scene.model, f"{scene.model}@openvino", int8, f"{int8}@openvino"]
    said = cli("bench", *models, "--rounds", "2", "--seconds", "0.2")
    rows = [row["model"] for row in said.record.results["figures"] if row["metric"] == "p50"]
    assert rows[:4] == ["tiny", "tiny@openvino", "int8", "int8@openvino"]
    assert len({(f.model, f.series) for f in figures_of(said.record)}) == 4


def test_images_are_predicted_in_openvino(cli: Any, scene: Any) -> None:
    image = sorted(scene.data.rglob("*.png"))[0]
    words = ("predict", scene.model, image, "--pipeline", scene.pipeline)
    assert cli(*words).out == cli(*words, "--runtime", "openvino").out


def test_a_gate_in_openvino(cli: Any, scene: Any, int8: Path) -> None:
    words = ("gate", scene.model, int8, *scene.words, "--runtime", "openvino")
    said = cli(*words, "--require", "agreement >= 50%", code=None)
    assert {m["runtime"] for m in said.record.results["models"]} == {"openvino"}


def test_a_tune_in_openvino(cli: Any, scene: Any) -> None:
    output = scene.folder / "tuned.onnx"
    said = cli(
        *("tune", "--model", scene.model, *scene.words, "--runtime", "openvino"),
        *("--criterion", "agreement >= 10%", "--max-trials", "1", "--output", output),
    )
    assert said.record.results["output"]["runtime"] == "openvino"
    assert onnx.load(output).graph.node


def test_quantlab_yaml_names_the_runtime(cli: Any, scene: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(scene.folder)
    (scene.folder / "quantlab.yaml").write_text(f"model: {scene.model}\nruntime: openvino\n")
    said = cli("evaluate", scene.model, *scene.words)
    assert said.record.results["model"]["runtime"] == "openvino"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("MODEL@openvin",), "Did you mean openvino?"),
        (("MODEL", "--runtime", "openvin"), "Did you mean openvino?"),
        (("MODEL", "--runtime", "openvino", "--provider", "cpu"), "--provider is of ONNX Runtime"),
    ],
)
def test_what_cannot_be_asked(cli: Any, scene: Any, words: tuple[str, ...], told: str) -> None:
    asked = [word.replace("MODEL", str(scene.model)) for word in words]
    said = cli("evaluate", *asked, *scene.words, code=2)
    assert told in said.err


def test_a_missing_openvino_has_its_install_line(
    cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    said = cli("evaluate", scene.model, *scene.words, "--runtime", "openvino", code=2)
    assert "pip install 'quantlab[openvino]'" in said.err


def test_a_model_behind_its_runtime_is_an_input(cli: Any, scene: Any) -> None:
    before = scene.model.read_bytes()
    words = ("quantize", "--model", f"{scene.model}@openvino", *scene.words, "--force")
    assert "input" in cli(*words, "--output", scene.model, code=2).err
    assert scene.model.read_bytes() == before


def test_an_operator_that_openvino_does_not_know_is_named(
    cli: Any, scene: Any, tmp_path: Path
) -> None:
    proto = onnx.load(scene.model)
    last = proto.graph.node[-1]
    last.output[0], made = "before", last.output[0]
    proto.graph.node.append(
        helper.make_node("Rare", ["before"], [made], name="strange", domain="some.where")
    )
    proto.opset_import.append(helper.make_opsetid("some.where", 1))
    path = tmp_path / "rare.onnx"
    onnx.save(proto, path)
    said = cli("evaluate", path, *scene.words, "--runtime", "openvino", code=2)
    assert "no conversion for the operator Rare of the node strange" in said.err
    assert len(said.complaint) <= 3


def test_a_file_that_openvino_cannot_run_ends_no_tune(cli: Any, scene: Any) -> None:
    recipe, output = scene.folder / "q.yaml", scene.folder / "tuned.onnx"
    recipe.write_text("name: integers\nformat: qoperator\n")
    said = cli(
        *("tune", "--model", scene.model, *scene.words, "--recipe", recipe),
        *("--criterion", "agreement >= 10%", "--max-trials", "1", "--output", output),
    )
    assert "Not timed in openvino: OpenVINO cannot load" in said.err
    assert said.record.results["comparison"]["speeds"]
    assert said.record.results["comparison"]["runtime_speed"] is None
