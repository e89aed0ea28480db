"""Scales and zero points of every quantized tensor, in QOperator and QDQ files alike."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.model import graph as g
from quantlab.model.large import array_of
from quantlab.model.operands import Operand, operands

ScaleRole = Literal["activation", "weight", "bias"]


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
