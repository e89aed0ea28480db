"""What a quantized file says of itself."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from quantlab.model.model import Model
from quantlab.quantize.stamp import (
    IMAGES_KEY,
    PIPELINE_KEY,
    RECIPE_KEY,
    SOURCE_KEY,
    calibrated_on,
    stamp,
)
from quantlab.recipe import Recipe
from quantlab.testing import tiny_classifier

APART = [f"{i:x}" * 64 for i in range(1, 5)]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


def stamped(model: Model, digests: list[str], recipe: Recipe | None = None) -> bytes:
    return stamp(model.proto(), model, recipe or Recipe(), "{}", digests)


def test_the_facts_can_be_read_back(model: Model, tmp_path: Path) -> None:
    recipe = Recipe(name="mine", seed=7)
    (tmp_path / "int8.onnx").write_bytes(stamped(model, APART, recipe))
    facts = Model.load(tmp_path / "int8.onnx").metadata
    assert facts[SOURCE_KEY] == model.sha256
    assert Recipe.model_validate_json(facts[RECIPE_KEY]) == recipe
    assert facts[PIPELINE_KEY] == "{}"
    assert len(facts[IMAGES_KEY].split()) == len(APART)


def test_the_same_input_gives_the_same_bytes(model: Model) -> None:
    assert stamped(model, APART) == stamped(model, APART[::-1])
    assert stamped(model, APART) != stamped(model, APART[:2])


def test_what_another_tool_wrote_is_gone(model: Model) -> None:
    proto = model.proto()
    proto.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    proto.producer_version = "9.9"
    content = stamp(proto, model, Recipe(), "{}", APART)
    assert content == stamped(model, APART)
    assert onnx.load_from_string(content).producer_name == "quantlab"


def test_calibration_images_are_known_again(model: Model) -> None:
    content = stamped(model, APART[:2])
    facts = {p.key: p.value for p in onnx.load_from_string(content).metadata_props}
    assert calibrated_on(facts, APART) == 2
    assert calibrated_on(facts, APART[2:]) == 0
    assert calibrated_on(facts, []) == 0
    assert calibrated_on({}, APART) == 0
    assert calibrated_on({}, [""]) == 0
