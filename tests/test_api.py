"""The library: models and images in every form, results that stay, nothing left behind."""

from __future__ import annotations

import gc
import pickle
import re
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import quantlab as ql
from quantlab._util.paths import cache_dir
from quantlab._util.reporter import NullReporter
from quantlab.bench import instances, load
from quantlab.data.dataset import Dataset
from quantlab.runs.record import load_record
from quantlab.testing import (
    example_images,
    example_model,
    fake_bench,
    fake_predictions,
    image_folder,
    tiny_classifier,
)
from quantlab.testing.examples import CLASSES, SIZE, example_file
from quantlab.testing.models import with_boxes
from quantlab.verbs import bench as bench_verb

PIPELINE: dict[str, Any] = {"pipeline": "torchvision"}
NO_LABELS = "agreement >= 50%"


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where anything left behind would lie."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return example_file(tmp_path / "tiny.onnx")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_verb, "bench", fake_bench)


MODELS: dict[str, Callable[[Path], Any]] = {
    "path": lambda path: path,
    "str": str,
    "bytes": lambda path: path.read_bytes(),
    "ModelProto": onnx.load,
    "Model": ql.Model.load,
}


@pytest.mark.parametrize("form", MODELS)
def test_a_model_in_any_form(form: str, model: Path, quick: None) -> None:
    given = MODELS[form](model)
    int8 = ql.quantize(given, example_images(seed=1), **PIPELINE)
    assert ql.evaluate(int8, example_images(), **PIPELINE).outputs.shape == (32, CLASSES)
    comparison = ql.compare(given, int8, example_images(), **PIPELINE)
    assert comparison.speedup == pytest.approx(2, rel=0.1)
    assert comparison.int8.size_bytes == int8.size_bytes
    assert ql.inspect(given).num_classes == CLASSES


def test_a_model_of_bytes_in_a_process_of_its_own() -> None:
    result = ql.bench([example_model(), example_model()], rounds=2, seconds=0.05)
    assert [len(measured) for measured in result.measurements] == [1, 1]
    assert result.to_frame().model.tolist() == ["tiny", "tiny"]


def test_nothing_is_left_behind(model: Path, own_temporary_folder: Path, quick: None) -> None:
    before = {*model.parent.iterdir()}
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    result = ql.tune(
        model, example_images(seed=1), evaluation=example_images(), max_trials=1, **PIPELINE
    )
    ql.compare(model, result.model, example_images(), **PIPELINE)
    assert len([*own_temporary_folder.iterdir()]) == 2, "one folder a model in use"
    del int8, result
    gc.collect()
    assert [*own_temporary_folder.iterdir()] == []
    assert {*model.parent.iterdir()} - before == {model.parent / "cache"}


def test_a_models_file_is_there_as_long_as_any_copy_of_it() -> None:
    model = example_model()
    copy = model.with_overrides(layout="NHWC")
    other = pickle.loads(pickle.dumps(model))
    path = model.path
    del model
    gc.collect()
    assert copy.path.is_file()
    del copy
    gc.collect()
    assert not path.exists()
    assert other.folder is None


def test_saving(model: Path, tmp_path: Path) -> None:
    int8 = ql.quantize(model, example_images(), **PIPELINE)
    for own in (model, tmp_path / "there" / ".." / "tiny.onnx"):
        (tmp_path / "there").mkdir(exist_ok=True)
        with pytest.raises(ql.OutputError, match="inputs are never written"):
            int8.save(own)
    saved = int8.save(tmp_path / "tiny.int8.onnx")
    assert saved.read_bytes() == int8.path.read_bytes()
    loaded = ql.Model.load(saved)
    assert loaded.sha256 == int8.sha256
    with pytest.raises(ql.OutputError, match="inputs are never written"):
        loaded.save(saved)
    assert int8.save(saved) == saved, "another file may be replaced"


def test_weights_beside_the_model_are_saved_inside(model: Path, tmp_path: Path) -> None:
    proto = onnx.load(model)
    (tmp_path / "big").mkdir()
    path = tmp_path / "big" / "big.onnx"
    onnx.save(proto, path, save_as_external_data=True, size_threshold=0, location="weights")
    saved = ql.Model.load(path).save(tmp_path / "whole.onnx")
    assert ql.Model.load(saved).proto() == ql.Model.load(path).proto()


