"""quantlab inspect's views, on images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantlab._util.yamlfile import read_yaml
from quantlab.inspect.inspection import Inspection
from quantlab.inspect.layers import LayerReport
from quantlab.inspect.portability import Portability
from quantlab.inspect.preprocessing_audit import Audit
from quantlab.inspect.sensitivity import Sensitivity
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier

RECIPE = """
engine: ort
equalize: false
bias_correction: false
rounding: nearest
calibration_size: 8
"""


@pytest.fixture
def cli(cli: Any) -> Any:
    """The command line, which keeps its runs."""
    return lambda *words, **code: cli(*words, "--runs-dir", "runs", **code)


@pytest.fixture
def int8(cli: Any, scene: Any, tmp_path: Path) -> Path:
    """The scene's model, quantized by ONNX Runtime."""
    recipe, target = tmp_path / "recipe.yaml", tmp_path / "tiny-int8.onnx"
    recipe.write_text(RECIPE)
    words = ("--model", scene.model, *scene.words, "--recipe", recipe, "--output", target)
    cli("quantize", *words)
    return target


def test_portability(cli: Any, scene: Any, int8: Path) -> None:
    said = cli("inspect", int8, "--portability", *scene.words, "--images", "6")
    assert "tiny-int8: not the same without VNNI: agreement " in said.out
    found = Portability.model_validate_json((said.folder / "portability.json").read_text())
    assert found.images == 6
    assert said.record.results["line"] in said.out
    assert set(said.record.artifacts) == {"portability"}


def test_portability_of_fp32_is_refused(cli: Any, scene: Any) -> None:
    said = cli("inspect", scene.model, "--portability", *scene.words, code=2)
    assert "is not quantized" in said.err


def test_layers(cli: Any, scene: Any, int8: Path) -> None:
    said = cli("inspect", "--layers", scene.model, int8, *scene.words, "--images", "4")
    assert "tiny-int8 against tiny, SQNR in dB on 4 images" in said.out
    assert re.search(r"\| stem +\| Conv +\| stem_act ", said.out)
    found = LayerReport.model_validate_json((said.folder / "layers.json").read_text())
    assert found.layers[-1].tensor == "output"
    assert (said.folder / "layers.png").stat().st_size > 1000
    assert set(said.record.artifacts) == {"layers", "layers plot"}
    again = cli(*said.repeat)
    assert again.out == said.out


def test_layers_in_the_wrong_order(cli: Any, scene: Any, int8: Path) -> None:
    said = cli("inspect", "--layers", int8, scene.model, *scene.words, code=2)
    assert "takes the fp32 model first" in said.err


def test_sensitivity(cli: Any, scene: Any) -> None:
    said = cli("inspect", "--sensitivity", scene.model, *scene.words, "--images", "8")
    assert "tiny, plainly quantized, against fp32 on 8 images: KL " in said.out
    found = Sensitivity.model_validate_json((said.folder / "sensitivity.json").read_text())
    rows = re.findall(r"^\| (\w+) ", said.out, re.M)[1:]
    assert rows == [cost.name for cost in found.groups]
    assert (said.folder / "sensitivity.png").stat().st_size > 1000
    assert set(said.record.artifacts) == {"sensitivity", "sensitivity plot"}
    again = cli(*said.repeat)
    assert again.out == said.out


def test_the_exclude_list_of_sensitivity_is_a_recipes(cli: Any, scene: Any, tmp_path: Path) -> None:
    said = cli("inspect", "--sensitivity", scene.model, *scene.words, "--json")
    record = json.loads(said.out)
    assert [x["nodes"] for x in record["results"]["groups"]]
    recipe = tmp_path / "recipe.yaml"
    shown = cli("inspect", "--sensitivity", scene.model, *scene.words).out
    recipe.write_text(shown[shown.index("exclude:") :])
    assert Recipe.model_validate(read_yaml(recipe)).exclude == tuple(record["results"]["exclude"])


def test_sensitivity_of_int8_is_refused(cli: Any, scene: Any, int8: Path) -> None:
    said = cli("inspect", "--sensitivity", int8, *scene.words, code=2)
    assert "is already quantized" in said.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("one", "--sensitivity", "--portability"), "give one of them"),
        (("one", "two", "--sensitivity"), "inspect takes one model, not 2."),
        (("--layers", "one"), "inspect --layers takes two models, FP32 and INT8, not 1."),
        (("one", "two"), "inspect takes one model, not 2."),
        (("one", "--layers", "--portability"), "give one of them"),
        (("one", "--test-data", "x", "--quantization"), "--test-data and --quantization are two"),
        (("one", "--published", "70"), "--published goes with --preprocess-audit."),
        (("one", "--format", "csv"), "--format goes with --quantization."),
        ((), "Missing argument"),
    ],
)
def test_wrong_numbers_of_models(words: tuple[str, ...], complaint: str, cli: Any) -> None:
    assert complaint in cli("inspect", *words, code=2).err


