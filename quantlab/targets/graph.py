"""A quantized model's graph, as targets' rules ask about it: QDQ and QOperator files alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.model import graph as g
from quantlab.model.large import array_of
from quantlab.model.operands import Operand, operands
from quantlab.targets.operators import KEEPING

TensorRole = Literal["activation", "weight", "bias"]
_TYPES = {
    "uint8": "u8", "int8": "s8", "uint16": "u16", "int16": "s16", "int32": "s32",
    "uint4": "u4", "int4": "s4",
}  # fmt: skip
_ACTIVATIONS = ("Relu", "Clip")
_INTEGER_WEIGHTS = {
    "QLinearConv": (0, 3), "QLinearMatMul": (0, 3), "QGemm": (0, 3), "ConvInteger": (0, 1),
    "MatMulInteger": (0, 1), "MatMulIntegerToFloat": (0, 1), "DynamicQuantizeMatMul": (0, 1),
}  # fmt: skip
"""Positions of the activation and of the weight in operators that compute with integers."""
_LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class Encoding:
    """One tensor as integers: real value = (integer − zero) · scale.

    ``dtype`` is "u8", "s8" and so on; ``scale`` float64 [1] or [channels] along ``axis``, ``zero``
    int64 likewise. ``node`` reads or makes the integers ``tensor``.
    """

    node: onnx.NodeProto
    tensor: str
    role: TensorRole
    dtype: str
    scale: NDArray[np.float64]
    zero: NDArray[np.int64]
    axis: int

    def same_as(self, other: Encoding) -> bool:
        """Whether both give the same integers for the same numbers."""
        return (
            self.dtype == other.dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero, other.zero)
        )

    @property
    def words(self) -> str:
        """Scale and zero point, for a sentence."""
        if len(self.scale) > 1:
            return f"{len(self.scale)} scales"
        return f"scale {self.scale[0]:.6g}, zero point {self.zero[0]}"


@dataclass(frozen=True, eq=False)
class WeightedLayer:
    """A node that multiplies ``data`` by a constant. ``weight`` is None where that is in floats."""

    node: onnx.NodeProto
    data: str
    weight: Encoding | None
    bias: str

    @property
    def is_conv(self) -> bool:
        """Whether its weights are a convolution's."""
        return "Conv" in self.node.op_type


