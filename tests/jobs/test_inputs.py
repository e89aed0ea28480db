"""From what the user named to Models, Pipelines and Datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from quantlab.data.preprocess import get_pipeline
from quantlab.errors import ModelError
from quantlab.fetch import catalog
from quantlab.jobs.inputs import (
    DataOptions,
    ModelOptions,
    find_both,
    find_evaluation_data,
    find_model,
    find_pipeline,
    known_pipeline,
    model_facts,
    require_fp32,
    stamped_recipe,
)
from quantlab.model import Model
from quantlab.quantize.stamp import stamp
from quantlab.recipe import Recipe
from quantlab.talk import Silence
from quantlab.testing import image_folder, tiny_classifier

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
    found = find_model(str(model.path), options, Silence())
    assert (found.output_kind, found.layout) == ("probabilities", "NCHW")


@pytest.mark.parametrize("text", ["sub/mobilenetv2-12.onnx", "nothing-known"])
def test_only_plain_known_names_are_fetched(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, **_: object) -> Path:
        raise AssertionError(f"fetched {name}")

    monkeypatch.setattr("quantlab.jobs.inputs.fetch", fetch)
    with pytest.raises(ModelError, match="no such model file"):
        find_model(text, NONE, Silence())


def test_quantized_models_are_refused_with_what_they_hold(tmp_path: Path, model: Model) -> None:
    assert require_fp32(model, "tune") is model
    proto = model.proto()
    proto.graph.node[0].op_type = "QLinearConv"
    (tmp_path / "q.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=r"already quantized \(1 QLinearConv\)"):
        require_fp32(Model.load(tmp_path / "q.onnx"), "tune")


def test_the_pipelines_order(model: Model, tmp_path: Path) -> None:
    """The option, quantlab.yaml, the file's own word, else torchvision, said aloud."""
    talk = Silence()
    own = stamped(model, tmp_path)
    assert find_pipeline(own, NONE, talk).name == "tf"
    assert talk.warnings == []
    Path("quantlab.yaml").write_text("pipeline: lite\n")
    assert find_pipeline(own, NONE, talk).name == "lite"
    assert find_pipeline(own, ModelOptions(pipeline="caffe"), talk).name == "caffe"
    Path("quantlab.yaml").unlink()
    assert find_pipeline(model, NONE, talk).name == "torchvision"
    assert talk.warnings[0].startswith("No pipeline is known for m.onnx")


def test_a_published_file_is_known_by_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog()["mobilenetv2-12"]

    class Published:
        sha256 = entry.promised[0]
        metadata: ClassVar[dict[str, str]] = {}

    assert known_pipeline(Published()) == entry.pipeline  # type: ignore[arg-type]


def test_the_pipeline_fits_the_models_size(model: Model) -> None:
    assert find_pipeline(model, ModelOptions(pipeline="tf"), Silence()).crop == 32


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
    first, second = find_both(options, other, model, Silence())
    assert (len(first.dataset), len(second.dataset)) == (10, 30)
    assert find_evaluation_data(options, model, Silence()).dataset.names[0] == "0/000.png"
