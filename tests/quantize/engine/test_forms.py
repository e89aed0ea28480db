"""Rewritten graphs answer as before, and hold the operators that have int8 kernels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import SIZE, Images, Weights, executed, floats, network, node, quantize, sqnr
from numpy.typing import NDArray

from quantlab.quantize.engine import prepared_for
from quantlab.quantize.engine.net import read_net
from quantlab.quantize.engine.plan import within
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

CHANNELS = 8
LINE = np.array([0, CHANNELS, SIZE * SIZE])
SQUARE = np.array([0, CHANNELS, SIZE, SIZE])


def number(value: float) -> NDArray[np.float32]:
    return np.array(value, np.float32)


def block(bias: str = "b1") -> list[onnx.NodeProto]:
    """A transformer's perceptron around the sums → ``m``."""
    return [
        *(node("Reshape", "a line", "l"), node("Transpose", "l", "t", perm=[0, 2, 1])),
        node("LayerNormalization", "t gain shift", "n"),
        *(node("MatMul", "n up", "u"), node("Add", f"u {bias}", "ub")),
        *(node("Div", "ub root", "d"), node("Erf", "d", "e"), node("Add", "e one", "e1")),
        *(node("Mul", "ub e1", "g1"), node("Mul", "g1 half", "gelu")),
        *(node("MatMul", "gelu down", "w"), node("Add", "b2x w", "wb")),
        *(node("Mul", "wb gain", "scaled"), node("Add", "t scaled", "sum")),
        node("LayerNormalization", "sum gain shift", "n2"),
        *(node("Transpose", "n2", "s", perm=[0, 2, 1]), node("Reshape", "s square", "m")),
    ]


BLOCK: Weights = {
    "line": LINE,
    "square": SQUARE,
    "gain": np.linspace(0.5, 1.5, CHANNELS).astype(np.float32),
    "shift": np.zeros(CHANNELS, np.float32),
    "up": floats(CHANNELS, 32),
    "bu": floats(32, 1)[:, 0],
    "down": floats(32, CHANNELS),
    "b2x": floats(CHANNELS, 1)[:, 0],
    "root": number(2**0.5),
    "one": number(1),
    "half": number(0.5),
}
SCALED: Weights = {"k": floats(CHANNELS, 1, 1, seed=5), "w": floats(CHANNELS, CHANNELS, 1, 1)}
FORMS: dict[str, tuple[list[onnx.NodeProto], Weights, dict[str, int]]] = {
    "sum of one": ([node("Sum", "a", "m")], {}, {"Sum": 1}),
    "sum of four": ([node("Sum", "a a c1 a", "m")], {}, {"Sum": 0, "Add": 3}),
    "Max and Min": (
        [node("Max", "low c1", "l"), node("Min", "l high", "m")],
        {"low": number(-0.5), "high": np.array([0.25], np.float32)},
        {"Max": 0, "Min": 0, "Clip": 1},
    ),
    "Max of two tensors": ([node("Max", "a c1", "m")], {}, {"Max": 1}),
    "Clips in a row": (
        [node("Clip", "c1 low", "l"), node("Relu", "l", "r"), node("Min", "r high", "m")],
        {"low": number(0.1), "high": number(0.2)},
        {"Clip": 1, "Relu": 1, "Min": 0},
    ),
    "HardSigmoid taken apart": (
        [node("Add", "three c1", "s"), node("Clip", "s zero six", "h"), node("Mul", "h inv", "m")],
        {"three": number(3), "zero": number(0), "six": number(6), "inv": number(1 / 6)},
        {"HardSigmoid": 1, "Clip": 0, "Add": 0, "Mul": 0},
    ),
    "a Clip divided by another number": (
        [node("Add", "c1 three", "s"), node("Clip", "s zero six", "h"), node("Div", "h by", "m")],
        {"three": number(3), "zero": number(0), "six": number(6), "by": number(5)},
        {"HardSigmoid": 0, "Clip": 1, "Div": 0},
    ),
    "a sigmoid that others read": (
        [
            *(node("Sigmoid", "c1", "s"), node("Mul", "c1 s", "q")),
            node("Add", "q s", "m"),
        ],
        {},
        {"Sigmoid": 1, "QuickGelu": 0},
    ),
    "mean over channels": (
        [node("ReduceMean", "a ch", "q"), node("Mul", "a q", "m")],
        {"ch": np.array([1])},
        {"ReduceMean": 1, "GlobalAveragePool": 1},
    ),
    "mean without axes kept": (
        [
            *(node("ReduceMean", "a hw", "q", keepdims=0), node("MatMul", "q up", "u")),
            node("Reshape", "u one", "m"),
        ],
        {"hw": np.array([2, 3]), "up": floats(8, 8), "one": np.array([0, 8, 1, 1])},
        {"GlobalAveragePool": 2, "Gemm": 2, "Reshape": 1, "MatMul": 0},
    ),
    "a scale for each channel": (
        [node("MaxPool", "a", "q", kernel_shape=[2, 2]), node("Mul", "k q", "m")],
        SCALED,
        {"Conv": 3, "Mul": 0},
    ),
    "a scale for each head of attention": (
        [
            node("Transpose", "a", "t", perm=[0, 1, 3, 2]),
            *(node("MatMul", "a t", "s"), node("Mul", "s k", "m")),
        ],
        SCALED,
        {"Conv": 2, "Mul": 1, "MatMul": 1},
    ),
    "perceptron": (
        block("bu"),
        BLOCK,
        {"Gemm": 3, "MatMul": 0, "Reshape": 5, "Add": 1, "Mul": 0, "Div": 0, "Gelu": 1},
    ),
}

