"""The input vectors that statistics are made of are those that ONNX Runtime's Conv multiplies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from quantlab.quantize.engine.grid import Affine
from quantlab.quantize.engine.moments import input_moments, patches
from quantlab.quantize.engine.net import Layer
from quantlab.runtime.graphs import graph_session

GEOMETRIES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((2, 4, 7, 5), (6, 2, 3, 2), {"pads": [1, 0, 2, 1], "strides": [2, 1], "group": 2}),
    ((2, 4, 7, 9), (4, 1, 2, 3), {"dilations": [3, 2], "group": 4}),
    (
        (2, 4, 5, 6, 7),
        (6, 2, 3, 1, 2),
        {"pads": [1, 0, 2, 0, 1, 0], "strides": [1, 2, 3], "dilations": [1, 1, 2], "group": 2},
    ),
]


@pytest.mark.parametrize(("size", "kernel", "more"), GEOMETRIES, ids=["grouped", "wide", "volume"])
def test_the_vectors_of_a_convolution(
    size: tuple[int, ...], kernel: tuple[int, ...], more: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-9, 9, size).astype(np.float32)
    weight = rng.integers(-9, 9, kernel).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **more)
    given = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape)
        for n, v in (("x", values), ("w", weight))
    ]
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "conv", given, [made])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    expected = graph_session(proto, threads=1).run(None, {"x": values, "w": weight})[0]
    layer = Layer(node, ("x",), ("y",), weight=weight, bias=np.zeros(len(weight), np.float32))
    integers = values.astype(np.int32)
    positions = np.stack([rng.permutation(expected[0, 0].size) for _ in values])
    vectors = patches(layer, integers, positions)
    rows = weight.reshape(layer.groups, len(weight) // layer.groups, -1)
    found = (rows @ vectors).reshape(len(weight), len(values), -1).transpose(1, 0, 2)
    flat = expected.reshape(*expected.shape[:2], -1)
    assert np.array_equal(found, np.take_along_axis(flat, positions[:, None], 2))
    moments = input_moments(layer, [integers], Affine(0.5, 0), rng)
    assert np.allclose((rows @ moments.mean[:, :, None]).ravel(), 0.5 * flat.mean((0, 2)))


@pytest.mark.parametrize(
    ("dtype", "zero"), [("uint8", 0), ("uint8", 131), ("int8", -7), ("uint16", 40000)]
)
@pytest.mark.parametrize("groups", [1, 4])
def test_moments_are_those_of_all_inputs(dtype: str, zero: int, groups: int) -> None:
    """Against NumPy's covariance, over more positions than one exact sum in float32 holds."""
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max, (3, 4, 30, 30), dtype=dtype, endpoint=True)
    weight = np.zeros((4, 4 // groups, 3, 3), np.float32)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, group=groups)
    layer = Layer(node, ("x",), ("y",), weight=weight, bias=np.zeros(4, np.float32))
    moments = input_moments(layer, [values], Affine(0.25, zero), rng)
    padded = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=zero)
    real = (padded.astype(np.float64) - zero) * 0.25
    windows = np.lib.stride_tricks.sliding_window_view(real, (3, 3), axis=(2, 3))
    vectors = windows.transpose(1, 4, 5, 0, 2, 3).reshape(groups, 36 // groups, -1)
    assert np.allclose(moments.mean, vectors.mean(2))
    assert np.allclose(moments.zeros, (vectors == 0).all(1).mean(1))
    expected = [np.cov(v, bias=True) for v in vectors]
    assert np.allclose(moments.covariance, expected, rtol=1e-9, atol=1e-6)
