"""The quantized tensors of a node, in QOperator and QDQ files alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx

_OUTPUT = -1
_THREE = ((0, 1, 2), (3, 4, 5), (_OUTPUT, 6, 7))
_POOL = ((0, 1, 2), (_OUTPUT, 3, 4))
_OPERANDS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "QuantizeLinear": ((_OUTPUT, 1, 2),),
    "DequantizeLinear": ((0, 1, 2),),
    "QLinearConv": _THREE,
    "QLinearMatMul": _THREE,
    "QLinearAdd": _THREE,
    "QLinearMul": _THREE,
    "QGemm": ((0, 1, 2), (3, 4, 5), (_OUTPUT, 7, 8)),
    "QLinearGlobalAveragePool": _POOL,
    "QLinearAveragePool": _POOL,
    "QLinearReduceMean": _POOL,
    "QLinearLeakyRelu": _POOL,
    "QLinearSigmoid": _POOL,
    "QLinearSoftmax": _POOL,
    "MatMulIntegerToFloat": ((0, 2, 4), (1, 3, 5)),
}
"""Positions of (tensor, scale, zero point) among a node's inputs; -1 is its first output."""


@dataclass(frozen=True)
class Operand:
    """The names of a quantized tensor, its scale and its zero point ("" without one)."""

    tensor: str
    scale: str
    zero_point: str


def operands(node: onnx.NodeProto) -> Iterator[Operand]:
    """The quantized tensors that the node reads and makes."""
    positions = _OPERANDS.get(node.op_type, ())
    if node.op_type == "QLinearConcat":
        positions = ((_OUTPUT, 0, 1), *((i, i + 1, i + 2) for i in range(2, len(node.input), 3)))
    for tensor, scale, zero_point in positions:
        name = node.output[0] if tensor == _OUTPUT else _input(node, tensor)
        if name and _input(node, scale):
            yield Operand(name, _input(node, scale), _input(node, zero_point))


def _input(node: onnx.NodeProto, position: int) -> str:
    return node.input[position] if position < len(node.input) else ""