@pytest.mark.filterwarnings("ignore:.*plain MinMax is nearer:quantlab.QuantlabWarning")
def test_the_library_and_the_command_line_make_the_same_file(model: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from quantlab.cli import main

    folder = image_folder(tmp_path / "train", CLASSES, 2, 40)
    command = ["quantize", "--model", str(model), "--data", str(folder), "--output", "cli.onnx"]
    assert CliRunner().invoke(main, [*command, "--pipeline", "torchvision"]).exit_code == 0
    int8 = ql.quantize(model, folder, **PIPELINE)
    assert int8.path.read_bytes() == Path("cli.onnx").read_bytes()


def test_a_file_that_is_predicted_to_be_slower_than_fp32_is_warned_of(model: Path) -> None:
    with pytest.warns(ql.QuantlabWarning, match=r"predicted 2\.\d+x slower than fp32"):
        ql.quantize(model, example_images(), **PIPELINE)


def test_images_in_memory_answer_as_the_same_images_on_disk(model: Path, tmp_path: Path) -> None:
    images, labels = example_images()
    np.savez(tmp_path / "x.npz", images=images, labels=labels)
    kept = ql.evaluate(model, tmp_path / "x.npz", **PIPELINE)
    for given in ((images, labels), zip(images, labels, strict=True)):
        found = ql.evaluate(model, given, **PIPELINE)
        assert np.array_equal(found.outputs, kept.outputs)
        assert found.digests == kept.digests


def test_a_dataset_is_taken_as_it_is(model: Path, tmp_path: Path) -> None:
    dataset: Dataset = ql.open_dataset(image_folder(tmp_path / "val", CLASSES, 2))
    assert ql.evaluate(model, dataset.subset([0, 3]), **PIPELINE).names == (
        dataset.names[0],
        dataset.names[3],
    )


@pytest.mark.filterwarnings("ignore:.*no calibration image:quantlab.QuantlabWarning")
@pytest.mark.filterwarnings("ignore:.*plain MinMax is nearer:quantlab.QuantlabWarning")
def test_ready_inputs_are_given_to_the_model_as_they_are(model: Path) -> None:
    inputs = np.random.default_rng(0).standard_normal((32, 3, SIZE, SIZE)).astype(np.float32)
    with ql.Runner(ql.Model.load(model), threads=1) as run:
        outputs = np.concatenate([run(inputs[i : i + 1]) for i in range(32)])
    labels = outputs.argmax(1)
    found = ql.evaluate(model, (inputs, labels))
    assert np.array_equal(found.outputs, outputs)
    others = np.random.default_rng(1).standard_normal(inputs.shape).astype(np.float32)
    int8 = ql.quantize(model, (others, np.repeat(np.arange(CLASSES), 8)))
    assert ql.evaluate(int8, (inputs, labels)).pipeline["name"] == "ready"
    comparison = ql.compare(model, int8, (inputs, labels), timing=False)
    assert comparison.fidelity.agreement.value > 0.5
    with pytest.raises(ql.DataError, match="was made with ready inputs"):
        ql.evaluate(int8, example_images())
    result = ql.tune(model, (inputs, labels), criterion=NO_LABELS, max_trials=1, timing=False)
    assert result.model.is_quantized
    with pytest.raises(ql.DataError, match=r"\[3, 8, 8\] is not an input of 32 x 32"):
        ql.evaluate(model, (inputs[:, :, :8, :8], labels))


@pytest.mark.parametrize("kind", ["logits", "probabilities"])
def test_a_model_of_one_number_an_image_has_two_classes(kind: str, tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "one.onnx", classes=1)
    if kind == "probabilities":
        proto = onnx.load(path)
        proto.graph.node[-1].output[0] = "logit"
        proto.graph.node.append(onnx.helper.make_node("Sigmoid", ["logit"], ["output"]))
        onnx.save(proto, path)
    images = np.random.default_rng(0).standard_normal((40, 3, 32, 32)).astype(np.float32)
    with ql.Runner(path) as run:
        chance = run(images)[:, 1]
    labels = (chance > np.median(chance)).astype(np.int64)
    int8 = ql.quantize(path, images)
    assert (int8.judged.shape, int8.output_kind) == ((None, 1), kind)
    answers = [ql.evaluate(model, (images, labels)) for model in (path, int8)]
    comparison = ql.compare(*answers)
    assert (comparison.num_classes, answers[1].outputs.shape) == (2, (40, 2))


def test_ready_inputs_with_a_report(model: Path, tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).standard_normal((32, 3, SIZE, SIZE)).astype(np.float32)
    int8 = ql.quantize(model, inputs[:8], recipe=ql.Recipe(ranges="minmax"))
    ql.compare(model, int8, inputs[8:], timing=False, run_dir=tmp_path / "runs")
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "report.html").is_file()