def test_levels_on_random_and_on_given_images(cli: Any, scene: Any, int8: Path) -> None:
    blind, seeing = cli("inspect", int8), cli("inspect", int8, *scene.words, "--images", "5")
    assert "on 8 seeded random images" in blind.out
    assert "on 5 images" in seeing.out
    found = Inspection.model_validate_json((blind.folder / "inspection.json").read_text())
    assert found.levels is not None
    assert blind.record.results["levels"]["images"] == 8


def test_fp32_models_have_no_levels_to_compare(cli: Any, scene: Any) -> None:
    said = cli("inspect", scene.model)
    assert "levels" not in said.out
    assert said.record.results["levels"] is None


def test_preprocess_audit(cli: Any, scene: Any) -> None:
    data = scene.labelled_by_itself("own")
    line = (scene.model, "--data", data, "--pipeline", scene.pipeline, "--images", "50")
    said = cli("inspect", "--preprocess-audit", *line, "--published", "99")
    assert said.out.startswith("tiny through 18 pipelines on the same 50 images\n")
    assert re.search(r"^\| tiny +\| minus 127.* in RGB +\| 100", said.out, re.M)
    assert "The published 99.00% fits tiny (" in said.out
    found = Audit.model_validate_json((said.folder / "audit.json").read_text())
    assert (found.chosen, found.of_chosen.top1.value, found.images) == ("tiny", 1.0, 50)
    assert found.published == 0.99
    assert cli(*said.repeat).out == said.out


def test_an_audit_needs_labels(cli: Any, scene: Any) -> None:
    line = ("--data", scene.data / "3", *scene.words[2:])
    said = cli("inspect", "--preprocess-audit", scene.model, *line, code=2)
    assert "has no labels" in said.err


def test_test_data_exits_with_the_result(cli: Any, scene: Any, tmp_path: Path) -> None:
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    images = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    with Runner(scene.model, threads=1) as run:
        outputs = run(images)
    tensors = {"input_0.pb": images, "output_0.pb": outputs}
    for name, array in tensors.items():
        (folder / name).write_bytes(numpy_helper.from_array(array).SerializeToString())
    said = cli("inspect", scene.model, "--test-data", folder)
    assert said.out.startswith("PASS: as stored: tiny against its test data")
    assert said.record.results["passed"]
    other = tiny_classifier(scene.folder / "other.onnx", seed=1)
    failed = cli("inspect", other, "--test-data", tmp_path, code=1)
    assert failed.out.startswith("FAIL: 1 of 1 sets differ: other")
    assert not failed.record.results["passed"]
    assert failed.record.status == "success"


def test_operators_scales_in_three_forms(cli: Any, int8: Path) -> None:
    shown = cli("inspect", int8, "--quantization")
    assert re.search(r"^\| name +\| operator +\| output +\| type +\| +Y_scale \| ", shown.out)
    rows = json.loads(cli("inspect", int8, "--quantization", "--format", "json").out)
    assert rows == shown.record.results["operators"]
    head, *lines = cli("inspect", int8, "--quantization", "--format", "csv").out.splitlines()
    assert head == "name,operator,output,type,Y_scale,Y_zero_point"
    assert len(lines) == len(rows)


def test_operators_of_fp32_are_refused(cli: Any, scene: Any) -> None:
    assert "no operator has a scale" in cli("inspect", scene.model, "--quantization", code=2).err


def test_json_alone(cli: Any, scene: Any, int8: Path, tmp_path: Path) -> None:
    said = cli("inspect", int8, "--portability", *scene.words, "--json")
    assert json.loads(said.out)["results"]["images"] == 32
    onnx.checker.check_model(onnx.load(int8))


def test_layers_of_int8_with_fp32_as_an_option(cli: Any, scene: Any, int8: Path) -> None:
    words = (*scene.words, "--images", "8")
    usual = cli("inspect", "--layers", scene.model, int8, *words)
    other = cli("inspect", "--layers", int8, "--fp32", scene.model, *words)
    assert other.out == usual.out
    assert "--fp32 goes with --layers" in cli("inspect", int8, "--fp32", scene.model, code=2).err
