"""Dynamic activation ranges: products on integers, by the range of each batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nets import SIZE, Images, executed, floats, network, node, quantize, sqnr
from onnx import helper, numpy_helper

from quantlab.errors import QuantizeError
from quantlab.inspect.counts import node_macs, product_share
from quantlab.inspect.int8_share import int8_share
from quantlab.model.model import Model
from quantlab.recipe import Recipe

PAIRS = 128


@pytest.fixture
def model(tmp_path: Path) -> Model:
    """A block of a mixer behind a convolution: products of the channels at each position."""
    middle = [
        node("Reshape", "a flat", "rows"),
        node("Transpose", "rows", "tokens", perm=[0, 2, 1]),
        node("LayerNormalization", "tokens gain shift", "normal", axis=-1),
        node("MatMul", "normal up", "wide"),
        node("Add", "wide more", "shifted"),
        node("Relu", "shifted", "active"),
        node("MatMul", "active down", "narrow"),
        node("Add", "narrow tokens", "sum"),
        node("Transpose", "sum", "back", perm=[0, 2, 1]),
        node("Reshape", "back image", "m"),
    ]
    more = {
        "flat": np.array([0, 8, SIZE * SIZE]),
        "image": np.array([0, 8, SIZE, SIZE]),
        "gain": np.linspace(0.5, 2, 8, dtype=np.float32),
        "shift": floats(8, 1)[:, 0],
        "up": floats(8, 32, seed=3),
        "more": floats(32, 1, seed=4)[:, 0],
        "down": floats(32, 8, seed=5),
    }
    return network(tmp_path, middle, more)


def quantized(model: Model, **recipe: Any) -> Any:
    return quantize(model, activations="dynamic", **recipe)


def test_every_product_with_weights_is_one_integer_kernel(model: Model, tmp_path: Path) -> None:
    found = executed(quantized(model), tmp_path)
    assert found["DynamicQuantizeMatMul"] == 3
    assert not found["MatMul"] + found["Gemm"] + found["MatMulInteger"]
    assert found["Conv"] + found["FusedConv"] + found["NhwcFusedConv"] >= 2


def test_it_is_near_fp32_also_far_beyond_the_calibration_images(model: Model) -> None:
    proto = quantized(model)
    images = Images(8).array
    assert sqnr(model, proto, images) > 35
    assert sqnr(model, proto, images * 100) > 30
    assert sqnr(model, quantize(model), images * 100) < 20


def test_corrections_of_weights_apply(model: Model) -> None:
    plain = {"rounding": "nearest", "bias_correction": False, "equalize": False}
    fitted = sqnr(model, quantized(model, portable=False))
    assert fitted > sqnr(model, quantized(model, portable=False, **plain))


@pytest.mark.parametrize("recipe", [{}, {"weights": "u8"}, {"reduce_range": True}])
def test_types(model: Model, recipe: dict[str, Any]) -> None:
    assert sqnr(model, quantized(model, **recipe)) > 30


def test_no_pair_of_weights_can_overflow(model: Model) -> None:
    proto = quantized(model)
    tensors = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    products = [n for n in proto.graph.node if n.op_type == "MatMulInteger"]
    assert len(products) == 3
    for product in products:
        weight = tensors[product.input[1]].astype(int)
        for part in (np.maximum(weight, 0), np.minimum(weight, 0)):
            assert np.abs(part[::2] + part[1::2]).max() <= PAIRS


def test_what_is_excluded_stays_in_fp32(model: Model, tmp_path: Path) -> None:
    found = executed(quantized(model, exclude=("wide",)), tmp_path)
    assert found["DynamicQuantizeMatMul"] == 2


def test_its_share_of_the_macs_is_counted(model: Model) -> None:
    proto = quantized(model)
    share = int8_share(proto.graph, node_macs(proto, model.input)).int8
    assert share == pytest.approx(product_share(model.proto(), model.input), abs=0.02)


def test_a_model_without_products_says_so(tmp_path: Path) -> None:
    nodes = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "p")]
    nodes.append(node("Flatten", "p", "y"))
    given = helper.make_tensor_value_info("x", 1, ["N", 3, SIZE, SIZE])
    made = helper.make_tensor_value_info("y", 1, ["N", 10])
    weights = [numpy_helper.from_array(floats(10, 3, 3, 3), "w")]
    graph = helper.make_graph(nodes, "g", [given], [made], weights)
    opsets = [helper.make_opsetid("", 17)]
    path = tmp_path / "convs.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()
    )
    with pytest.raises(QuantizeError, match="nothing to quantize"):
        quantized(Model.load(path))


@pytest.mark.parametrize(
    "more", [{"engine": "ort"}, {"weights": "s4"}, {"range_search": True}, {"format": "qoperator"}]
)
def test_what_does_not_go_with_it_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"dynamic|qoperator"):
        Recipe(activations="dynamic", **more)
