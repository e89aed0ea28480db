"""The table of ONNX operators: what ONNX Runtime and the engine do with each in int8.

An operator that is not in the table has no int8 kernel and stays in fp32.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from typing import Literal

import onnx
from onnx import helper

from quantlab.model import graph as g

CONTRIB = "com.microsoft"
OperatorRole = Literal["weights", "moves", "follows", "fp32"]


@dataclass(frozen=True)
class Operator:
    """One operator's row.

    ``role``: "weights" multiplies its input by constant weights, and is quantized wherever it is;
    "moves" moves numbers about or selects them, so that its output has its input's scale, and is
    in int8 where its input is; "follows" computes, and is in int8 where all its inputs are; "fp32"
    has an int8 kernel that does not pay (``reason``), or weights that ONNX Runtime rounds.

    ``integer`` is the operator that stands for it in a QOperator file, of the domain ``domain``;
    None where the operator itself takes integers. ``bounds`` are those of its output, whatever it
    reads; ``window`` is the interval of its input beyond which its output changes by less than half
    of an 8-bit step. ``scales_channels``: channels scaled before it are scaled after it.
    ``clips``: a Relu or Clip behind it is the range of its output's quantizer.
    ``gives_floats``: the integer kernel can give fp32 at no cost. ``rounds_weights``: ONNX Runtime
    quantizes its fp32 weights to the nearest between two quantizers. ``only`` are the values of
    attributes that the int8 kernel takes.
    """

    role: OperatorRole
    integer: str | None = None
    domain: str = CONTRIB
    bounds: tuple[float, float] | None = None
    window: tuple[float, float] = (-inf, inf)
    scales_channels: bool = False
    clips: bool = False
    gives_floats: bool = False
    rounds_weights: bool = False
    only: tuple[tuple[str, str], ...] = ()
    reason: str = ""


OPERATORS: dict[str, Operator] = {
    "Conv": Operator("weights", "QLinearConv", "", rounds_weights=True),
    "Gemm": Operator("weights", "QGemm", gives_floats=True, rounds_weights=True),
    "ConvTranspose": Operator("fp32", rounds_weights=True, reason="no int8 kernel"),
    "MatMul": Operator("follows", "QLinearMatMul", "", gives_floats=True),
    "Add": Operator("follows", "QLinearAdd", scales_channels=True, clips=True),
    "Mul": Operator("follows", "QLinearMul", clips=True),
    "Concat": Operator("follows", "QLinearConcat", clips=True),
    "GlobalAveragePool": Operator("follows", "QLinearGlobalAveragePool", scales_channels=True),
    "AveragePool": Operator("follows", "QLinearAveragePool", scales_channels=True, clips=True),
    "LeakyRelu": Operator("follows", "QLinearLeakyRelu"),
    "Sigmoid": Operator("follows", "QLinearSigmoid", bounds=(0.0, 1.0), window=(-6.5, 6.5)),
    "HardSigmoid": Operator("follows", "QLinearAdd", bounds=(0.0, 1.0)),
    "Softmax": Operator("fp32", reason="attention in int8 gains no time worth its error"),
    "QuickGelu": Operator("fp32", window=(-6.5, inf), reason="faster in fp32"),
    "Gelu": Operator("fp32", window=(-4.0, inf), reason="faster in fp32"),
    "FastGelu": Operator("fp32", window=(-4.0, inf), reason="faster in fp32"),
    **dict.fromkeys(
        ("PRelu", "Elu", "Selu", "Celu", "Mish", "Softplus"),
        Operator("fp32", reason="in fast operators it takes less time than a table"),
    ),
    **dict.fromkeys(
        ("ThresholdedRelu", "Softsign", "Tanh", "Erf"),
        Operator("fp32", reason="no int8 kernel, and a table takes longer"),
    ),
    **dict.fromkeys(
        ("LayerNormalization", "InstanceNormalization", "RMSNormalization"),
        Operator("fp32", reason="no int8 kernel"),
    ),
    "MaxPool": Operator("moves", scales_channels=True),
    "Flatten": Operator("moves", scales_channels=True),
    "Reshape": Operator("moves"),
    "Transpose": Operator("moves"),
    "Squeeze": Operator("moves"),
    "Unsqueeze": Operator("moves"),
    "Slice": Operator("moves"),
    "Gather": Operator("moves"),
    "Split": Operator("moves"),
    "Expand": Operator("moves"),
    "Tile": Operator("moves"),
    "DepthToSpace": Operator("moves"),
    "Resize": Operator("moves", only=(("mode", "nearest"),)),
}
_DEFAULTS = {"mode": "nearest"}
_CONTRIB_OPERATORS = {(CONTRIB, name) for name in ("QuickGelu", "Gelu", "FastGelu")}
_FP32 = Operator("fp32", reason="no int8 kernel")


def row(node: onnx.NodeProto) -> Operator:
    """The node's row; that of an operator without an int8 kernel where there is none for it."""
    known = g.is_standard(node, node.op_type) or (node.domain, node.op_type) in _CONTRIB_OPERATORS
    found = OPERATORS.get(node.op_type, _FP32) if known else _FP32
    given = ((g.attribute(node, name, _DEFAULTS[name]), value) for name, value in found.only)
    if found is OPERATORS["HardSigmoid"] and not _saturates(node):
        return _FP32
    one_output = len([name for name in node.output if name]) == 1 or node.op_type == "Split"
    return found if one_output and all(a == b for a, b in given) else _FP32


def _saturates(node: onnx.NodeProto) -> bool:
    """Whether a quantizer can be the HardSigmoid: whether its zero point is on the grid."""
    return g.attribute(node, "alpha", 0.2) > 0 and 0 <= g.attribute(node, "beta", 0.5) <= 1


def import_contrib(proto: onnx.ModelProto) -> None:
    """The model may hold ONNX Runtime's own operators."""
    if all(opset.domain != CONTRIB for opset in proto.opset_import):
        proto.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def operators(role: OperatorRole) -> Collection[str]:
    """The names of all operators of that role."""
    return tuple(name for name, found in OPERATORS.items() if found.role == role)