class QuantizedGraph:
    """Questions to a graph. Nothing is changed."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.graph = proto.graph
        self.nodes = list(proto.graph.node)
        self.made_by = g.producers(proto.graph)
        self.read_by = g.consumers(proto.graph)
        self.outputs = {v.name for v in proto.graph.output}
        self._tensors = g.initializers(proto.graph)
        for node in self.nodes:
            for found in node.attribute if node.op_type == "Constant" else ():
                if found.name == "value":
                    self._tensors[node.output[0]] = found.t

    def is_constant(self, name: str) -> bool:
        """Whether the tensor is a constant."""
        return name in self._tensors

    def array(self, name: str) -> g.Array | None:
        """A constant's numbers."""
        tensor = self._tensors.get(name)
        return None if tensor is None else array_of(tensor)

    @cached_property
    def encodings(self) -> tuple[Encoding, ...]:
        """Every reading and making of integers whose scale is a constant, in the nodes' order."""
        every = ((n, o) for n in self.nodes for o in operands(n))
        return tuple(q for node, o in every if (q := self._encoding(node, o)) is not None)

    def of_role(self, role: TensorRole) -> Iterator[Encoding]:
        """Each tensor of that role once."""
        seen = set[str]()
        for found in self.encodings:
            if found.role == role and found.tensor not in seen:
                seen.add(found.tensor)
                yield found

    def _encoding(self, node: onnx.NodeProto, operand: Operand) -> Encoding | None:
        scale, zero = self.array(operand.scale), self.array(operand.zero_point)
        count = 0 if scale is None else scale.size
        if scale is None or not count or (zero is not None and zero.size not in (1, count)):
            return None
        stored = self._tensors.get(operand.tensor)
        kind = "uint8" if zero is None else str(zero.dtype)
        if stored is not None:
            kind = str(onnx.helper.tensor_dtype_to_np_dtype(stored.data_type))
        dtype = _TYPES.get(kind, kind)
        role: TensorRole = "activation"
        feeds = node.op_type in _INTEGER_WEIGHTS or self._feeds_layer(operand.tensor)
        if feeds and self._stays(operand.tensor):
            role = "bias" if dtype == "s32" else "weight"
        zeros = np.zeros(1) if zero is None else zero
        return Encoding(
            node, operand.tensor, role, dtype,
            scale.reshape(-1).astype(np.float64), zeros.reshape(-1).astype(np.int64),
            g.attribute(node, "axis", 1),
        )  # fmt: skip

    def _feeds_layer(self, name: str) -> bool:
        """Whether a node that multiplies by constants reads the integers, dequantized."""
        readers = self.read_by.get(name, [])
        return any(
            self._feeds_layer(r.output[0]) if r.op_type == "DequantizeLinear" else
            g.is_standard(r, *_LINEAR)
            for r in readers
        )  # fmt: skip

    def _float_constant(self, name: str) -> str | None:
        """The constant of which a QuantizeLinear makes these integers."""
        maker = self.made_by.get(name)
        if maker is None or maker.op_type != "QuantizeLinear":
            return None
        return maker.input[0] if self.is_constant(maker.input[0]) else None

    def rank(self, layer: WeightedLayer) -> int:
        """The dimensions of a layer's weights."""
        found = self.integers(layer.weight) if layer.weight is not None else None
        return 0 if found is None else found.ndim

    def integers(self, found: Encoding) -> NDArray[np.int64] | None:
        """The integers of a weight, as stored or as the model will make them of its floats; None
        where its scales do not fit it."""
        stored = self.array(found.tensor)
        if stored is not None:
            return np.asarray(stored).astype(np.int64)
        floats = self.array(self._float_constant(found.tensor) or "")
        if floats is None:
            return None
        shape = [1] * floats.ndim
        if len(found.scale) > 1:
            if floats.shape[found.axis : found.axis + 1 or None] != found.scale.shape:
                return None
            shape[found.axis] = -1
        scale = found.scale.reshape(shape)
        zero = np.broadcast_to(found.zero, found.scale.shape).reshape(shape)
        units = np.rint(floats.astype(np.float64) / scale) + zero
        low, high = (0, 255) if found.dtype == "u8" else (-128, 127)
        return np.asarray(np.clip(units, low, high), np.int64)

    def read_from(self, name: str) -> Encoding | None:
        """The DequantizeLinear that makes this tensor of integers."""
        return self._of_node.get(id(self.made_by.get(name)))

    def comes_from(self, name: str) -> Encoding | None:
        """The same, also where the numbers were moved about since, or joined with others of the
        same scale."""
        maker = self.made_by.get(name)
        if maker is not None and g.is_standard(maker, *KEEPING, "Identity"):
            return self.comes_from(maker.input[0])
        if maker is not None and g.is_standard(maker, "Concat"):
            first, *more = (self.comes_from(each) for each in maker.input)
            alike = first is not None and all(q is not None and q.same_as(first) for q in more)
            return first if alike else None
        return self.read_from(name)

    def goes_to(self, name: str) -> tuple[Encoding, ...]:
        """The QuantizeLinear nodes that the tensor reaches, behind a Relu, Clip or move or not."""
        found: list[Encoding] = []
        for reader in self.read_by.get(name, []):
            if id(reader) in self._of_node and reader.op_type == "QuantizeLinear":
                found.append(self._of_node[id(reader)])
            elif (
                g.is_standard(reader, *_ACTIVATIONS, *KEEPING, "Identity")
                and reader.input[0] == name
            ):
                found += self.goes_to(reader.output[0])
        return tuple(found)

    def quantized_at_once(self, name: str) -> Encoding | None:
        """The QuantizeLinear that reads the tensor itself."""
        kinds = (self._of_node.get(id(reader)) for reader in self.read_by.get(name, []))
        return next((q for q in kinds if q is not None and q.node.input[0] == name), None)

    @cached_property
    def _of_node(self) -> dict[int, Encoding]:
        """Of Q and DQ nodes, by the node."""
        kinds = ("QuantizeLinear", "DequantizeLinear")
        return {id(q.node): q for q in self.encodings if q.node.op_type in kinds}

    @cached_property
    def layers(self) -> tuple[WeightedLayer, ...]:
        """Every node of a QDQ file that multiplies by a constant."""
        return tuple(x for node in self.nodes if (x := self._layer(node)) is not None)

    def _layer(self, node: onnx.NodeProto) -> WeightedLayer | None:
        if not g.is_standard(node, *_LINEAR) or len(node.input) < 2:
            return None
        for data, other in ((0, 1), (1, 0)):
            name = node.input[other]
            read = self.read_from(name)
            weight = read if read is not None and read.role != "activation" else None
            if weight is not None or self.is_constant(name):
                bias = node.input[2] if len(node.input) > 2 else ""
                return WeightedLayer(node, node.input[data], weight, bias)
            if node.op_type != "MatMul":
                break
        return None

    def data_inputs(self, node: onnx.NodeProto) -> list[str]:
        """The tensors that it reads and that are neither constants nor made of constants."""
        reads = [n for n in node.input if n and not self.is_constant(n)]
        encodings = {n: self.read_from(n) for n in reads}
        return [n for n, q in encodings.items() if q is None or not self._stays(q.tensor)]

    def _stays(self, name: str) -> bool:
        """Whether integers are a constant's."""
        return self.is_constant(name) or self._float_constant(name) is not None

    def weight_rows(self) -> Iterator[tuple[str, NDArray[np.int64], int]]:
        """Of each layer that multiplies u8 activations by s8 constants: its name, the weights
        [outputs, positions · channels], channels running fastest, and the number of channels.

        Depthwise convolutions, which are summed in 32 bits, are left out.
        """
        for layer in self.layers:
            data = self.comes_from(layer.data)
            if layer.weight is not None and data is not None and data.dtype == "u8":
                yield from _rows(layer.node, layer.weight.dtype, self.integers(layer.weight))
        for node in self.nodes:
            if (positions := _INTEGER_WEIGHTS.get(node.op_type)) is not None:
                weight = self.array(node.input[positions[1]])
                if weight is not None and self._reads_u8(node, node.input[positions[0]]):
                    yield from _rows(node, _TYPES.get(str(weight.dtype), ""), weight)

    def _reads_u8(self, node: onnx.NodeProto, name: str) -> bool:
        own = [q for q in self.encodings if q.node is node and q.tensor == name]
        return all(q.dtype == "u8" for q in own)  # dynamic ranges are u8, too


def _rows(
    node: onnx.NodeProto, kind: str, weight: g.Array | None
) -> Iterator[tuple[str, NDArray[np.int64], int]]:
    if kind != "s8" or weight is None or weight.ndim < 2 or node.op_type == "ConvTranspose":
        return
    if "Conv" in node.op_type:
        groups = g.attribute(node, "group", 1)
        if groups > 1 and weight.shape[:2] == (groups, 1):
            return
        channels, rows = weight.shape[1], np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    else:
        turned = "Gemm" in node.op_type and g.attribute(node, "transB", 0) == 1
        matrix = weight if turned else np.swapaxes(weight, -1, -2)
        channels, rows = matrix.shape[-1], matrix.reshape(-1, matrix.shape[-1])
    yield node.name or node.output[0], rows.astype(np.int64), channels
