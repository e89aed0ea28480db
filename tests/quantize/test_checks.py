"""What engines refuse before they start."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantlab.errors import QuantizeError
from quantlab.model.model import Model
from quantlab.quantize.checks import (
    activation_bytes,
    check_loads,
    check_recipe,
    classifier_node,
    fp32_nodes,
)
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe
from quantlab.testing import tiny_classifier

ALLOWED = {"ranges": ("minmax",), "smooth": ()}


def test_what_an_engine_knows_passes() -> None:
    check_recipe(Recipe(engine="x", ranges="minmax", smooth=0.5), "x", ALLOWED)


def test_what_it_does_not_know_is_listed_with_what_it_does() -> None:
    recipe = Recipe(engine="x", ranges="mse", equalize=True)
    with pytest.raises(QuantizeError) as caught:
        check_recipe(recipe, "x", ALLOWED)
    assert caught.value.problem == (
        "the x engine cannot do equalize: true, ranges: mse (recipe default)."
    )
    assert caught.value.remedy == "Use engine: quantlab, or equalize: false; ranges: minmax."


@pytest.mark.parametrize("softmax", [True, False])
def test_the_classifier_is_found_behind_a_softmax(tmp_path: Path, softmax: bool) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx", softmax=softmax))
    prepared = prepare(model.proto())
    name = "logits" if softmax else "output"
    assert classifier_node(prepared) == name
    assert fp32_nodes(prepared, Recipe(exclude=("stem",))) == ["stem", name]
    assert fp32_nodes(prepared, Recipe(fp32_output=False)) == []


def test_activation_bytes_count_every_tensor_once(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx", batch=1, residual=False))
    maps, pooled = 5 * 16 * 16 * 16, 2 * 16
    assert activation_bytes(prepare(model.proto())) == 4 * (maps + pooled)


def test_a_file_that_onnx_runtime_cannot_load_is_refused() -> None:
    with pytest.raises(QuantizeError, match="somebody made a broken file") as caught:
        check_loads(b"no model", "somebody")
    assert caught.value.remedy
