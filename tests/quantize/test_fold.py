"""What is folded into convolutions, Gemms and pools: the answers stay, ONNX Runtime judges."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.quantize.fold import fold_factors_ahead
from quantlab.quantize.prepare import prepare

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 4, 9, 9)).astype(np.float32)
Arrays = dict[str, NDArray[np.generic]]


def floats(*shape: int) -> NDArray[np.float32]:
    return np.asarray(RNG.standard_normal(shape) + 0.1, np.float32)


def node(op: str, reads: str, makes: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, reads.split(), makes.split(), **attributes)


def model(nodes: list[onnx.NodeProto], weights: Arrays, rank: int = 4) -> onnx.ModelProto:
    size: list[int | str] = ["N", *IMAGES.shape[1:]]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, size)
    free: list[str | None] = ["N", *([None] * (rank - 1))]
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, free)
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def ops(proto: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in proto.graph.node)


def prepared(nodes: list[onnx.NodeProto], weights: Arrays, rank: int = 4) -> Counter[str]:
    """The prepared model's operators; its answers are the original's."""
    before = model(nodes, weights, rank)
    after = prepare(before)
    same_answers(before, after)
    return ops(after)


def same_answers(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    sessions = [ort.InferenceSession(p.SerializeToString()) for p in (before, after)]
    expected, found = (session.run(None, {"x": IMAGES})[0] for session in sessions)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


AFTER = {
    "bias": ([("Add", "c k", "y")], (6, 1, 1)),
    "bias first": ([("Add", "k c", "y")], (1, 6, 1, 1)),
    "one number": ([("Mul", "c k", "y")], ()),
    "one in a row": ([("Add", "c k", "y")], (1,)),
    "scale": ([("Mul", "k c", "y")], (6, 1, 1)),
    "less": ([("Sub", "c k", "y")], (6, 1, 1)),
    "from": ([("Sub", "k c", "y")], (6, 1, 1)),
    "share": ([("Div", "c k", "y")], (6, 1, 1)),
    "scale and bias": ([("Mul", "c k", "d"), ("Add", "d k", "y")], (1, 6, 1, 1)),
}


@pytest.mark.parametrize("bias", ["", " b"], ids=["without bias", "with bias"])
@pytest.mark.parametrize("name", AFTER)
def test_a_constant_for_each_channel_is_folded_into_a_conv(name: str, bias: str) -> None:
    after, shape = AFTER[name]
    weights: Arrays = {"W": floats(6, 4, 3, 3), "b": floats(6), "k": floats(*shape)}
    nodes = [node("Conv", f"x W{bias}", "c"), *(node(*each) for each in after)]
    assert prepared(nodes, weights) == {"Conv": 1}


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_it_is_folded_into_a_transposed_convolution(groups: int) -> None:
    weights: Arrays = {
        "W": floats(4, 8 // groups, 3, 3),
        "k": floats(8, 1, 1),
        "s": floats(8, 1, 1),
    }
    nodes = [
        node("ConvTranspose", "x W", "c", group=groups),
        node("Mul", "c k", "d"),
        node("Add", "d s", "y"),
    ]
    assert prepared(nodes, weights) == {"ConvTranspose": 1}


@pytest.mark.parametrize("transposed", [0, 1])
def test_it_is_folded_into_a_gemm(transposed: int) -> None:
    shape = (5, 324) if transposed else (324, 5)
    weights: Arrays = {"W": floats(*shape), "b": floats(5), "k": floats(5), "s": floats(1, 5)}
    nodes = [
        node("Flatten", "x", "f"),
        node("Gemm", "f W b", "c", transB=transposed),
        node("Mul", "c k", "d"),
        node("Add", "s d", "y"),
    ]
    assert prepared(nodes, weights, 2) == {"Flatten": 1, "Gemm": 1}


OTHERS = {
    "a number for each column": ("Add", "c k", (1, 1, 1, 7)),
    "an image": ("Add", "c k", (6, 7, 7)),
    "a number for each image": ("Mul", "c k", (2, 1, 1, 1)),
    "a division by it": ("Div", "k c", (6, 1, 1)),
    "more dimensions": ("Add", "c k", (1, 1, 6, 1, 1)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_constants_stay(name: str) -> None:
    op, reads, shape = OTHERS[name]
    nodes = [node("Conv", "x W", "c"), node(op, reads, "y")]
    found = prepared(nodes, {"W": floats(6, 4, 3, 3), "k": floats(*shape)}, max(4, len(shape)))
    assert found == {"Conv": 1, op: 1}


def test_a_division_by_zero_stays() -> None:
    before = model(
        [node("Conv", "x W", "c"), node("Div", "c k", "y")],
        {"W": floats(6, 4, 3, 3), "k": np.zeros((6, 1, 1), np.float32)},
    )
    assert ops(prepare(before)) == {"Conv": 1, "Div": 1}


def test_a_conv_with_another_reader_keeps_its_weights() -> None:
    nodes = [node("Conv", "x W", "c"), node("Add", "c k", "d"), node("Sub", "d c", "y")]
    weights: Arrays = {"W": floats(6, 4, 3, 3), "k": floats(6, 1, 1)}
    assert prepared(nodes, weights) == {"Conv": 1, "Add": 1, "Sub": 1}


@pytest.mark.parametrize("bias", [" b", ""], ids=["bias", "no bias"])
def test_factors_and_turns_of_a_gemm(bias: str) -> None:
    nodes = [
        *(node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f")),
        node("Transpose", "f", "t", perm=[1, 0]),
        node("Gemm", f"t w{bias}", "y", alpha=0.5, beta=3.0, transA=1),
    ]
    before = model(nodes, {"w": floats(4, 5), "b": floats(5)}, rank=2)
    after = prepare(before)
    same_answers(before, after)
    (gemm,) = (n for n in after.graph.node if n.op_type == "Gemm")
    assert not gemm.attribute


@pytest.mark.parametrize("given", ["x s b", "x s"], ids=["shift", "no shift"])
def test_constants_behind_a_normalization(given: str) -> None:
    nodes = [
        *(node("LayerNormalization", given, "l"), node("Mul", "k l", "m"), node("Sub", "m k", "d")),
        node("Div", "d two", "y"),
    ]
    weights = {"s": floats(9), "b": floats(9), "k": floats(9), "two": np.float32([2])}
    assert prepared(nodes, weights) == {"LayerNormalization": 1}


@pytest.mark.parametrize("shape", [(4, 1, 1), (9, 1), (2, 4, 9, 9)])
def test_other_constants_behind_a_normalization_stay(shape: tuple[int, ...]) -> None:
    nodes = [node("LayerNormalization", "x s", "l"), node("Mul", "l k", "y")]
    assert prepared(nodes, {"s": floats(9), "k": floats(*shape)})["Mul"] == 1


def factored(nodes: list[onnx.NodeProto], weights: Arrays) -> Counter[str]:
    before = model(nodes, weights, rank=4)
    after = prepare(before)
    fold_factors_ahead(after.graph)
    same_answers(before, after)
    return ops(after)


def test_a_number_that_layers_read_becomes_part_of_them() -> None:
    nodes = [
        *(node("Relu", "x", "r"), node("Mul", "two r", "m"), node("Div", "m five", "d")),
        *(node("Conv", "d w", "c"), node("MatMul", "d v", "e"), node("Add", "c e", "y")),
    ]
    weights = {"two": np.float32(2), "five": np.float32([5])}
    weights |= {"w": floats(4, 4, 1, 1), "v": floats(9, 9)}
    assert factored(nodes, weights) == {"Relu": 1, "Conv": 1, "MatMul": 1, "Add": 1}


@pytest.mark.parametrize("read", ["Add", "MatMul", "Sub"])
def test_a_number_that_others_read_stays(read: str) -> None:
    nodes = [node("Relu", "x", "r"), node("Mul", "two r", "m"), node("Conv", "m w", "c")]
    nodes.append(node(read, "c m", "y"))
    assert factored(nodes, {"two": np.float32(2), "w": floats(4, 4, 1, 1)})["Mul"] == 1


def branch(groups: int, *kernel: int, **attributes: object) -> tuple[onnx.NodeProto, Arrays]:
    made = node("Conv", "x p b", "c", group=groups, **attributes)
    return made, {"p": floats(4, 4 // groups, *kernel), "b": floats(4)}


BRANCHES: dict[str, tuple[onnx.NodeProto, Arrays]] = {
    "a point": branch(2, 1, 1),
    "a point of each channel": branch(4, 1, 1),
    "a row": branch(2, 1, 3, pads=[0, 1, 0, 1]),
    "a window to one side": branch(2, 2, 2, pads=[1, 0, 0, 1]),
    "a normalization": (
        node("BatchNormalization", "x s b m v", "c"),
        {"s": floats(4), "b": floats(4), "m": floats(4), "v": np.abs(floats(4)) + 0.5},
    ),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", BRANCHES)
def test_branches_of_one_tensor_become_one_convolution(name: str, groups: int) -> None:
    made, weights = BRANCHES[name]
    others = [node("Conv", "x w", "d", pads=[1] * 4, group=groups), node("Add", "c d", "y")]
    found = prepared([made, *others], weights | {"w": floats(4, 4 // groups, 3, 3)})
    assert found == {"Conv": 1}


@pytest.mark.parametrize(
    "other",
    [
        node("Conv", "x p", "c", strides=[1, 1], dilations=[2, 2], pads=[2] * 4),
        node("Conv", "r p", "c", pads=[1] * 4),
        node("Identity", "x", "c"),
    ],
    ids=["further apart", "of another tensor", "none"],
)
def test_other_branches_stay(other: onnx.NodeProto) -> None:
    nodes = [
        *(node("Relu", "x", "r"), node("Conv", "x w", "d", pads=[1] * 4), other),
        *(node("Add", "c d", "e"), node("Add", "e r", "y")),
    ]
    found = prepared(nodes, {"w": floats(4, 4, 3, 3), "p": floats(4, 4, 3, 3)})
    assert found["Add"] == 2


def padding(*around: int, value: float | None = 0.0) -> Arrays:
    top, left, bottom, right = around
    found: Arrays = {"p": np.array([0, 0, top, left, 0, 0, bottom, right])}
    return found if value is None else {**found, "v": np.asarray(value, np.float32)}


@pytest.mark.parametrize("reads", ["x p", "x p v"])
def test_a_pad_becomes_the_convs_own(reads: str) -> None:
    nodes = [node("Pad", reads, "a"), node("Conv", "a W", "y", pads=[0, 1, 1, 0], strides=[2, 2])]
    weights = {**padding(1, 0, 2, 3), "W": floats(6, 4, 3, 3)}
    assert prepared(nodes, weights) == {"Conv": 1}


def test_a_pad_of_named_axes() -> None:
    proto = model(
        [node("Pad", "x p v axes", "a"), node("Conv", "a W", "y")],
        {
            "p": np.array([2, 1, 0, 3]),
            "v": np.zeros((), np.float32),
            "axes": np.array([3, 2]),
            "W": floats(6, 4, 3, 3),
        },
    )
    proto.opset_import[0].version = 18
    after = prepare(proto)
    same_answers(proto, after)
    assert ops(after) == {"Conv": 1}


@pytest.mark.parametrize("axis", [2, 3])
def test_a_pad_of_one_axis(axis: int) -> None:
    proto = model(
        [node("Pad", "x p v axes", "a"), node("Conv", "a W", "y")],
        {
            "p": np.array([2, 1]),
            "v": np.zeros((), np.float32),
            "axes": np.array([axis]),
            "W": floats(6, 4, 3, 3),
        },
    )
    proto.opset_import[0].version = 18
    after = prepare(proto)
    same_answers(proto, after)
    assert ops(after) == {"Conv": 1}


def test_two_convs_and_an_average_take_the_same_pad_in() -> None:
    nodes = [
        node("Pad", "x p v", "a"),
        node("Conv", "a W", "b"),
        node("Conv", "a W", "c"),
        node("AveragePool", "a", "d", kernel_shape=[3, 3], strides=[1, 1]),
        node("Add", "b c", "e"),
        node("Concat", "e d", "y", axis=1),
    ]
    weights = {**padding(1, 1, 1, 1), "W": floats(6, 4, 3, 3)}
    assert prepared(nodes, weights)["Pad"] == 0


@pytest.mark.parametrize("positive", [True, False])
def test_a_largest_value_takes_zeros_in_where_nothing_is_negative(positive: bool) -> None:
    first = node("Relu", "x", "r") if positive else node("Neg", "x", "r")
    pool = node("MaxPool", "a", "y", kernel_shape=[3, 3], strides=[2, 2])
    found = prepared([first, node("Pad", "r p v", "a"), pool], padding(0, 0, 1, 1))
    assert found["Pad"] == (0 if positive else 1)


@pytest.mark.parametrize("value", [-np.inf, float(np.finfo(np.float32).min)])
def test_a_largest_value_takes_the_least_in(value: float) -> None:
    pool = node("MaxPool", "a", "y", kernel_shape=[3, 3], strides=[2, 2])
    found = prepared([node("Pad", "x p v", "a"), pool], padding(0, 0, 1, 1, value=value))
    assert found == {"MaxPool": 1}


STAYS: dict[str, tuple[onnx.NodeProto, onnx.NodeProto, Arrays]] = {
    "another value": (
        node("Pad", "x p v", "a"),
        node("Conv", "a W", "y"),
        padding(1, 1, 1, 1, value=2.0),
    ),
    "the least": (
        node("Pad", "x p v", "a"),
        node("AveragePool", "a", "y", kernel_shape=[3, 3]),
        padding(1, 1, 1, 1, value=float(np.finfo(np.float32).min)),
    ),
    "a mirror": (
        node("Pad", "x p", "a", mode="reflect"),
        node("Conv", "a W", "y"),
        padding(1, 1, 1, 1, value=None),
    ),
    "a crop": (node("Pad", "x p v", "a"), node("Conv", "a W", "y"), padding(-1, 0, 0, 0)),
    "an average that counted no padding": (
        node("Pad", "x p v", "a"),
        node("AveragePool", "a", "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        padding(1, 1, 1, 1),
    ),
    "another reader": (node("Pad", "x p v", "a"), node("Relu", "a", "y"), padding(1, 1, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_other_pads_stay(name: str) -> None:
    pad, reader, weights = STAYS[name]
    assert prepared([pad, reader], {**weights, "W": floats(6, 4, 3, 3)})["Pad"] == 1