def test_run_dir_keeps_what_the_command_line_keeps(
    model: Path, tmp_path: Path, quick: None
) -> None:
    runs = tmp_path / "runs"
    data = example_images()
    result = ql.tune(
        model, example_images(seed=1), evaluation=data, max_trials=1, run_dir=runs, **PIPELINE
    )
    assert result.folder is not None
    record = load_record(result.folder)
    assert record.status == "success"
    assert record.environment["cpu"]
    assert record.results["verdict"]["status"] == result.verdict.status
    assert (result.folder / "report.html").is_file()
    ql.quantize(model, data, run_dir=runs, **PIPELINE)
    ql.evaluate(model, data, run_dir=runs, **PIPELINE)
    ql.compare(model, result.model, data, run_dir=runs, criterion="kl <= 1", **PIPELINE)
    ql.bench([model, result.model], run_dir=runs)
    records = [load_record(folder) for folder in sorted(runs.iterdir())]
    assert {r.verb for r in records} == {"tune", "quantize", "evaluate", "compare", "bench"}
    assert all(r.status == "success" and r.results for r in records)
    compared = next(r for r in records if r.verb == "compare")
    judged = {"type": "DivergenceCriterion", "most": 1.0, "tolerance": 0.0}
    assert compared.results["verdict"]["criterion"] == judged


def test_one_dataset_for_both_is_divided(model: Path) -> None:
    result = ql.tune(model, example_images(), max_trials=1, timing=False, **PIPELINE)
    assert result.comparison.n == 32 - 32 // 3


def test_an_image_may_not_calibrate_and_judge(model: Path) -> None:
    with pytest.raises(ql.DataError, match="both calibrate and judge"):
        ql.tune(model, example_images(), evaluation=example_images(), timing=False, **PIPELINE)


@pytest.mark.parametrize("recipe", [ql.Recipe(ranges="minmax"), None])
def test_a_recipe_decides_the_file(model: Path, recipe: ql.Recipe | None) -> None:
    first, second = (
        ql.quantize(model, example_images(), recipe=recipe, **PIPELINE) for _ in range(2)
    )
    assert first.sha256 == second.sha256
    other = ql.quantize(model, example_images(), recipe=ql.Recipe(reduce_range=True), **PIPELINE)
    assert other.sha256 != first.sha256


def test_where_answers_hold_is_known_of_models_alone(model: Path) -> None:
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    criterion = "runtime.agreement >= 50%"
    asked: dict[str, Any] = {"timing": False, **PIPELINE}
    both = ql.compare(model, int8, example_images(), criterion=criterion, **asked)
    assert ql.judge(both, "portable").status == "pass"
    assert ql.judge(both, criterion).status == "pass"
    assert ql.Comparison.model_validate_json(both.model_dump_json()) == both
    assert "Other CPUs: the same answers" in both._repr_html_()
    alone = ql.compare(model, int8, example_images(), **asked)
    assert ql.judge(alone, "portable").status == "pass"
    assert ql.judge(alone, criterion).status == "inconclusive"


def pair(n: int = 2000) -> tuple[ql.Predictions, ql.Predictions]:
    return fake_predictions(n, 10, 0, 0), fake_predictions(n, 10, 0.02, 0)


