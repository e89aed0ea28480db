"""Layers read from graphs: their answers are ONNX Runtime's own, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.inspect.kernels import tensor_types
from quantlab.inspect.pair_layers import PairLayer, read_layer, without_saturation
from quantlab.inspect.pairs import exact_sums, risks
from quantlab.runtime.session import create_session

CONVS: list[dict[str, Any]] = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"pads": [2, 0, 1, 1], "strides": [2, 1]},
    {"dilations": [2, 2], "pads": [2, 2, 2, 2]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"group": 2, "pads": [1, 1, 1, 1]},
]


def model(
    op: str,
    weight: NDArray[np.generic],
    shape: tuple[int, ...],
    *,
    bias: bool = True,
    x_type: int = TensorProto.UINT8,
    **attributes: Any,
) -> onnx.ModelProto:
    """One quantized layer, ``x`` → ``y``, with per-channel scales."""
    out = weight.shape[0] if op == "QLinearConv" else weight.shape[1]
    kind = helper.tensor_dtype_to_np_dtype(x_type)
    rng = np.random.default_rng(1)
    values: dict[str, NDArray[np.generic]] = {
        "xs": np.array(0.02, np.float32),
        "xz": np.array(7, kind),
        "w": weight,
        "ws": rng.uniform(0.001, 0.01, out).astype(np.float32),
        "wz": np.zeros(out, weight.dtype),
        "ys": np.array(0.5, np.float32),
        "yz": np.array(100, kind),
        "b": rng.integers(-3000, 3000, out).astype(np.int32),
    }
    reads = {
        "QLinearConv": ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b" if bias else ""],
        "QLinearMatMul": ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"],
        "QGemm": ["x", "xs", "xz", "w", "ws", "wz", "b" if bias else "", "ys", "yz"],
        "QGemm to float": ["x", "xs", "xz", "w", "ws", "wz", "b"],
        "MatMulIntegerToFloat": ["x", "w", "xs", "ws", "xz", "wz"],
    }[op]
    makes_float = "loat" in op
    op_type = op.split(" ")[0]
    domain = "com.microsoft" if op_type in ("QGemm", "MatMulIntegerToFloat") else ""
    node = helper.make_node(op_type, reads, ["y"], name="layer", domain=domain, **attributes)
    end = TensorProto.FLOAT if makes_float else x_type
    graph = helper.make_graph(
        [node],
        "one layer",
        [helper.make_tensor_value_info("x", x_type, shape)],
        [helper.make_tensor_value_info("y", end, None)],
        [numpy_helper.from_array(values[n], n) for n in reads if n in values],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def read(proto: onnx.ModelProto) -> PairLayer | None:
    constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
    return read_layer(proto.graph.node[0], constants, tensor_types(proto.graph))


def run(proto: onnx.ModelProto, x: NDArray[np.generic]) -> NDArray[Any]:
    session = create_session(proto.SerializeToString(), threads=1)
    return np.asarray(session.run(None, {"x": x})[0])


def safe_answer(proto: onnx.ModelProto, layer: PairLayer, x: NDArray[np.uint8]) -> NDArray[Any]:
    """ONNX Runtime's answer that no CPU saturates."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    without_saturation(copy.graph, [layer])
    return run(copy, x)


def own_answer(layer: PairLayer, x: NDArray[np.uint8], *, saturate: bool) -> NDArray[Any]:
    """Every output computed here, [positions, out], by plain sums of pairs."""
    parts = []
    for group, rows in enumerate(layer.rows(x)):
        weight = layer.weight[group]
        positions, outputs = (a.reshape(-1) for a in np.indices((len(rows), weight.shape[1])))
        sums, taken = exact_sums(rows, weight, positions, outputs)
        if saturate:
            odd = rows.shape[1] % 2
            even = np.pad(rows, ((0, 0), (0, odd))).astype(np.int64)
            w = np.pad(weight, ((0, odd), (0, 0))).astype(np.int64)
            pairs = even[:, 0::2, None] * w[None, 0::2] + even[:, 1::2, None] * w[None, 1::2]
            sums = np.clip(pairs, -32768, 32767).sum(axis=1).reshape(-1).astype(np.float64)
        found = layer.answers(sums, taken, group, outputs)
        parts.append(found.reshape(len(rows), weight.shape[1]))
    return np.concatenate(parts, axis=1)


