"""Every row of the table of operators, in both formats: near to fp32, and run as the row says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import BOTH, SIZE, Images, Weights, executed, floats, network, node, quantize, sqnr

from quantlab.quantize.operators import OPERATORS, row

CHANNELS = 8
HALF = [node("Conv", "a hw", "half"), node("Conv", "a kw", "other")]
SQUEEZED = [
    node("GlobalAveragePool", "a", "pooled"),
    node("Conv", "pooled hw", "gate"),
]
POINTWISE: Weights = {
    "hw": floats(CHANNELS, CHANNELS, 1, 1, seed=3),
    "kw": floats(CHANNELS, CHANNELS, 1, 1, seed=4),
}


@dataclass
class Case:
    """A middle part of the network, and the kernels that ONNX Runtime runs for it."""

    nodes: list[onnx.NodeProto]
    runs: dict[str, int]
    weights: Weights = field(default_factory=dict)
    least: float = 25.0
    floats: int = 0


def ints(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(values, np.int64)


def after(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    """A convolution with negative answers → ``half``, then the nodes."""
    return [*HALF, *nodes]


CASES: dict[str, Case] = {
    "Conv": Case([node("Conv", "a hw", "m")], {"QLinearConv": 3}),
    "Conv over time": Case(
        [node("Reshape", "a line", "l"), node("Conv", "l tw", "k", pads=[2, 1], strides=[1]),
         node("Reshape", "k square", "m")],
        {"QLinearConv": 3},
        {"line": ints(0, CHANNELS, -1), "square": ints(0, CHANNELS, SIZE, SIZE),
         "tw": floats(CHANNELS, CHANNELS, 4)},
    ),
    "Conv over time, grouped, dilated and padded by name": Case(
        [node("Reshape", "a line", "l"),
         node("Conv", "l tw", "k", auto_pad="SAME_LOWER", group=2),
         node("Conv", "k tw", "k2", group=2, dilations=[3], pads=[7, 2]),
         node("Reshape", "k2 square", "m")],
        {"QLinearConv": 4},
        {"line": ints(0, CHANNELS, -1), "square": ints(0, CHANNELS, SIZE, SIZE),
         "tw": floats(CHANNELS, CHANNELS // 2, 4)},
    ),
    "pools over time": Case(
        [node("Reshape", "a line", "l"), node("Conv", "l tw", "k"), node("Relu", "k", "r"),
         node("MaxPool", "r", "p1", kernel_shape=[3], strides=[2]),
         node("Conv", "p1 tw", "k2"), node("BatchNormalization", "k2 up up up up", "n"),
         node("AveragePool", "n", "p2", kernel_shape=[2]),
         node("ReduceMean", "p2 last", "p3"), node("Reshape", "p3 pixel", "m")],
        {"QLinearConv": 4, "QLinearAveragePool": 1, "QLinearGlobalAveragePool": 2},
        {"line": ints(0, CHANNELS, -1), "pixel": ints(0, CHANNELS, 1, 1), "last": ints(-1),
         "tw": floats(CHANNELS, CHANNELS, 4), "up": np.linspace(0.5, 2, CHANNELS)},
    ),
    "Conv over volumes": Case(
        [node("Reshape", "a cube", "l"), node("Conv", "l vw", "k", pads=[1, 0, 2, 1, 1, 0]),
         node("Relu", "k", "r"),
         node("Conv", "r gw", "k2", group=2, dilations=[1, 2, 1], pads=[0, 1, 1, 1, 1, 0]),
         node("Conv", "k2 ow", "k3", group=CHANNELS, auto_pad="SAME_UPPER"),
         node("Reshape", "k3 square", "m")],
        {"QLinearConv": 5},
        {"cube": ints(0, CHANNELS, 4, 8, 8), "square": ints(0, CHANNELS, SIZE, SIZE),
         "vw": floats(CHANNELS, CHANNELS, 3, 2, 3), "gw": floats(CHANNELS, CHANNELS // 2, 2, 2, 2),
         "ow": floats(CHANNELS, 1, 1, 2, 3)},
    ),
    "pools over volumes": Case(
        [node("Reshape", "a cube", "l"), node("Conv", "l vw", "k"), node("Conv", "l vw2", "kk"),
         node("MaxPool", "k", "p1", kernel_shape=[2, 2, 2]),
         node("AveragePool", "kk", "p2", kernel_shape=[2, 2, 2]),
         node("Concat", "p1 p2", "p3", axis=1),
         node("BatchNormalization", "p3 up up up up", "n"),
         node("Conv", "n vw3", "k3"),
         node("GlobalAveragePool", "k3", "q"), node("Reshape", "q pixel", "m")],
        {"QLinearConv": 6},
        {"cube": ints(0, CHANNELS, 4, 8, 8), "pixel": ints(0, CHANNELS, 1, 1),
         "up": np.linspace(0.5, 2, 2 * CHANNELS),
         "vw": floats(CHANNELS, CHANNELS, 1, 1, 1), "vw2": floats(CHANNELS, CHANNELS, 1, 1, 1),
         "vw3": floats(CHANNELS, 2 * CHANNELS, 1, 1, 1)},
    ),
    "Gemm": Case(
        [*SQUEEZED[:1], node("Flatten", "pooled", "f1"), node("Gemm", "f1 gw", "g1"),
         node("Reshape", "g1 square", "m")],
        {"QGemm": 2},
        {"gw": floats(CHANNELS, CHANNELS), "square": ints(0, CHANNELS, 1, 1)},
    ),
    "Add": Case(after(node("Add", "half a", "m")), {"QLinearAdd": 1}),
    "Add of an image and a number a channel": Case(
        [*SQUEEZED, node("Add", "a gate", "m")], {"QLinearAdd": 1}
    ),
    "Sum": Case(after(node("Sum", "half a half", "m")), {"QLinearAdd": 2}),
    "Mul": Case(after(node("Mul", "half other", "m")), {"QLinearMul": 1}),
    "Sigmoid and Mul, squeeze-excite": Case(
        [*SQUEEZED, node("Sigmoid", "gate", "s"), node("Mul", "s a", "m")],
        {"QLinearSigmoid": 1, "QLinearMul": 1, "QLinearGlobalAveragePool": 2},
    ),
    "HardSigmoid and Mul, squeeze-excite": Case(
        [*SQUEEZED, node("HardSigmoid", "gate", "s"), node("Mul", "s a", "m")],
        {"QLinearAdd": 1, "QLinearMul": 1, "QLinearGlobalAveragePool": 2},
    ),
    "HardSwish": Case(
        after(node("HardSwish", "half", "m")), {"QLinearAdd": 1, "QLinearMul": 1}
    ),
    "HardSwish taken apart": Case(
        after(node("Add", "half three", "h1"), node("Clip", "h1 zero six", "h2"),
              node("Mul", "half h2", "h3"), node("Div", "h3 six", "m")),
        {"QLinearAdd": 1, "QLinearMul": 1},
        {name: np.array(value, np.float32) for name, value in
         (("three", 3), ("zero", 0), ("six", 6))},
    ),
    "SiLU": Case(
        after(node("Sigmoid", "half", "s"), node("Mul", "half s", "m")),
        {"QuickGelu": 1, "QLinearConv": 3},
        floats=1,
    ),
    "SiLU with squeeze-excite": Case(
        [*HALF, node("Sigmoid", "half", "s"), node("Mul", "half s", "silu"),
         node("GlobalAveragePool", "silu", "pooled"), node("Conv", "pooled kw", "gate"),
         node("Sigmoid", "gate", "t"), node("Mul", "silu t", "m")],
        {"QuickGelu": 1, "QLinearSigmoid": 1, "QLinearMul": 1, "QLinearGlobalAveragePool": 2},
        floats=1,
    ),
    "GELU": Case(
        after(node("Div", "half root", "d"), node("Erf", "d", "e"), node("Add", "e one", "e1"),
              node("Mul", "half e1", "g1"), node("Mul", "g1 by", "m")),
        {"Gelu": 1, "QLinearConv": 3},
        {name: np.array(value, np.float32) for name, value in
         (("root", 2**0.5), ("one", 1), ("by", 0.5))},
        floats=1,
    ),
    "LeakyRelu": Case(after(node("LeakyRelu", "half", "m", alpha=0.1)), {"QLinearLeakyRelu": 1}),
    "Concat": Case(after(node("Concat", "half other", "k", axis=1), node("Conv", "k cw", "m")),
                   {"QLinearConcat": 1}, {"cw": floats(CHANNELS, 2 * CHANNELS, 1, 1)}),
    "GlobalAveragePool": Case([*SQUEEZED[:1], node("Conv", "pooled hw", "m")],
                              {"QLinearGlobalAveragePool": 2}),
    "AveragePool": Case(
        [node("AveragePool", "a", "m", kernel_shape=[2, 2])], {"QLinearAveragePool": 1}
    ),
    "ReduceMean": Case(
        [node("ReduceMean", "a hw_axes", "pooled"), node("Conv", "pooled hw", "m")],
        {"QLinearGlobalAveragePool": 2}, {"hw_axes": ints(-2, -1)},
    ),
    "MatMul": Case(
        after(node("Transpose", "other", "turned", perm=[0, 1, 3, 2]),
              node("MatMul", "half turned", "m")),
        {"QLinearMatMul": 1},
    ),
    "MatMul with a matrix": Case([node("MatMul", "a right", "m")], {"QGemm": 2},
                                 {"right": floats(SIZE, SIZE)}),
    "MatMul with a matrix on the left": Case([node("MatMul", "left a", "m")], {"QGemm": 2},
                                             {"left": floats(SIZE, SIZE)}),
    "MaxPool": Case([node("MaxPool", "a", "m", kernel_shape=[2, 2])], {"NhwcMaxPool": 1}),
    "Flatten": Case([node("Flatten", "a", "f1", axis=2), node("Reshape", "f1 back", "m")],
                    {"Flatten": 2}, {"back": ints(-1, CHANNELS, SIZE, SIZE)}),
    "Reshape": Case([node("Reshape", "a line", "l"), node("Reshape", "l square", "m")],
                    {"QLinearConv": 2},
                    {"line": ints(0, CHANNELS, -1), "square": ints(0, CHANNELS, SIZE, SIZE)}),
    "Transpose": Case([node("Transpose", "a", "m", perm=[0, 1, 3, 2])], {"Transpose": 3}),
    "Squeeze": Case([node("Unsqueeze", "a axis", "u"), node("Squeeze", "u axis", "q"),
                     node("Conv", "q hw", "m")], {"QLinearConv": 3}, {"axis": ints(2)}),
    "Slice": Case([node("Slice", "a starts ends axes", "m")], {"Slice": 1},
                  {"starts": ints(1), "ends": ints(SIZE - 1), "axes": ints(2)}),
    "Gather": Case([node("Gather", "a order", "m", axis=1)], {"Gather": 1},
                   {"order": ints(*reversed(range(CHANNELS)))}),
    "Split": Case([node("Split", "a", "s t", axis=1, num_outputs=2),
                   node("Concat", "t s", "m", axis=1)], {"Split": 1, "QLinearConcat": 1}),
    "Expand": Case([*SQUEEZED[:1], node("Expand", "pooled size", "m")], {"Expand": 1},
                   {"size": ints(1, 1, 4, 4)}),
    "Tile": Case([node("Tile", "a times", "m")], {"Tile": 1}, {"times": ints(1, 1, 2, 1)}),
    "DepthToSpace": Case([node("Conv", "a dw", "deep"),
                          node("DepthToSpace", "deep", "m", blocksize=2)],
                         {"DepthToSpace": 1}, {"dw": floats(4 * CHANNELS, CHANNELS, 1, 1)}),
    "Resize": Case([node("Resize", "a none twice", "m", mode="nearest")], {"Resize": 1},
                   {"none": np.zeros(0, np.float32), "twice": np.array([1, 1, 2, 2], np.float32)}),
    "BatchNormalization before Relu": Case(
        after(node("Concat", "half other", "k", axis=1),
              node("BatchNormalization", "k one shift shift one", "n"),
              node("Relu", "n", "r"), node("Conv", "r cw", "m")),
        {"QLinearConv": 6},
        {"cw": floats(CHANNELS, 2 * CHANNELS, 1, 1), "one": np.linspace(0.5, 2, 2 * CHANNELS),
         "shift": np.linspace(-0.3, 0.3, 2 * CHANNELS)},
    ),
    "Max and Min": Case(
        [node("Conv", "a hw", "h"), node("Max", "h zero", "h1"), node("Min", "six h1", "m")],
        {"QLinearConv": 3},
        {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)},
    ),
    "Relu and Min": Case(
        [node("Conv", "a hw", "h"), node("Relu", "h", "h1"), node("Min", "h1 six", "m")],
        {"QLinearConv": 3}, {"six": np.array([6], np.float32)},
    ),
    # ONNX Runtime makes an integer kernel of it by itself where it stands between quantizers.
    "Softmax": Case(after(node("Softmax", "half", "m", axis=1)), {"QLinearSoftmax": 1}),
    "ConvTranspose": Case(after(node("ConvTranspose", "half tw", "m", strides=[2, 2])),
                          {"QLinearConv": 4, "DepthToSpace": 1},
                          {"tw": floats(CHANNELS, CHANNELS, 2, 2)}),
    "ConvTranspose of unequal strides": Case(
        after(node("ConvTranspose", "half tw", "m", strides=[2, 1])), {"ConvTranspose": 1},
        {"tw": floats(CHANNELS, CHANNELS, 2, 2)}, floats=1,
    ),
    "PRelu": Case(after(node("PRelu", "half slopes", "m")), {"QLinearConv": 3, "Max": 1},
                  {"slopes": np.linspace(0, 0.5, CHANNELS).reshape(-1, 1, 1)}, floats=2),
    "PRelu of one slope": Case(after(node("PRelu", "half slope", "m")), {"QLinearLeakyRelu": 1},
                               {"slope": np.full((1, 1, 1), 0.25, np.float32)}),
    "Elu": Case(after(node("Elu", "half", "m")), {"QLinearConv": 3, "Exp": 1}, floats=2),
    "Selu": Case(after(node("Selu", "half", "m")), {"QLinearConv": 3, "Exp": 1}, floats=2),
    "Celu": Case(after(node("Celu", "half", "m", alpha=0.5)), {"QLinearConv": 3, "Exp": 1},
                 floats=2),
    "Mish": Case(after(node("Mish", "half", "m")), {"QLinearConv": 3, "Softplus": 0}, floats=1),
    "Mish taken apart": Case(
        after(node("Softplus", "half", "s"), node("Tanh", "s", "t"), node("Mul", "half t", "m")),
        {"QLinearConv": 3, "Softplus": 0}, floats=1,
    ),
    "Softplus": Case(after(node("Softplus", "half", "m")), {"QLinearConv": 3, "Log": 1}, floats=2),
    "Softsign": Case(after(node("Softsign", "half", "m")), {"QLinearConv": 3, "Softsign": 1},
                     floats=1),
    "ThresholdedRelu": Case(after(node("ThresholdedRelu", "half", "m", alpha=0.1)),
                            {"QLinearConv": 3, "ThresholdedRelu": 1}, floats=1),
    "Tanh": Case(after(node("Tanh", "half", "m")), {"QLinearConv": 3, "Tanh": 1}, floats=1),
    "Erf": Case(after(node("Erf", "half", "m")), {"QLinearConv": 3, "Erf": 1}, floats=1),
    "LayerNormalization": Case(
        after(node("LayerNormalization", "half gain", "m")),
        {"QLinearConv": 3, "LayerNormalization": 1}, {"gain": np.linspace(0.5, 2, SIZE)}, floats=1,
    ),
    "LayerNormalization of channels taken apart": Case(
        after(node("ReduceMean", "half one_axis", "v"), node("Sub", "half v", "d"),
              node("Mul", "d d", "p1"), node("ReduceMean", "p1 one_axis", "u"),
              node("Add", "u eps", "e"), node("Sqrt", "e", "s"), node("Div", "d s", "n"),
              node("Mul", "n up", "m")),
        {"QLinearConv": 3, "LayerNormalization": 1, "ReduceMean": 0},
        {"one_axis": ints(1), "eps": np.array(1e-5, np.float32),
         "up": np.linspace(0.5, 2, CHANNELS).reshape(-1, 1, 1)}, floats=1,
    ),
    "InstanceNormalization": Case(
        after(node("InstanceNormalization", "half up up", "m")),
        {"QLinearConv": 3, "InstanceNormalization": 1}, {"up": np.linspace(0.5, 2, CHANNELS)},
        floats=1,
    ),
    "GroupNormalization as PyTorch writes it": Case(
        after(node("Reshape", "half groups", "l"), node("InstanceNormalization", "l one none", "n"),
              node("Reshape", "n square", "s"), node("Mul", "s up", "g"), node("Add", "g up", "m")),
        {"QLinearConv": 3, "InstanceNormalization": 1},
        {"groups": ints(0, 2, -1), "square": ints(0, CHANNELS, SIZE, SIZE),
         "one": np.ones(2, np.float32), "none": np.zeros(2, np.float32),
         "up": np.linspace(0.5, 2, CHANNELS).reshape(-1, 1, 1)}, floats=1,
    ),
    "GroupNormalization": Case(
        after(node("GroupNormalization", "half one none", "m", num_groups=2)),
        {"QLinearConv": 3, "InstanceNormalization": 1},
        {"one": np.ones(2, np.float32), "none": np.zeros(2, np.float32)},
        floats=1,
    ),
    "root mean square": Case(
        [node("Reshape", "a line", "l"), node("Transpose", "l", "t", perm=[0, 2, 1]),
         node("MatMul", "t square", "q"), node("Softsign", "q", "x1"),
         node("Mul", "x1 x1", "p1"), node("ReduceMean", "p1 last", "u"), node("Add", "u eps", "e"),
         node("Sqrt", "e", "s"), node("Reciprocal", "s", "r"), node("Mul", "x1 r", "n"),
         node("Mul", "n up", "scaled"), node("MatMul", "scaled square", "w"),
         node("Transpose", "w", "v", perm=[0, 2, 1]), node("Reshape", "v image", "m")],
        {"QGemm": 3, "SimplifiedLayerNormalization": 1},
        {"line": ints(0, CHANNELS, -1), "square": floats(CHANNELS, CHANNELS), "last": ints(-1),
         "image": ints(0, CHANNELS, SIZE, SIZE), "eps": np.array(1e-5, np.float32),
         "up": np.linspace(0.5, 2, CHANNELS)},
    ),
    "Relu behind a Concat": Case(
        after(node("Concat", "half other", "k", axis=1), node("Relu", "k", "r"),
              node("Conv", "r cw", "m")),
        {"QLinearConcat": 1, "Relu": 0}, {"cw": floats(CHANNELS, 2 * CHANNELS, 1, 1)},
    ),
    "Relu behind a pool and moved": Case(
        after(node("MaxPool", "half", "k", kernel_shape=[2, 2]),
              node("Transpose", "k", "t", perm=[0, 1, 3, 2]), node("Relu", "t", "m")),
        {"QLinearConv": 3, "Relu": 0},
    ),
    "Einsum": Case(after(node("Einsum", "half ew", "m", equation="bchw,dc->bdhw")),
                   {"QLinearConv": 4}, {"ew": floats(CHANNELS, CHANNELS)}),
    "the largest value of each channel": Case(
        after(node("ReduceMax", "half hw_axes", "k"), node("Conv", "k hw", "m")),
        {"NhwcMaxPool": 1}, {"hw_axes": ints(2, 3)},
    ),
    "the mean of each row": Case(
        after(node("ReduceMean", "half w_axis", "k"), node("Conv", "k hw", "m")),
        {"QLinearAveragePool": 1}, {"w_axis": ints(3)},
    ),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", CASES)
def test_rows(tmp_path: Path, name: str, form: str) -> None:
    case = CASES[name]
    more = {
        k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in case.weights.items()
    }
    model = network(tmp_path, case.nodes, POINTWISE | more)
    proto = quantize(model, Images(24), format=form)
    found = executed(proto, tmp_path)
    assert {op: found[op] for op in case.runs} == case.runs
    assert found["DequantizeLinear"] == case.floats
    assert sqnr(model, proto) > case.least


def test_every_row_has_a_case() -> None:
    of_cases = Counter(n.op_type for case in CASES.values() for n in case.nodes)
    assert set(OPERATORS) - set(of_cases) == {
        *("QuickGelu", "Gelu", "FastGelu", "RMSNormalization")
    }


@pytest.mark.parametrize(
    ("changed", "role"),
    [
        (node("Resize", "x none twice", "y", mode="linear"), "fp32"),
        (node("Resize", "x none twice", "y"), "moves"),
        (node("MaxPool", "x", "y places", kernel_shape=[2, 2]), "fp32"),
        (node("Erf", "x", "y"), "fp32"),
        (node("Add", "x y", "z", domain="elsewhere"), "fp32"),
    ],
    ids=["linear Resize", "Resize", "MaxPool with indices", "Erf", "another domain's Add"],
)
def test_what_a_kernel_does_not_take_has_no_row(changed: onnx.NodeProto, role: str) -> None:
    assert row(changed).role == role
