"""From what the user named to Models, Pipelines and Datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from quantlab._util.reporter import NullReporter
from quantlab.data.preprocess import get_pipeline
from quantlab.errors import LabelError, ModelError
from quantlab.fetch import catalog
from quantlab.model.model import Model
from quantlab.quantize.stamp import stamp
from quantlab.recipe import Recipe
from quantlab.testing import image_folder, listed_folder, tiny_classifier
from quantlab.testing.formats import pairs, tar_shard
from quantlab.verbs.inputs import (
    DataOptions,
    ModelOptions,
    find_both_datasets,
    find_calibration_data,
    find_evaluation_data,
    find_model,
    find_pipeline,
    known_pipeline,
    model_facts,
    require_fp32,
    stamped_recipe,
)

NONE = ModelOptions()


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


def stamped(model: Model, folder: Path) -> Model:
    """The same graph, as if quantlab had made it with the tf pipeline."""
    pipeline = json.dumps(get_pipeline("tf").model_dump(mode="json"))
    path = folder / "stamped.onnx"
    path.write_bytes(stamp(model.proto(), model, Recipe(name="mine"), pipeline, []))
    return Model.load(path)


def test_overrides_reach_the_model(model: Model) -> None:
    options = ModelOptions(output_kind="probabilities", layout="NCHW")
    found = find_model(str(model.path), options, NullReporter())
    assert (found.output_kind, found.layout) == ("probabilities", "NCHW")


@pytest.mark.parametrize("text", ["sub/mobilenetv2-12.onnx", "nothing-known"])
def test_only_plain_known_names_are_fetched(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, **_: object) -> Path:
        raise AssertionError(f"fetched {name}")

    monkeypatch.setattr("quantlab.verbs.inputs.fetch", fetch)
    with pytest.raises(ModelError, match="no such model file"):
        find_model(text, NONE, NullReporter())


def test_quantized_models_are_refused_with_what_they_hold(tmp_path: Path, model: Model) -> None:
    assert require_fp32(model, "tune") is model
    proto = model.proto()
    proto.graph.node[0].op_type = "QLinearConv"
    (tmp_path / "q.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"already quantized \(1 QLinearConv\)"):
        require_fp32(Model.load(tmp_path / "q.onnx"), "tune")


def test_the_pipelines_order(model: Model, tmp_path: Path) -> None:
    """The option, quantlab.yaml, the file's own word, else torchvision, said aloud."""
    reporter = NullReporter()
    own = stamped(model, tmp_path)
    assert find_pipeline(own, NONE, reporter).name == "tf"
    assert reporter.warnings == []
    Path("quantlab.yaml").write_text("pipeline: lite\n")
    assert find_pipeline(own, NONE, reporter).name == "lite"
    assert find_pipeline(own, ModelOptions(pipeline="caffe"), reporter).name == "caffe"
    Path("quantlab.yaml").unlink()
    assert find_pipeline(model, NONE, reporter).name == "torchvision"
    assert reporter.warnings[0].startswith("No pipeline is known for m.onnx")


def test_a_published_file_is_known_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog()["mobilenetv2-12"]

    class Published:
        sha256 = entry.promised[0]
        metadata: ClassVar[dict[str, str]] = {}

    assert known_pipeline(Published()) == entry.pipeline  # type: ignore[arg-type]


def test_the_pipeline_fits_the_models_size(model: Model) -> None:
    assert find_pipeline(model, ModelOptions(pipeline="tf"), NullReporter()).crop == 32


def test_the_stamped_recipe(model: Model, tmp_path: Path) -> None:
    assert stamped_recipe(model) == {}
    assert stamped_recipe(stamped(model, tmp_path))["name"] == "mine"


def test_a_models_facts_are_plain_json(model: Model) -> None:
    facts = json.loads(json.dumps(model_facts(model)))
    assert (facts["sha256"], facts["classes"], facts["opset"]) == (model.sha256, 10, 13)
    assert facts["input"]["layout"] == "NCHW"


def test_the_list_of_one_folder_is_not_used_for_the_other(tmp_path: Path, model: Model) -> None:
    calibration = image_folder(tmp_path / "calibration", 10, size=40)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"{i}/000.png {i}\n" for i in range(10)))
    options = DataOptions(data=calibration, list_file=listed)
    other = image_folder(tmp_path / "evaluation", 10, per_class=3, size=40)
    first, second = find_both_datasets(options, other, model, NullReporter())
    assert (len(first.dataset), len(second.dataset)) == (10, 30)
    assert find_evaluation_data(options, model, NullReporter()).dataset.names[0] == "0/000.png"


def misfits(folder: Path) -> dict[str, Path]:
    """Images whose labels are not those of a model of ten classes."""
    negative = listed_folder(folder / "negative", [3, 1, 4])
    (negative / "val.txt").write_text((negative / "val.txt").read_text().replace(" 1\n", " -1\n"))
    shard = folder / "half.tar"
    tar_shard(shard, [member for member in pairs([0, 1, 2, 3]) if member[0] != "d/003.cls"])
    return {
        "class folders": image_folder(folder / "names", ["cat", "dog", "yak"]),
        "wnids": image_folder(folder / "wnids", ["n01440764", "n01443537"]),
        "indices": listed_folder(folder / "listed", [3, 10, 4]),
        "a negative index": negative,
        "some without": shard,
    }


@pytest.mark.parametrize(
    "kind", ["class folders", "wnids", "indices", "a negative index", "some without"]
)
def test_images_whose_labels_do_not_fit_calibrate_unlabelled(
    model: Model, tmp_path: Path, kind: str
) -> None:
    options = DataOptions(data=misfits(tmp_path)[kind])
    reporter = NullReporter()
    found = find_calibration_data(options, model, reporter)
    assert found.dataset.labels is None
    assert found.unfit is not None
    assert len(found.dataset) >= 3
    (warning,) = reporter.warnings
    assert warning.startswith("Labels are left aside, and accuracy cannot be judged: ")
    with pytest.raises(LabelError):
        find_evaluation_data(options, model, NullReporter())
    assert find_evaluation_data(options, model, reporter, need_labels=False).dataset.labels is None


def test_labels_that_fit_stay(model: Model, tmp_path: Path) -> None:
    reporter = NullReporter()
    found = find_calibration_data(DataOptions(data=image_folder(tmp_path, 3)), model, reporter)
    assert found.dataset.labels is not None
    assert (found.unfit, reporter.warnings) == (None, [])


def test_a_tune_refuses_labels_that_do_not_fit_only_where_it_needs_them(
    model: Model, tmp_path: Path
) -> None:
    places = misfits(tmp_path)
    good = image_folder(tmp_path / "good", 10)
    options = DataOptions(data=places["class folders"])
    calibration, evaluation = find_both_datasets(options, good, model, NullReporter())
    assert calibration.dataset.labels is None
    assert evaluation.dataset.labels is not None
    for eval_data in (None, places["wnids"]):
        with pytest.raises(LabelError, match="order does not tell the labels"):
            find_both_datasets(options, eval_data, model, NullReporter())
        both = find_both_datasets(options, eval_data, model, NullReporter(), need_labels=False)
        assert [found.dataset.labels for found in both] == [None, None]
