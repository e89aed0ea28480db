"""What may be judged by what: a reference that guesses, exchanged, equal and unrelated models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from quantlab.testing import blind_model, listed_folder, taught, tiny_classifier

pytestmark = pytest.mark.usefixtures("no_timing", "no_plots")


LATENCY = "latency.p50.ratio <= 1, required"


@pytest.fixture
def int8(cli: Any, scene: Any, tmp_path: Path) -> Path:
    """The scene's model, quantized."""
    path = tmp_path / "int8.onnx"
    cli("quantize", "--model", scene.model, *scene.words, "--output", path)
    return path


@pytest.fixture
def wrong(scene: Any) -> tuple[str, ...]:
    """The options of images whose labels are another model's, in another order."""
    folder = scene.labelled_by_itself("wrong", 100)
    lines = (folder / "val.txt").read_text().split()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    (folder / "val.txt").write_text("".join(f"{n} {(int(k) + 1) % 10}\n" for n, k in pairs))
    return ("--data", str(folder), "--pipeline", str(scene.pipeline))


def test_one_file_twice_passes_at_once(cli: Any, scene: Any) -> None:
    copy = shutil.copy(scene.model, scene.folder / "copy.onnx")
    for second in (scene.model, copy):
        said = cli("compare", scene.model, second, *scene.words)
        assert said.out.splitlines()[2].startswith("Both are one and the same file (sha256 ")
        assert "nothing is timed" in said.err
        assert "measurements" not in said.record.artifacts
        report = (said.folder / "report.md").read_text()
        assert report.startswith("# PASS: ")
        assert "nothing can have changed" in report
    limits = ("kl <= 0", "top1.decline <= 0%", "class.decline <= 1pp", "agreement >= 100%")
    rules = [word for limit in (*limits, LATENCY) for word in ("--require", limit)]
    said = cli("gate", scene.model, copy, *scene.words, *rules)
    first, _, third = said.out.splitlines()[:3]
    assert first == "PASS: copy against tiny on 40 images"
    assert third.startswith("Both are one and the same file")
    assert said.out.count("nothing can have changed") == 1
    faster = ("--require", "latency.p50.ratio <= 0.9, required")
    said = cli("gate", scene.model, copy, *scene.words, *faster, code=1)
    assert "takes as long as itself" in said.out
    said = cli("compare", scene.model, copy, *scene.words, "--early-stop")
    assert "PASS" in said.out


def test_an_unchanged_model_passes_against_its_baseline(cli: Any, scene: Any) -> None:
    cli("baseline", "update", scene.model, *scene.words)
    line = ("gate", scene.model, "--baseline", "quantlab-baseline.yaml", *scene.words)
    rules = ("--require", "top1.decline <= 0.1%", "--require", LATENCY)
    assert "nothing can have changed" in cli(*line, *rules).out
    Path("quantlab-baseline.npz").unlink()
    said = cli(*line, *rules, "--require", "kl <= 0")
    assert "nothing can have changed" in said.out
    assert said.warnings == []
    accepted = yaml.safe_load(Path("quantlab-baseline.yaml").read_text())
    accepted["versions"]["onnxruntime"] = "0.1"
    Path("quantlab-baseline.yaml").write_text(yaml.safe_dump(accepted))
    said = cli(*line, code=3)  # another onnxruntime may answer differently
    assert any("compared by their intervals" in w for w in said.warnings)


Verb = Callable[[Path, Path], tuple[object, ...]]
VERDICTS: dict[str, Verb] = {
    "compare": lambda fp32, int8: ("compare", fp32, int8, "--no-bench"),
    "compare kl": lambda fp32, int8: ("compare", fp32, int8, "--criterion", "kl <= 9"),
    "early": lambda fp32, int8: ("compare", fp32, int8, "--early-stop"),
    "gate": lambda fp32, int8: ("gate", fp32, int8, "--require", "kl <= 9"),
    "size": lambda fp32, int8: ("gate", fp32, int8, "--require", "size <= 1GB"),
    "same": lambda fp32, int8: ("gate", fp32, fp32, "--require", "agreement >= 1%"),
    "baseline": lambda fp32, int8: ("baseline", "update", fp32),
    "tune": lambda fp32, int8: ("tune", "--model", fp32, "--output", "out.onnx", "--no-audit"),
}


@pytest.mark.parametrize("verb", VERDICTS)
def test_nothing_is_judged_by_a_model_that_guesses(
    cli: Any, scene: Any, int8: Path, wrong: tuple[str, ...], verb: str
) -> None:
    said = cli(*VERDICTS[verb](scene.model, int8), *wrong, code=2)
    problem, remedy = said.complaint[-2:]
    assert problem.startswith("Error: tiny is right on ")
    assert "no better than guessing among 10 classes" in problem
    assert "A quick preprocessing audit" in problem
    assert "--preprocess-audit" in remedy
    assert not Path("quantlab-baseline.yaml").exists()
    assert not Path("out.onnx").exists()


