"""Scales and zero points of every quantized tensor, in QOperator and QDQ files alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.model import graph as g
from quantlab.model.large import array_of

ScaleRole = Literal["activation", "weight", "bias"]
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


class QuantizedTensor(BaseModel):
    """One quantized tensor. Per-channel values are shown as their range; ``channels`` is 1 for a
    single scale. Real value = (integer − zero point) · scale."""

    model_config = ConfigDict(frozen=True)

    name: str
    role: ScaleRole
    dtype: str
    channels: int
    scale_min: float
    scale_max: float
    zero_point_min: int
    zero_point_max: int


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


def list_quantized_tensors(graph: onnx.GraphProto) -> tuple[QuantizedTensor, ...]:
    """Every quantized tensor once, in the order of the nodes that touch it.

    A scale that is computed while the model runs has no value here; such tensors are left out.
    """
    weights = g.initializers(graph)
    constants = {n: array_of(t) for n, t in weights.items() if len(t.dims) < 2}
    quantized_weights = _quantized_weights(graph, weights)
    found: dict[str, QuantizedTensor] = {}
    for node in graph.node:
        for operand in operands(node):
            if operand.tensor not in found and operand.scale in constants:
                constant = operand.tensor in quantized_weights
                found[operand.tensor] = _tensor(operand, constants, weights, constant=constant)
    return tuple(found.values())


def _quantized_weights(graph: onnx.GraphProto, weights: dict[str, onnx.TensorProto]) -> set[str]:
    """Names of weights, and of what a QuantizeLinear makes of a weight."""
    made = {
        node.output[0]
        for node in graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] in weights
    }
    return made | set(weights)


def _tensor(
    operand: Operand,
    constants: dict[str, g.Array],
    weights: dict[str, onnx.TensorProto],
    *,
    constant: bool,
) -> QuantizedTensor:
    scale: NDArray[np.float64] = constants[operand.scale].reshape(-1).astype(np.float64)
    given = constants.get(operand.zero_point)
    zero: NDArray[np.int64] = (np.zeros(1) if given is None else given).reshape(-1).astype(np.int64)
    dtype = "uint8" if given is None else str(given.dtype)
    if operand.tensor in weights:
        kind = weights[operand.tensor].data_type
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind))
    role: ScaleRole = "activation" if not constant else "bias" if dtype == "int32" else "weight"
    return QuantizedTensor(
        name=operand.tensor,
        role=role,
        dtype=dtype,
        channels=len(scale),
        scale_min=float(scale.min()),
        scale_max=float(scale.max()),
        zero_point_min=int(zero.min()),
        zero_point_max=int(zero.max()),
    )