@pytest.mark.parametrize(
    ("text", "older"),
    [
        ("top1.decline <= 1%", "1%"),
        ("top1.decline <= 0.5pp", "0.5pp"),
        ("top5.decline <= 1%", "top5 1%"),
        ("agreement >= 96%", "agree>=96%"),
        ("kl <= 0.01", "kl > 0.01"),
    ],
)
def test_an_older_spelling_is_read_and_said_to_be_old(text: str, older: str) -> None:
    comparison = ql.compare(*pair())
    words = f"the spelling {older!r} is deprecated since .*: use {text!r} instead"
    for function in (ql.judge, ql.gate):
        with pytest.warns(FutureWarning, match=words) as caught:
            found = function(comparison, older)
        assert found == function(comparison, text)
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("class.decline <= 50pp", "pass"),
        ("latency.p50.ratio <= 0.6", "inconclusive"),
        ("size <= 4MB", "inconclusive"),
        ("size <= 4kB", "inconclusive"),
    ],
)
def test_the_other_things_that_may_be_limited(text: str, status: str) -> None:
    assert ql.judge(ql.compare(*pair()), text).status == status


@pytest.mark.parametrize(
    "text",
    ["top1.decline >= 1%", "agreement <= 5%", "size <= 4", "top1.decline <= 5", "tpo1 <= 1%", "x"],
)
def test_what_is_no_criterion(text: str) -> None:
    with pytest.raises(ql.RecipeError):
        ql.judge(ql.compare(*pair(50)), text)


def test_a_gate_by_itself_needs_no_run(model: Path, quick: None) -> None:
    comparison = ql.compare(*pair())
    decision = ql.gate(comparison, ["top1.decline <= 5%", "kl <= 0.001, advisory"])
    assert [j.verdict.status for j in decision.judged] == ["pass", "fail"]
    assert ql.gate(comparison).judged[0].rule.text == "top1.decline <= 1%"
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    rules = ["agreement >= 10%", "latency.p50.ratio <= 0.6, required", "size <= 1MB"]
    assert ql.gate((model, int8), rules, images=example_images(), **PIPELINE).status == "pass"
    rules = ["portable", "runtime.agreement >= 50%"]
    found = ql.gate((model, int8), rules, images=example_images(), **PIPELINE)
    assert [judged.verdict.status for judged in found.judged] == ["pass", "pass"]
    with pytest.raises(ql.RecipeError, match="no rule is left"):
        ql.gate(comparison, [])