def positions_first(answer: NDArray[Any]) -> NDArray[Any]:
    if answer.ndim == 4:
        answer = answer.transpose(0, 2, 3, 1)
    return answer.reshape(-1, answer.shape[-1])


def extreme(*shape: int, seed: int = 0) -> NDArray[np.int8]:
    """Weights of which many pairs saturate."""
    rng = np.random.default_rng(seed)
    return (rng.choice([-128, -100, 3, 90, 127], shape)).astype(np.int8)


def check(proto: onnx.ModelProto, x: NDArray[np.uint8]) -> None:
    layer = read(proto)
    assert layer is not None
    exact = safe_answer(proto, layer, x)
    assert np.array_equal(own_answer(layer, x, saturate=False), positions_first(exact))
    found = layer.saturate(x, exact, [risks(weight) for weight in layer.weight])
    assert found.answer.shape == exact.shape
    assert found.answer.dtype == exact.dtype
    assert np.array_equal(own_answer(layer, x, saturate=True), positions_first(found.answer))
    assert found.count > 0
    rows = layer.rows(x)
    assert found.pair_sums == exact.size * ((rows.shape[2] + 1) // 2)


@pytest.mark.parametrize("attributes", CONVS, ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(attributes: dict[str, Any], bias: bool) -> None:
    channels = 6 // attributes.get("group", 1)
    proto = model("QLinearConv", extreme(8, channels, 3, 3), (2, 6, 9, 7), bias=bias, **attributes)
    x = np.random.default_rng(2).integers(0, 256, (2, 6, 9, 7), np.uint8)
    check(proto, x)


@pytest.mark.parametrize("op", ["QLinearMatMul", "QGemm", "QGemm to float", "MatMulIntegerToFloat"])
def test_products_of_matrices(op: str) -> None:
    check(
        model(op, extreme(21, 8), (3, 21)),
        np.random.default_rng(2).integers(0, 256, (3, 21), np.uint8),
    )


def test_channels_are_the_neighbours() -> None:
    """In a 1×2 kernel, input channels pair, not kernel columns."""
    weight = np.zeros((1, 2, 1, 2), np.int8)
    weight[0, :, 0, 0] = 127
    assert len(risks(_read_conv(weight).weight[0])) == 1
    weight[:] = 0
    weight[0, 0, 0, :] = 127
    assert len(risks(_read_conv(weight).weight[0])) == 0


def _read_conv(weight: NDArray[np.int8]) -> PairLayer:
    layer = read(model("QLinearConv", weight, (1, weight.shape[1], 4, 4)))
    assert layer is not None
    return layer


def test_what_is_no_sum_of_pairs() -> None:
    depthwise = model("QLinearConv", extreme(6, 1, 3, 3), (1, 6, 5, 5), group=6)
    unsigned = model("QLinearConv", extreme(4, 6, 3, 3).view(np.uint8), (1, 6, 5, 5))
    signed = model("QLinearConv", extreme(4, 6, 3, 3), (1, 6, 5, 5), x_type=TensorProto.INT8)
    transposed = model("QGemm", extreme(6, 4), (6, 3), transA=1)
    assert [read(p) for p in (depthwise, unsigned, signed, transposed)] == [None] * 4


def test_a_convolution_of_one_channel_is_no_depthwise_one() -> None:
    assert read(model("QLinearConv", extreme(8, 1, 3, 3), (1, 1, 5, 5))) is not None