def test_nothing_is_judged_by_a_baseline_that_guesses(
    cli: Any, scene: Any, int8: Path, wrong: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.verbs.baseline.check_reference", lambda *_: None)
    cli("baseline", "update", scene.model, *wrong)
    against = ("--baseline", "quantlab-baseline.yaml", *wrong)
    said = cli("gate", int8, *against, "--require", "kl <= 9", "--comment", "c.md", code=2)
    assert "tiny, which quantlab-baseline.yaml accepted, is right on " in said.err
    assert Path("c.md").read_text().startswith("# ERROR: ")


def test_evaluate_warns_of_another_preprocessing(cli: Any, scene: Any, tmp_path: Path) -> None:
    pipeline = yaml.safe_load(scene.pipeline.read_text())
    data = listed_folder(tmp_path / "many", [i % 10 for i in range(100)], size=40)
    taught(tiny_classifier(scene.model), data, "caffe")
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**pipeline, "mean": [255] * 3, "std": [8] * 3}))
    said = cli("evaluate", scene.model, "--data", data, "--pipeline", other)
    (warning,) = said.warnings
    assert "A quick preprocessing audit: on 100 images top-1 is " in warning
    assert "--preprocess-audit says more" in said.err
    assert said.record.warnings
    right = cli("evaluate", scene.model, "--data", data, "--pipeline", "caffe")
    assert right.warnings == []


def test_the_broken_int8_of_a_good_model_fails(cli: Any, scene: Any, tmp_path: Path) -> None:
    data = ("--data", str(scene.labelled_by_itself("own", 200)), *scene.words[2:])
    blind = blind_model(scene.model, tmp_path / "blind.onnx", range(9))
    assert cli("compare", scene.model, blind, *data, code=1).out.startswith("FAIL: ")
    proto, rng = onnx.load(scene.model), np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        values = numpy_helper.to_array(tensor)
        noise = rng.standard_normal(values.shape).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(noise, tensor.name))
    onnx.save(proto, tmp_path / "noise.onnx")
    said = cli("gate", scene.model, tmp_path / "noise.onnx", *data, code=1)
    assert said.out.startswith("FAIL: ")
    assert "it is broken, or another network's." in said.out


def test_exchanged_models_are_refused_with_the_right_line(cli: Any, scene: Any, int8: Path) -> None:
    for verb in ("compare", "gate"):
        said = cli(verb, int8, scene.model, *scene.words, code=2)
        problem, remedy = said.complaint[:2]
        assert problem.startswith("Error: int8.onnx is quantized and tiny.onnx is not")
        assert remedy.startswith(f"Exchange the two: quantlab {verb} {scene.model} {int8} --")
        words = remedy.removeprefix("Exchange the two: quantlab ").split()
        assert cli(*words, code=None).code in (0, 1, 3)
    Path("g.yaml").write_text(yaml.safe_dump({"model": str(int8), "output": str(scene.model)}))
    said = cli("gate", "g.yaml", *scene.words, code=2)
    assert f"{scene.model} is the fp32 model and {int8} the int8 one" in said.err


def test_what_is_unusual_stands_first(cli: Any, scene: Any, int8: Path, tmp_path: Path) -> None:
    near = scene.near()
    said = cli("compare", near, int8, *scene.words, "--no-bench", code=None)
    told = "int8.onnx says that it was made from another fp32 file (sha256 "
    assert said.out.splitlines()[2].startswith(told)
    assert said.record.results["comparison"]["lead"][0].startswith(told)
    assert told in (said.folder / "report.md").read_text().replace("\n", " ")
    said = cli("gate", scene.model, near, *scene.words, code=None)
    assert said.out.splitlines()[2].startswith("Neither model is quantized")
    assert "Neither model is quantized" in (said.folder / "gate.md").read_text()


@pytest.mark.parametrize("verb", ["compare", "gate"])
def test_another_network_is_refused(cli: Any, scene: Any, tmp_path: Path, verb: str) -> None:
    other = tiny_classifier(tmp_path / "other.onnx", seed=1, residual=False, batch_norm=True)
    proto = onnx.load(scene.teach(other))
    for tensor in proto.graph.initializer:  # of other shapes, and answering alike
        if tensor.name == "fc.w":
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(-values), "fc.w"))
    last = next(node for node in proto.graph.node if node.name == "output")
    flipped = onnx.helper.make_node("Neg", ["flat"], ["turned"], name="turned")
    last.input[0] = "turned"
    proto.graph.node.insert(len(proto.graph.node) - 1, flipped)
    onnx.save(proto, tmp_path / "q.onnx")
    int8 = tmp_path / "other8.onnx"
    cli("quantize", "--model", tmp_path / "q.onnx", *scene.words, "--output", int8)
    said = cli(verb, scene.model, int8, *scene.words, "--json", code=2)
    assert "other8.onnx is another network than tiny.onnx: it holds " in said.err
    assert not list(Path("runs").glob(f"*-{verb}-*")), "nothing came out of it"
    assert json.loads(said.out)["exit_code"] == 2