def test_a_gate_with_a_baseline(model: Path, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from quantlab.cli import main

    images = image_folder(tmp_path / "val", CLASSES, 8)
    words = ["baseline", "update", str(model), "--data", str(images), "--pipeline", "torchvision"]
    assert CliRunner().invoke(main, words).exit_code == 0
    file = Path("quantlab-baseline.yaml")
    same = ql.gate(model, "top1.decline <= 1%", images=images, baseline=file)
    assert (same.status, same.judged[0].verdict.unchanged) == ("pass", True)
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    paired = ql.gate(int8, "agreement >= 1%", images=images, baseline=file)
    assert paired.judged[0].verdict.interval is not None
    with pytest.raises(ql.DataError, match="other images"):
        ql.gate(model, images=image_folder(tmp_path / "new", CLASSES, 3), baseline=file)
    with pytest.raises(ql.DataError, match="the place of fp32"):
        ql.gate([model, int8], images=images, baseline=file)
    file.write_text(re.sub("isa: .*", "isa: other", file.read_text()))
    with pytest.raises(ql.IsaChangeError):
        ql.gate(model, images=images, baseline=file)
    with pytest.warns(ql.QuantlabWarning, match="made with other instructions"):
        ql.gate(model, images=images, baseline=file, allow_isa_change=True)


def test_options_of_evaluation_change_no_answer(model: Path) -> None:
    usual = ql.evaluate(model, example_images(), **PIPELINE)
    shutil.rmtree(cache_dir() / "predictions")
    options: dict[str, Any] = {"batch_size": 4, "split": "1x1", "provider": "cpu"}
    found = ql.evaluate(model, example_images(), **options, **PIPELINE)
    assert np.allclose(found.outputs, usual.outputs, atol=1e-5)
    folded = ql.evaluate(model, example_images(), fold_preprocess=True, **PIPELINE)
    assert np.allclose(folded.outputs, usual.outputs, atol=1e-3)
    assert not np.array_equal(folded.outputs, usual.outputs)
    with pytest.raises(ql.QuantlabError, match="split"):
        ql.evaluate(model, example_images(), split="four", **PIPELINE)


def detector() -> onnx.ModelProto:
    """Of images of any size: classes and, as if it were boxes, an output of three dimensions."""
    proto = with_boxes(example_model().proto())
    for value in (*proto.graph.input, *proto.graph.value_info):
        for side, dim in zip("hw", value.type.tensor_type.shape.dim[2:], strict=False):
            dim.dim_param = side
    del proto.graph.value_info[:]
    return proto


def test_a_size_and_an_output_wherever_models_are_read(quick: None) -> None:
    fp32, images = detector(), example_images()
    with pytest.raises(ql.ModelError, match="not an image classifier") as caught:
        ql.evaluate(fp32, images, **PIPELINE)
    assert "output_name= names the one" in caught.value.remedy
    reading: dict[str, Any] = {"output_name": fp32.graph.output[0].name, "size": (24, 40)}
    given = {**reading, **PIPELINE}
    int8 = ql.quantize(fp32, example_images(seed=1), **given)
    assert (int8.input.sides, int8.num_classes) == ((24, 40), CLASSES)
    answers = [ql.evaluate(each, images, **given) for each in (fp32, int8.path)]
    assert answers[0].outputs.shape == (32, CLASSES)
    assert answers[0].pipeline["crop"] == [24, 40]
    compared = ql.compare(fp32, int8, images, **given)
    assert compared.fidelity == ql.compare(*answers).fidelity
    assert ql.gate((fp32, int8), "agreement >= 10%", images=images, **given).status == "pass"
    tuned = ql.tune(
        fp32, example_images(seed=1), evaluation=images, max_trials=1, timing=False, **given
    )
    assert tuned.model.input.sides == (24, 40)
    timed = ql.bench([fp32, int8], rounds=2, seconds=0.05, **reading)
    assert [len(measured) for measured in timed.measurements] == [1, 1]
    found = ql.inspect(int8, **reading)
    assert found.macs < ql.inspect(int8, **(reading | {"size": "64x48"})).macs
    shown = ql.inspect(fp32, images, view="layers", int8=int8, **given)
    assert shown.images


def test_a_layout_that_is_named(model: Path) -> None:
    with pytest.raises(ql.ModelError, match="as NHWC it has 32 channels") as caught:
        ql.evaluate(model, example_images(), layout="NHWC", **PIPELINE)
    assert caught.value.remedy == "Leave layout= out: it is told by the shape."


def test_labels_that_a_criterion_needs_not_are_left_aside(model: Path) -> None:
    images = (example_images()[0], np.full(32, CLASSES))
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    with pytest.warns(ql.QuantlabWarning, match="Labels are left aside"):
        found = ql.compare(model, int8, images, timing=False, criterion="kl <= 1", **PIPELINE)
    assert found.top1 is None
    with pytest.raises(ql.DataError, match="out of range"):
        ql.compare(model, int8, images, timing=False, **PIPELINE)


def test_more_unreadable_images_may_be_allowed(model: Path, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "val", CLASSES, 2)
    next(folder.rglob("*.*")).write_bytes(b"no image")
    with pytest.raises(ql.DataError, match="1 of 8") as caught:
        ql.evaluate(model, folder, **PIPELINE)
    assert "--" not in str(caught.value)
    with pytest.warns(ql.QuantlabWarning, match="1 images were left out"):
        assert len(ql.evaluate(model, folder, max_bad=0.2, **PIPELINE)) == 7


def test_a_gate_and_a_look_inside_leave_runs_too(
    model: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    runs, images = tmp_path / "runs", example_images()
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    rules = ["agreement >= 10%", "size <= 1MB"]
    decision = ql.gate((model, int8), rules, images=images, run_dir=runs, **PIPELINE)
    ql.inspect(int8, run_dir=runs)
    records = {record.verb: record for record in map(load_record, runs.iterdir())}
    assert records.keys() == {"gate", "inspect"}
    assert records["gate"].results["gate"] == decision.model_dump(mode="json")
    assert {"gate.md", "report.html"} <= {
        file.name for folder in runs.iterdir() for file in folder.iterdir()
    }
    assert not (tmp_path / "summary.md").exists(), "no environment variable is read"
    with pytest.raises(ql.DataError, match="of a comparison there is no run"):
        ql.gate(ql.compare(*pair()), run_dir=runs)


def test_how_the_best_model_is_timed(model: Path, quick: None) -> None:
    result = ql.tune(
        model, example_images(), bench={"batch_sizes": (1, 4)}, max_trials=1, **PIPELINE
    )
    assert [speed.batch_size for speed in result.comparison.speeds] == [1, 4]


def test_early_stop_ends_once_the_criterion_is_certain(model: Path) -> None:
    labelled = example_images(50)
    answers = ql.evaluate(model, labelled, **PIPELINE).top(1)[:, 0]
    data = (labelled[0], answers)
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    options: dict[str, Any] = {"timing": False, "early_stop": True, **PIPELINE}
    stopped = ql.compare(model, int8, data, criterion="agreement >= 5%", **options)
    assert stopped.n < 200
    assert ql.judge(stopped, "agreement >= 5%", anytime=True).status == "pass"
    with pytest.raises(ql.RecipeError):
        ql.compare(model, int8, data, criterion="kl <= 1", **options)


def test_instances_and_an_offered_load(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(load, "LEAST_SECONDS", 0.3)
    monkeypatch.setattr(load, "LEAST_REQUESTS", 1)
    together = ql.bench(model, instances=1, rounds=2, seconds=0.1)
    assert together.measurements[0][0].images_per_second > 0
    loaded = ql.bench(model, rates=[20], rounds=2, seconds=0.3)
    assert [measured.rate for measured in loaded.measurements[0]] == [20]


def test_the_gate_job_by_itself_knows_its_conditions(model: Path, tmp_path: Path) -> None:
    from quantlab.verbs.gate import Gated, GateOptions, gate_named_models

    ql.quantize(model, example_images(seed=1), **PIPELINE).save(tmp_path / "int8.onnx")
    spec = GateOptions(
        models=(str(model), str(tmp_path / "int8.onnx")),
        data=image_folder(tmp_path / "val", CLASSES, 2),
        pipeline="torchvision",
    )
    gated = gate_named_models(spec, NullReporter())
    assert isinstance(gated, Gated)
    assert "(" in gated.context.conditions["CPU"]


def test_progress_and_warnings(model: Path) -> None:
    told = list[tuple[str, int, int, str]]()
    with pytest.warns(ql.QuantlabWarning, match="torchvision is assumed") as caught:
        ql.evaluate(model, example_images(), progress=lambda *step: told.append(step))
    assert caught[0].filename == __file__
    assert told[-1][:3] == ("Evaluating tiny", 32, 32)
    reporter = NullReporter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ql.evaluate(model, example_images(seed=2), progress=reporter)
    assert "torchvision is assumed" in reporter.warnings[0]


def test_the_working_folder_and_the_environment_choose_nothing(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("quantlab.yaml").write_text("pipeline: caffe\ndata: elsewhere\n")
    monkeypatch.setenv("QUANTLAB_DATA", "/nowhere")
    with pytest.warns(ql.QuantlabWarning):
        assert ql.evaluate(model, example_images()).pipeline["name"] == "torchvision"


def test_nothing_is_printed(model: Path, capfd: pytest.CaptureFixture[str], quick: None) -> None:
    result = ql.tune(model, example_images(), max_trials=1, **PIPELINE)
    ql.compare(model, result.model, example_images(seed=1), **PIPELINE)
    assert capfd.readouterr() == ("", "")


WRONG_CALLS: dict[str, tuple[Callable[[Path, Any], Any], str]] = {
    "answers and a model": (
        lambda fp32, int8: ql.compare(*pair(10)[:1], int8, example_images()),
        "cannot be compared with answers",
    ),
    "no images": (lambda fp32, int8: ql.compare(fp32, int8, None), "compared on images"),
    "answers and images": (lambda *_: ql.compare(*pair(10), example_images()), "as they are"),
    "an int8 model": (lambda _, int8: ql.quantize(int8, example_images()), "already quantized"),
    "a size for a tune": (
        lambda fp32, _: ql.tune(fp32, example_images(), criterion="size <= 4MB"),
        "for judge and gate",
    ),
    "a label": (lambda fp32, _: ql.evaluate(fp32, [(np.zeros((9, 9), np.uint8), 9)]), "label"),
    "bytes": (lambda *_: ql.evaluate(b"none", example_images()), "not a readable ONNX file"),
    "one model": (lambda fp32, _: ql.gate([fp32]), "two models"),
    "no data": (lambda *both: ql.gate(both), "judged on images"),
}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The model, and an int8 one made of it, for calls that make nothing."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUANTLAB_CACHE", str(folder / "cache"))
        model = example_file(folder / "tiny.onnx")
        return model, ql.quantize(model, example_images(), **PIPELINE)


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_calls_are_said(case: str, both: tuple[Path, Any]) -> None:
    call, words = WRONG_CALLS[case]
    with pytest.raises(ql.QuantlabError, match=words):
        call(*both)


VIEWS = ["portability", "layers", "sensitivity", "preprocess-audit", "quantization"]


@pytest.mark.parametrize("view", VIEWS)
def test_views(view: Any, model: Path) -> None:
    int8 = ql.quantize(model, example_images(seed=1), **PIPELINE)
    if view == "quantization":
        assert ql.inspect(int8, view=view)
        return
    more = {"int8": int8} if view == "layers" else {}
    subject = int8 if view == "portability" else model
    found = ql.inspect(subject, example_images(), view=view, count=8, **PIPELINE, **more)
    assert found.model_dump(mode="json")
    with pytest.raises(ql.DataError, match="needs images"):
        ql.inspect(subject, view=view, **PIPELINE, **more)


def test_frames() -> None:
    fp32, int8 = pair(100)
    frame = fp32.to_frame()
    assert frame.top1.tolist() == fp32.top(1)[:, 0].tolist()
    assert frame.probability.between(0, 1).all()
    assert fp32.labels is not None
    assert frame.label.tolist() == fp32.labels.tolist()
    comparison = ql.compare(fp32, int8)
    table, change = comparison.to_frame(), comparison.top1
    assert change is not None
    assert table.loc["top-1", "difference"] == pytest.approx(-change.difference)
    assert table.loc["top-1", "high"] == -change.difference_interval.low
    assert table.loc["top-1", "low"] <= table.loc["top-1", "difference"]
    assert np.isnan(table.loc["size", "fp32"])
    classes = comparison.classes_frame()
    assert classes.net_loss.sum() == change.lost - change.gained
    unlabelled = fake_predictions(10, 3, 0, 0, labelled=False).to_frame()
    assert unlabelled.label.isna().all()
    assert list(unlabelled.columns)[2:5] == ["top1", "top2", "top3"]


def test_results_show_themselves_verdict_first_and_in_the_notebooks_colours(
    model: Path, quick: None
) -> None:
    result = ql.tune(model, example_images(), max_trials=1, **PIPELINE)
    comparison = ql.compare(*pair())
    shown = {
        "tune": result._repr_html_(),
        "comparison": comparison._repr_html_(),
        "verdict": ql.judge(comparison)._repr_html_(),
        "decision": ql.gate(comparison)._repr_html_(),
        "predictions": pair()[0]._repr_html_(),
        "bench": ql.bench([model, result.model])._repr_html_(),
    }
    for name in ("tune", "comparison", "verdict", "decision"):
        status = ("PASS", "FAIL", "INCONCLUSIVE")
        assert shown[name].startswith(tuple(f"<div><div><p><strong>{s}" for s in status)) or shown[
            name
        ].startswith(tuple(f"<div><p><strong>{s}" for s in status)), shown[name][:80]
    for page in shown.values():
        assert "#" not in page
        assert "rgb" not in page
        assert len(page) < 10_000


def test_names_from_outside_are_escaped() -> None:
    fp32, int8 = (fake_predictions(50, 4, rate, 0, name="<script>") for rate in (0, 0.1))
    for page in (ql.compare(fp32, int8)._repr_html_(), fp32._repr_html_()):
        assert "<script>" not in page


def test_a_report_of_its_own(tmp_path: Path) -> None:
    comparison = ql.compare(*pair(100))
    html = comparison.report(tmp_path / "report.html", criterion="kl <= 1").read_text()
    assert "KL divergence" in html
    assert "<svg" in html or "image/svg+xml" in html
    assert "# " in comparison.report(tmp_path / "report.md").read_text()
    with pytest.raises(ql.OutputError, match=r"\.html or \.md"):
        comparison.report(tmp_path / "report.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.md", "tmp"]


def test_fetch_from_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ql.QuantlabError, match="mobilenetv2-13"):
        ql.fetch("mobilenetv2-13", from_dir=tmp_path)
