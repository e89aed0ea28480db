"""Normalizations in several nodes become one that gives the same answers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.model.model import main_opset
from quantlab.quantize.prepare import prepare
from quantlab.runtime.graphs import graph_session

RNG = np.random.default_rng(0)
TOKENS, IMAGE = (2, 5, 8), (2, 8, 6, 5)
Weights = dict[str, NDArray[Any]]


def node(op: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, reads.split(), makes.split(), **attributes)


def model(
    nodes: list[onnx.NodeProto], weights: Weights, shape: tuple[int | str, ...], opset: int = 13
) -> onnx.ModelProto:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape[1:]])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "normalized", [given], [made], tensors)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def mean(reads: str, makes: str, axes: list[int], opset: int = 13, **more: Any) -> onnx.NodeProto:
    if opset >= 18:
        return node("ReduceMean", f"{reads} axes", makes, **more)
    return node("ReduceMean", reads, makes, axes=axes, **more)


def number(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


def variance(axes: list[int], opset: int = 13, square: str = "Pow") -> list[onnx.NodeProto]:
    """x → ``c``, what it is without its mean, and ``ve``, its variance and a little more."""
    squared = node("Pow", "c two", "p") if square == "Pow" else node("Mul", "c c", "p")
    return [
        *(mean("x", "m", axes, opset), node("Sub", "x m", "c"), squared),
        *(mean("p", "v", axes, opset), node("Add", "eps v", "ve")),
    ]


def constants(shape: tuple[int, ...], axes: list[int]) -> Weights:
    return {
        "two": number(2), "eps": number(1e-3), "half": number(0.5), "minus_half": number(-0.5),
        "one": number(1), "axes": np.array(axes),
        "gain": RNG.uniform(0.5, 2, shape).astype(np.float32),
        "shift": RNG.standard_normal(shape).astype(np.float32),
    }  # fmt: skip


ENDS: dict[str, list[onnx.NodeProto]] = {
    "PyTorch": [
        node("Sqrt", "ve", "s"),
        *(node("Div", "c s", "n"), node("Mul", "gain n", "g"), node("Add", "g shift", "y")),
    ],
    "a reciprocal root": [
        *(node("Sqrt", "ve", "s"), node("Reciprocal", "s", "r")),
        *(node("Mul", "r c", "n"), node("Mul", "n gain", "g"), node("Add", "shift g", "y")),
    ],
    "one over the root": [
        *(node("Pow", "ve half", "s"), node("Div", "one s", "r"), node("Mul", "c r", "n")),
        *(node("Mul", "n gain", "g"), node("Add", "g shift", "y")),
    ],
    "a power": [
        *(node("Pow", "ve minus_half", "r"), node("Mul", "r gain", "rg")),
        *(node("Mul", "c rg", "g"), node("Add", "g shift", "y")),
    ],
    "TensorFlow": [
        *(node("Sqrt", "ve", "s"), node("Reciprocal", "s", "r"), node("Mul", "r gain", "rg")),
        *(node("Mul", "x rg", "a"), node("Mul", "rg m", "b"), node("Sub", "shift b", "d")),
        node("Add", "d a", "y"),
    ],
}


def answers(proto: onnx.ModelProto, shape: tuple[int, ...]) -> NDArray[np.float32]:
    images = np.random.default_rng(1).standard_normal(shape).astype(np.float32) * 3 + 1
    session = graph_session(proto, threads=1, optimization="disabled")
    return np.asarray(session.run(None, {"x": images})[0])


def joined(before: onnx.ModelProto, shape: tuple[int, ...]) -> Counter[str]:
    """The operators afterwards; the answers are the same."""
    after = prepare(before)
    np.testing.assert_allclose(answers(after, shape), answers(before, shape), rtol=1e-4, atol=1e-5)
    return Counter(n.op_type for n in after.graph.node)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("end", ENDS)
def test_a_layer_normalization_is_one_node(end: str, square: str, opset: int) -> None:
    nodes = [*variance([-1], opset, square), *ENDS[end]]
    before = model(nodes, constants((8,), [-1]), TOKENS, opset)
    assert joined(before, TOKENS) == {"LayerNormalization": 1}
    assert main_opset(prepare(before)) == max(opset, 17)


@pytest.mark.parametrize("axes", [[1, 2], [2]], ids=str)
def test_constants_of_the_normalized_axes_are_taken_in(axes: list[int]) -> None:
    shape = TOKENS[1:] if len(axes) == 2 else (1, 1, 8)
    nodes = [*variance(axes), *ENDS["PyTorch"]]
    assert joined(model(nodes, constants(shape, axes), TOKENS), TOKENS) == {"LayerNormalization": 1}


def test_constants_of_other_axes_are_not() -> None:
    nodes = [*variance([-1]), *ENDS["PyTorch"]]
    found = joined(model(nodes, constants((5, 1), [-1]), TOKENS), TOKENS)
    assert found == {"LayerNormalization": 1, "Mul": 1, "Add": 1}


def test_over_the_channels_of_an_image_it_stands_between_transposes() -> None:
    nodes = [*variance([1]), *ENDS["PyTorch"]]
    found = joined(model(nodes, constants((8, 1, 1), [1]), IMAGE), IMAGE)
    assert found == {"Transpose": 2, "LayerNormalization": 1}


def test_over_height_and_width_it_is_an_instance_normalization() -> None:
    nodes = [*variance([2, 3]), *ENDS["PyTorch"]]
    before = model(nodes, constants((1, 8, 1, 1), [2, 3]), ("N", 8, "H", "W"))
    assert joined(before, IMAGE) == {"InstanceNormalization": 1}
    assert main_opset(prepare(before)) == 13


def test_groups_of_channels() -> None:
    """GroupNorm: rows of what each group has, then constants for each channel."""
    nodes = [
        node("Reshape", "z groups", "x2"),
        *(n for n in variance([-1])),
        *(node("Sqrt", "ve", "s"), node("Div", "c s", "n"), node("Reshape", "n image", "i")),
        *(node("Mul", "i gain", "g"), node("Add", "g shift", "y")),
    ]
    for each in nodes[1:]:
        for i, name in enumerate(each.input):
            each.input[i] = "x2" if name == "x" else name
    nodes[0].input[0] = "x"
    more = {"groups": np.array([0, 2, 4 * 30]), "image": np.array([0, 8, 6, 5])}
    found = joined(model(nodes, constants((8, 1, 1), [-1]) | more, IMAGE), IMAGE)
    assert found == {"Reshape": 2, "LayerNormalization": 1, "Mul": 1, "Add": 1}


@pytest.mark.parametrize("opset", [18, 21])
@pytest.mark.parametrize("sizes", [("N", 8, 6, 5), ("N", 8, "H", 5), ("N", 8, "H", "W")], ids=str)
def test_a_group_normalization(opset: int, sizes: tuple[int | str, ...]) -> None:
    gain = RNG.standard_normal(2 if opset == 18 else 8).astype(np.float32)
    nodes = [node("GroupNormalization", "x gain shift", "y", num_groups=2, epsilon=1e-3)]
    found = joined(model(nodes, {"gain": gain, "shift": gain - 1}, sizes, opset), IMAGE)
    behind = {"Mul": 1, "Add": 1} if opset == 21 else {}
    before = {"Shape": 1} if sizes.count("W") else {}
    assert found == {"Reshape": 2, "InstanceNormalization": 1} | behind | before


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("inverse", ["Reciprocal", "Div"])
def test_a_root_mean_square_is_divided_by(square: str, inverse: str) -> None:
    nodes = [
        node("Pow", "x two", "p") if square == "Pow" else node("Mul", "x x", "p"),
        *(mean("p", "v", [-1]), node("Add", "v eps", "ve"), node("Sqrt", "ve", "s")),
        node("Reciprocal", "s", "r") if inverse == "Reciprocal" else node("Div", "one s", "r"),
        *(node("Mul", "r x", "n"), node("Mul", "n gain", "y")),
    ]
    found = joined(model(nodes, constants((8,), [-1]), TOKENS), TOKENS)
    assert found == Counter(["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"])


OTHERS: dict[str, tuple[list[onnx.NodeProto], list[int]]] = {
    "axes that go": (
        [mean("x", "m", [0], keepdims=0), node("Sub", "x m", "c"), node("Pow", "c two", "p"),
         mean("p", "v", [0], keepdims=0), node("Add", "v eps", "ve"), *ENDS["PyTorch"]], [0],
    ),
    "a variance of other axes": (
        [mean("x", "m", [1]), node("Sub", "x m", "c"), node("Pow", "c two", "p"),
         mean("p", "v", [2]), node("Add", "v eps", "ve"), *ENDS["PyTorch"]], [2],
    ),
    "a power of three": (
        [mean("x", "m", [2]), node("Sub", "x m", "c"), node("Pow", "c three", "p"),
         mean("p", "v", [2]), node("Abs", "v", "va"), node("Add", "va eps", "ve"),
         *ENDS["PyTorch"]], [2],
    ),
    "a root mean square": (
        [node("Pow", "x two", "p"), mean("p", "v", [2]), node("Add", "v eps", "ve"),
         node("Sqrt", "ve", "s"), node("Div", "x s", "n"), node("Mul", "n gain", "y")], [2],
    ),
    "images of the batch": ([*variance([0]), *ENDS["PyTorch"]], [0]),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_something_else_stays(name: str) -> None:
    nodes, axes = OTHERS[name]
    more = constants((8,), axes) | {"three": number(3)}
    before = model(nodes, more, TOKENS)
    assert joined(before, TOKENS) == Counter(n.op_type for n in nodes)
    assert main_opset(prepare(before)) == 13


def test_an_unknown_size_stays() -> None:
    nodes = [*variance([-1]), *ENDS["PyTorch"]]
    before = model(nodes, constants((1,), [-1]), ("N", 5, "width"))
    assert "LayerNormalization" not in joined(before, TOKENS)
