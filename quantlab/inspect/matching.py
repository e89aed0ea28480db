"""Match each tensor of an int8 graph to one of its fp32 original."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from quantlab.inspect.kernels import tensor_types
from quantlab.model import graph as g
from quantlab.model.large import array_of
from quantlab.model.operands import operands

ACTIVATIONS = ("Relu", "Clip")
COMPUTING = (
    "Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Concat", "MaxPool",
    "AveragePool", "GlobalAveragePool", "ReduceMean", "Sigmoid", "HardSigmoid", "HardSwish",
    "LeakyRelu", "PRelu", "Softmax", "Resize", "BatchNormalization",
)  # fmt: skip
"""Operators worth a line of their own; others move numbers about."""
_WRITTEN_BY_QUANTLAB = re.compile(r"^quantlab/(.+)/(fp32|quantized|dequantized|before)(_\d+)?$")
_WRITTEN_BY_ORT = re.compile(
    r"^(.+?)(_quantized|_(Quantize|Dequantize)Linear_(Input|Output))$"
)  # fmt: skip


@dataclass(frozen=True)
class Quantizer:
    """Real value = (integer − zero) · scale, with integers of ``dtype``."""

    scale: float
    zero: int
    dtype: str

    def quantized(self, values: g.Array) -> g.Array:
        """Real numbers to integers: rounded to even, cut to the type."""
        limits = np.iinfo(self.dtype)
        steps = np.rint(np.asarray(values, np.float32) / np.float32(self.scale)) + self.zero
        return np.asarray(np.clip(steps, limits.min, limits.max).astype(self.dtype))

    def real(self, integers: g.Array) -> NDArray[np.float32]:
        """Integers to float32."""
        return (integers.astype(np.float32) - self.zero) * np.float32(self.scale)


@dataclass(frozen=True)
class Pair:
    """One tensor in both graphs.

    ``tensor`` is its name in the fp32 graph, ``other`` that in the int8 graph, where it holds
    integers if there is a ``quantizer`` and floats if not. ``node`` is the fp32 node that computes
    it, the activation after it left aside ("" for the model's input): the name that a recipe's
    ``exclude`` knows.
    """

    tensor: str
    other: str
    node: str
    op_type: str
    quantizer: Quantizer | None


@dataclass(frozen=True)
class Matching:
    """``pairs`` in the fp32 graph's order; ``unmatched`` are fp32 nodes without a counterpart."""

    pairs: tuple[Pair, ...]
    unmatched: tuple[str, ...]


def plain_name(name: str) -> str:
    """The fp32 name of a tensor that quantlab or ``onnxruntime.quantization`` renamed."""
    for pattern in (_WRITTEN_BY_QUANTLAB, _WRITTEN_BY_ORT):
        found = pattern.match(name)
        if found:
            return found[1]
    return name


def _fp32_name(name: str, known: Collection[str]) -> str:
    """``plain_name``, but for a tensor that the fp32 graph has by this very name."""
    return name if name in known else plain_name(name)


def match(fp32: onnx.GraphProto, int8: onnx.GraphProto) -> Matching:
    """Matches by name, and over an activation that became the quantizer's range.

    ONNX Runtime's QOperator files keep the convolution's name for what is the output of its Relu or
    Clip in fp32: such a tensor is matched with the activation's output.
    """
    known = g.tensor_names(fp32)
    quantizers, floats = _quantizers(int8, known), _floats(int8, known)
    made_by, read_by = g.producers(fp32), g.consumers(fp32)
    pairs, unmatched = [], []
    for name, node in (*_inputs(fp32), *made_by.items()):
        if node is not None and node.op_type in ACTIVATIONS and _alone(node, made_by, read_by):
            continue
        end = _activated(name, read_by)
        place = next((n for n in (end, name) if n in quantizers or n in floats), None)
        if place is None:
            unmatched += [node.name] if node is not None and node.op_type in COMPUTING else []
            continue
        other, quantizer = quantizers.get(place) or (floats[place], None)
        maker, op_type = (node.name, node.op_type) if node is not None else ("", "input")
        pairs.append(Pair(end, other, maker, op_type, quantizer))
    return Matching(tuple(pairs), tuple(unmatched))


def _inputs(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.NodeProto | None]]:
    weights = g.initializers(graph)
    return ((v.name, None) for v in graph.input if v.name not in weights)


def _alone(
    node: onnx.NodeProto,
    made_by: Mapping[str, onnx.NodeProto],
    read_by: Mapping[str, list[onnx.NodeProto]],
) -> bool:
    """Whether the activation is the only reader of a node's output, and so part of that node."""
    source = node.input[0]
    return source in made_by and len(read_by[source]) == 1


def _activated(name: str, read_by: Mapping[str, list[onnx.NodeProto]]) -> str:
    readers = read_by.get(name, [])
    alone = len(readers) == 1 and readers[0].op_type in ACTIVATIONS
    return _activated(readers[0].output[0], read_by) if alone else name


def _quantizers(graph: onnx.GraphProto, known: Collection[str]) -> dict[str, tuple[str, Quantizer]]:
    """By fp32 name: the integer tensor and its quantizer, of activations."""
    weights = g.initializers(graph)
    made_by = g.producers(graph)
    found: dict[str, tuple[str, Quantizer]] = {}
    for node in graph.node:
        for operand in operands(node):
            name = operand.tensor
            held = node.op_type == "DequantizeLinear" and made_by.get(name) is None
            if name in weights or held or weights.get(operand.scale) is None:
                continue
            quantizer = _quantizer(weights, operand.scale, operand.zero_point)
            maker = made_by.get(name)
            by_quantizer = maker is not None and maker.op_type == "QuantizeLinear"
            source = maker.input[0] if maker is not None and by_quantizer else name
            if quantizer is not None and source not in weights:
                found.setdefault(_fp32_name(source, known), (name, quantizer))
    return found


def _quantizer(weights: Mapping[str, onnx.TensorProto], scale: str, zero: str) -> Quantizer | None:
    """None for scales per channel, which activations do not have."""
    scales = array_of(weights[scale]).reshape(-1)
    zeros = array_of(weights[zero]).reshape(-1) if zero in weights else None
    if len(scales) != 1:
        return None
    if zeros is None:
        return Quantizer(float(scales[0]), 0, "uint8")
    return Quantizer(float(scales[0]), int(zeros[0]), str(zeros.dtype))


def _floats(graph: onnx.GraphProto, known: Collection[str]) -> dict[str, str]:
    """By fp32 name: the float tensors that are neither weights nor made of integers."""
    types = tensor_types(graph)
    return {
        _fp32_name(name, known): name
        for node in graph.node
        if node.op_type != "DequantizeLinear"
        for name in node.output
        if types.get(name) == TensorProto.FLOAT
    } | {v.name: v.name for v in graph.output}
