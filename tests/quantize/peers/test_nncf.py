"""What the nncf engine asks of NNCF; NNCF itself runs where its package is installed."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from quantlab.errors import MissingExtraError, QuantizeError
from quantlab.model.model import Model
from quantlab.quantize.peers.nncf import PEER, NncfEngine
from quantlab.recipe import Recipe
from quantlab.testing import tiny_classifier

IMAGES = [np.random.default_rng(1).standard_normal((6, 3, 32, 32)).astype(np.float32)]
HERE = importlib.util.find_spec("nncf") is not None or PEER.variable in os.environ


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


def test_recipes_beyond_it_are_refused_at_once(model: Model) -> None:
    recipe = Recipe(engine="nncf", ranges="entropy", format="qoperator")
    with pytest.raises(QuantizeError, match="format: qoperator"):
        NncfEngine(python="not started").quantize(model, recipe, IMAGES)


@pytest.mark.parametrize("accurate", [True, False])
def test_a_tiny_model_is_quantized_or_the_extra_is_named(model: Model, accurate: bool) -> None:
    recipe = Recipe(engine="nncf", bias_correction=True)
    if not HERE:
        with pytest.raises(MissingExtraError, match=r"pip install 'quantlab\[nncf\]'"):
            NncfEngine(accurate=accurate).quantize(model, recipe, IMAGES)
        return
    made = NncfEngine(accurate=accurate).quantize(model, recipe, IMAGES)
    assert any(node.op_type == "QuantizeLinear" for node in made.graph.node)