TOKENS = [node("Reshape", "a line", "l"), node("Transpose", "l", "t", perm=[0, 2, 1])]
IMAGE = [node("Transpose", "u", "s", perm=[0, 2, 1]), node("Reshape", "s square", "m")]
EINSUMS: dict[str, tuple[list[onnx.NodeProto], dict[str, int]]] = {
    "bnc,cd->bnd": ([node("Einsum", "t w", "u", equation="bnc,cd->bnd")], {"Gemm": 2}),
    "weights first": ([node("Einsum", "w t", "u", equation="dc, bnc -> bnd")], {"Gemm": 2}),
    "any axes before": ([node("Einsum", "t w", "u", equation="...c,cd->...d")], {"Gemm": 2}),
    "result turned": (
        [node("Einsum", "t w", "v", equation="bnc,cd->bdn"),
         node("Transpose", "v", "u", perm=[0, 2, 1])],
        {"Gemm": 2},
    ),
    "heads": (
        [node("Einsum", "t heads", "q", equation="bnc,chd->bhnd"),
         node("Einsum", "q heads", "u", equation="bhnd,chd->bnc")],
        {"Gemm": 3},
    ),
    "two tensors": (
        [node("Einsum", "t t", "q", equation="bnc,bmc->bnm"),
         node("Einsum", "q t", "u", equation="bnm,bmc->bnc")],
        {"MatMul": 2},
    ),
    "a diagonal": (
        [node("Einsum", "t t", "q", equation="bnc,bmc->bnm"),
         node("Einsum", "q t", "u", equation="bnn,bnc->bnc")],
        {"MatMul": 1, "Einsum": 1},
    ),
    "an outer product": (
        [node("Einsum", "t w", "q", equation="bnc,de->bncd"),
         node("ReduceSum", "q last", "u", keepdims=0)],
        {"Einsum": 1},
    ),
    "a product by value": ([node("Einsum", "t t", "u", equation="bnc,bnc->bnc")], {"Einsum": 1}),
}  # fmt: skip
FORMS |= {
    f"Einsum, {name}": (
        [*TOKENS, *nodes, *IMAGE],
        {"line": LINE, "square": SQUARE, "w": floats(8, 8), "heads": floats(8, 2, 4),
         "last": np.array([3])},
        {"Einsum": 0} | expected,
    )
    for name, (nodes, expected) in EINSUMS.items()
}  # fmt: skip
FORMS |= {
    f"ConvTranspose, {name}": (
        [node("ConvTranspose", "a kernel offset", "m", **attributes)],
        {
            "kernel": floats(8, 8 // attributes.get("group", 1), *kernel),
            "offset": floats(8, 1)[:, 0],
        },
        {"ConvTranspose": 0},
    )
    for name, kernel, attributes in (
        ("two by two", (2, 2), {"strides": [2, 2]}),
        ("three by three", (3, 3), {"strides": [2, 2], "pads": [1] * 4}),
        ("a row more", (3, 3), {"strides": [2, 2], "pads": [1] * 4, "output_padding": [1, 1]}),
        ("unequal sides", (4, 5), {"strides": [3, 3], "pads": [0, 2, 1, 3]}),
        ("stride one", (3, 2), {"pads": [1, 0, 0, 1]}),
        ("groups", (4, 4), {"strides": [2, 2], "pads": [1] * 4, "group": 4}),
    )
}
FORMS |= {
    f"ConvTranspose, {name}": (
        [node("ConvTranspose", "a kernel", "m", **attributes)],
        {"kernel": floats(8, 8, 3, 3)},
        {"ConvTranspose": 1},
    )
    for name, attributes in (
        ("dilated", {"dilations": [2, 2]}),
        ("unequal strides", {"strides": [2, 1]}),
        ("much padding", {"strides": [3, 3], "output_padding": [1, 1]}),
        ("strides far beyond the kernel", {"strides": [9, 9]}),
        ("a size given", {"strides": [2, 2], "output_shape": [32, 32]}),
    )
}
FORMS |= {
    "a matrix with axes of one": (
        [*TOKENS, node("MatMul", "t w", "u"), *IMAGE],
        {"line": LINE, "square": SQUARE, "w": floats(1, 8, 8)},
        {"Gemm": 2, "MatMul": 0},
    ),
    "a Relu behind what moves": (
        [node("Conv", "a w", "q"), node("Slice", "q two minus", "s"), node("Relu", "s", "m")],
        {"w": SCALED["w"], "two": np.array([0, 0, 2]), "minus": np.array([99, 99, -2])},
        {"Relu": 3},
    ),
    "a normalization of rows": (
        [
            *(*TOKENS, node("MatMul", "t w", "q"), node("Reshape", "q rows", "r")),
            *(node("BatchNormalization", "r one gain one one", "n"),),
            *(node("Reshape", "n back", "u"), *IMAGE),
        ],
        {"line": LINE, "square": SQUARE, "w": floats(8, 8), "gain": floats(8, 1)[:, 0],
         "one": np.ones(8, np.float32), "rows": np.array([-1, 8]),
         "back": np.array([-1, SIZE * SIZE, 8])},
        {"Gemm": 2, "BatchNormalization": 0, "Mul": 0, "Add": 0},
    ),
    "a mean that drops its axis": (
        [node("ReduceMean", "a rows", "q", keepdims=0), node("Unsqueeze", "q rows", "m")],
        {"rows": np.array([2])},
        {"ReduceMean": 1, "AveragePool": 0},
    ),
    "a largest value that drops its axes": (
        [node("GlobalMaxPool", "a", "g"), node("ReduceMax", "c1 hw", "q", keepdims=0),
         node("Reshape", "q one", "h"), node("Add", "g h", "m")],
        {"hw": np.array([2, 3]), "one": np.array([0, 8, 1, 1])},
        {"ReduceMax": 0, "GlobalMaxPool": 0, "MaxPool": 2},
    ),
}  # fmt: skip

THIRDS: Weights = {
    "three": number(3), "zero": number(0), "six": number(6), "sixth": number(1 / 6),
    "half": number(0.5), "one": number(1), "fifth": number(0.2),
}  # fmt: skip
SWISHES: dict[str, list[onnx.NodeProto]] = {
    "divided before": [
        *(node("Add", "c1 three", "s"), node("Clip", "s zero six", "h")),
        *(node("Div", "c1 six", "d"), node("Mul", "d h", "m")),
    ],
    "a gate of Relu and Min": [
        *(node("Add", "c1 three", "s"), node("Relu", "s", "r"), node("Min", "r six", "h")),
        *(node("Mul", "sixth c1", "d"), node("Mul", "h d", "m")),
    ],
    "a gate from zero to one": [
        *(node("Mul", "c1 sixth", "d"), node("Add", "d half", "s")),
        *(node("Clip", "s zero one", "h"), node("Mul", "c1 h", "m")),
    ],
    "a gate that begins with a division": [
        *(node("Add", "three c1", "s"), node("Div", "s six", "d")),
        *(node("Max", "d zero", "h1"), node("Min", "one h1", "h"), node("Mul", "h c1", "m")),
    ],
    "divided twice": [
        *(node("Add", "c1 three", "s"), node("Clip", "s zero six", "h"), node("Div", "h six", "g")),
        node("Mul", "g c1", "m"),
    ],
    "HardSigmoid and Mul": [
        node("HardSigmoid", "c1", "h", alpha=1 / 6, beta=0.5),
        node("Mul", "h c1", "m"),
    ],
    "Keras' hard sigmoid": [
        *(node("Mul", "c1 fifth", "d"), node("Add", "d half", "s")),
        *(node("Clip", "s zero one", "h"), node("Mul", "a h", "m")),
    ],
}
FORMS |= {
    f"hard swish, {name}": (
        nodes, THIRDS, {"HardSigmoid": 1, "Mul": 1, "Clip": 0, "Div": 0, "Add": 0}
    )
    for name, nodes in SWISHES.items()
}  # fmt: skip
FORMS |= {
    "no hard swish, a gate of another slope": (
        [*SWISHES["divided before"][:2], node("Mul", "c1 fifth", "d"), node("Mul", "d h", "m")],
        THIRDS,
        {"HardSigmoid": 0, "Clip": 1},
    ),
    "no hard sigmoid, saturated at zero": (
        [node("HardSigmoid", "c1", "m", alpha=0.2, beta=1.5)], {}, {"HardSigmoid": 1}
    ),
}  # fmt: skip
SLOPES = np.linspace(0, 1, CHANNELS).astype(np.float32).reshape(-1, 1, 1)
FUNCTIONS: dict[str, tuple[list[onnx.NodeProto], dict[str, int]]] = {
    "PRelu": ([node("PRelu", "c1 slopes", "m")], {"Mul": 1, "Max": 1}),
    "PRelu of one slope": ([node("PRelu", "c1 fifth", "m")], {"LeakyRelu": 1}),
    "PRelu of any slopes": ([node("PRelu", "c1 any", "m")], {"Mul": 2, "Relu": 2, "Add": 1}),
    "PRelu of slopes that are computed": ([node("PRelu", "c1 a", "m")], {"PRelu": 1}),
    "Elu": ([node("Elu", "c1", "m")], {"Exp": 1, "Clip": 1, "Relu": 2}),
    "Elu with alpha": ([node("Elu", "c1", "m", alpha=0.3)], {"Exp": 1, "Mul": 1}),
    "Selu": ([node("Selu", "c1", "m")], {"Exp": 1, "Mul": 2}),
    "Celu": ([node("Celu", "c1", "m", alpha=0.7)], {"Exp": 1, "Div": 1}),
    "Softplus": ([node("Softplus", "c1", "m")], {"Log": 1, "Sigmoid": 1}),
    "Mish": ([node("Mish", "c1", "m")], {"Sigmoid": 1, "Div": 1}),
    "Mish taken apart": (
        [node("Softplus", "c1", "s"), node("Tanh", "s", "t"), node("Mul", "t c1", "m")],
        {"Sigmoid": 1, "Div": 1, "Tanh": 0, "Log": 0},
    ),
    "Tanh of another Softplus": (
        [node("Softplus", "a", "s"), node("Tanh", "s", "t"), node("Mul", "t c1", "m")],
        {"Tanh": 1, "Log": 1},
    ),
}
FORMS |= {
    name: (nodes, THIRDS | {"slopes": SLOPES, "any": 2 * SLOPES - 0.5},
           {n.op_type: 0 for n in nodes if n.op_type != "Mul"} | expected)
    for name, (nodes, expected) in FUNCTIONS.items()
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_form_answers_as_before(tmp_path: Path, name: str) -> None:
    nodes, weights, expected = FORMS[name]
    model = network(tmp_path, nodes, weights)
    formed = prepared_for(model, Recipe())
    found = Counter(n.op_type for n in formed.graph.node)
    assert {op: found[op] for op in expected} == expected
    images = Images().array
    with Runner(model) as before, Runner(formed) as after:
        np.testing.assert_allclose(after(images), before(images), rtol=1e-4, atol=1e-5)


def test_a_transformer_multiplies_in_int8_and_adds_in_fp32(tmp_path: Path) -> None:
    model = network(tmp_path, block("bu"), BLOCK)
    proto = quantize(model, Images(24))
    found = executed(proto, tmp_path)
    assert found["QGemm"] == 3
    assert found["Gelu"] == found["Add"] == 1
    assert found["QLinearAdd"] == 0
    assert found["DequantizeLinear"] == 2  # of the convolution's output, for each of its readers
    assert sqnr(model, proto) > 25


def test_two_free_sizes(tmp_path: Path) -> None:
    free = ("N", 3, None, None)
    nodes = [
        *(node("Transpose", "a", "t", perm=[0, 2, 3, 1]), node("MatMul", "t k", "u")),
        node("Transpose", "u", "m", perm=[0, 3, 1, 2]),
    ]
    model = network(tmp_path, nodes, {"k": floats(CHANNELS, CHANNELS)}, free)
    proto = quantize(model, Images(24))
    assert executed(proto, tmp_path)["QGemm"] == 2
    assert sqnr(model, proto) > 25
    wide = np.random.default_rng(3).standard_normal((2, 3, 8, 20)).astype(np.float32)
    assert sqnr(model, proto, wide) > 20


def test_a_node_that_was_taken_in_can_be_excluded(tmp_path: Path) -> None:
    model = network(tmp_path, block("bu"), BLOCK)
    kept = executed(quantize(model, Images(24), exclude=("u", "ub")), tmp_path)
    assert kept["QGemm"] == 2


WINDOWS: dict[str, tuple[list[onnx.NodeProto], tuple[float, float]]] = {
    "Sigmoid": ([node("Sigmoid", "c", "m")], (-6.5, 6.5)),
    "HardSigmoid": ([node("HardSigmoid", "c", "m", alpha=0.25, beta=0.5)], (-2.0, 2.0)),
    "HardSwish": ([node("HardSwish", "c", "m")], (-3.0, np.inf)),
    "SiLU": ([node("Sigmoid", "c", "s"), node("Mul", "s c", "m")], (-6.5, np.inf)),
    "Sigmoid and a sum": ([node("Sigmoid", "c", "s"), node("Add", "s c", "m")], (-np.inf, np.inf)),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_a_quantizer_is_no_wider_than_its_readers_see(tmp_path: Path, name: str) -> None:
    nodes, (low, high) = WINDOWS[name]
    model = network(tmp_path, [node("Conv", "a w", "c"), *nodes], SCALED)
    net = read_net(prepared_for(model, Recipe()), Recipe())
    assert within(net, "c", (-9.0, 9.0)) == pytest.approx((max(low, -9.0), min(high, 9.0)))


def test_channels_of_a_normalization_are_scaled_for_the_products_behind_it(tmp_path: Path) -> None:
    uneven = np.geomspace(0.02, 4, CHANNELS).astype(np.float32)
    weights = BLOCK | {"gain": uneven, "up": BLOCK["up"] / uneven[:, None]}
    model = network(tmp_path, block("bu"), weights)
    plain, scaled = (
        sqnr(model, quantize(model, Images(24), equalize=wanted)) for wanted in (False, True)
    )
    assert scaled > plain + 3


def test_a_product_of_zeros_behind_a_normalization(tmp_path: Path) -> None:
    zeros = {"up": np.zeros((CHANNELS, 32), np.float32)}
    model = network(tmp_path, block("bu"), BLOCK | zeros)
    assert sqnr(model, quantize(model, Images(24))) > 20
