"""What the nncf engine asks of NNCF; NNCF itself runs where its package is installed."""

from __future__ import annotations

import importlib.util
import os
import sys
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


STANDING_IN = '''
"""What quantlab calls of NNCF, for OpenVINO: every convolution reads through a quantizer."""
import json
from enum import Enum
from types import SimpleNamespace

import numpy as np

QuantizationPreset = SimpleNamespace(MIXED="mixed")
IgnoredScope = SimpleNamespace


class Dataset(list):
    pass


def quantize(model, images, **options):
    import openvino.opset13 as ops

    assert all(feed["input"].shape[1:] == (3, 32, 32) for feed in images)
    excluded = set(options["ignored_scope"].names)
    for node in model.get_ordered_ops():
        if "Convolution" in node.get_type_name() and node.get_friendly_name() not in excluded:
            low, high = (ops.constant(np.float32(x)) for x in (-9, 9))
            source = node.input(0).get_source_output()
            node.input(0).replace_source_output(
                ops.fake_quantize(source, low, high, low, high, 256).output(0)
            )
    return model
'''
PARTS = {
    "__init__.py": STANDING_IN,
    "quantization/__init__.py": "",
    "quantization/advanced_parameters.py": """
from types import SimpleNamespace
AdvancedQuantizationParameters = QuantizationParameters = SimpleNamespace
OverflowFix = SimpleNamespace(ENABLE=1, DISABLE=0)
""",
    "quantization/range_estimator.py": """
from types import SimpleNamespace
RangeEstimatorParameters = SimpleNamespace
RangeEstimatorParametersSet = SimpleNamespace(MINMAX=1)
""",
}


@pytest.fixture
def standing_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package in NNCF's place, for the child alone; OpenVINO is real."""
    for name, text in PARTS.items():
        path = tmp_path / "packages" / "nncf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))
    monkeypatch.setenv(PEER.variable, sys.executable)


def made_ir(model: Model, recipe: Recipe) -> Model:
    contents = NncfEngine().quantize_ir(model, recipe, IMAGES, {"quantlab.recipe": "{}"})
    return Model.of_ir(contents, name="int8")


@pytest.mark.usefixtures("standing_in")
def test_openvino_s_graph_is_quantized_and_stamped(model: Model) -> None:
    made = made_ir(model, Recipe(engine="nncf"))
    assert (made.is_quantized, made.runtime, made.title) == (True, "openvino", "int8")
    assert made.metadata["quantlab.recipe"] == "{}"
    convolutions = made.op_census["Convolution"] + made.op_census["GroupConvolution"]
    assert made.op_census["FakeQuantize"] == convolutions
    assert made_ir(model, Recipe(engine="nncf")).sha256 == made.sha256


@pytest.mark.usefixtures("standing_in")
def test_excluded_nodes_are_left_out_and_all_of_them_is_an_error(model: Model) -> None:
    names = tuple(n.name for n in model.proto().graph.node if n.op_type == "Conv")
    some = made_ir(model, Recipe(engine="nncf", exclude=names[:1]))
    every = made_ir(model, Recipe(engine="nncf"))
    assert some.op_census["FakeQuantize"] == every.op_census["FakeQuantize"] - 1
    with pytest.raises(QuantizeError, match="left every node in fp32"):
        made_ir(model, Recipe(engine="nncf", exclude=names))


@pytest.mark.usefixtures("standing_in")
def test_a_python_without_openvino_is_told_what_to_install(model: Model, tmp_path: Path) -> None:
    (tmp_path / "packages" / "openvino.py").write_text("raise ImportError(name='openvino')")
    with pytest.raises(QuantizeError, match="NNCF cannot be imported") as caught:
        made_ir(model, Recipe(engine="nncf"))
    assert "pip install 'quantlab[nncf,openvino]'" in caught.value.remedy


def test_nncf_itself_makes_ir_or_the_extra_is_named(model: Model) -> None:
    recipe = Recipe(engine="nncf", bias_correction=True)
    if not HERE:
        with pytest.raises(MissingExtraError, match=r"pip install 'quantlab\[nncf\]'"):
            made_ir(model, recipe)
        return
    assert made_ir(model, recipe).is_quantized
