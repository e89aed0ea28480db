"""Replace operators that ONNX Runtime's optimizer fused by the standard ones they stand for.

Who saves an optimized model has FusedConv and its kin in the file, which nobody but ONNX Runtime
knows; as a Conv and its activation they are quantized like any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantlab.errors import QuantizeError
from quantlab.model import graph as g
from quantlab.model.large import array_of
from quantlab.model.model import main_opset

CONTRIB = "com.microsoft"
_LAID_OUT = "com.microsoft.nchwc"
_PARAMETERS: Mapping[str, Mapping[str, float]] = {
    "Relu": {},
    "Sigmoid": {},
    "Tanh": {},
    "HardSwish": {},
    "LeakyRelu": {"alpha": 0.01},
    "Elu": {"alpha": 1.0},
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Clip": {"min": -math.inf, "max": math.inf},
}
"""The activations that are fused, with their parameters in order and what these are by default."""


def unfuse(proto: onnx.ModelProto) -> None:
    """In place: FusedConv, FusedGemm, FusedMatMul and the Gelus of ONNX Runtime become standard
    operators, the first of which keeps the node's name. What else it fuses stays as it is.

    Raises QuantizeError for weights that it laid out for one kind of CPU.
    """
    if any(node.domain == _LAID_OUT for node in proto.graph.node):
        raise QuantizeError(
            "ONNX Runtime's optimizer has laid the model out for one kind of CPU (operators of the "
            f"domain {_LAID_OUT}).",
            "Give the original file, or one optimized at level extended at most.",
        )
    if not any(node.domain == CONTRIB for node in proto.graph.node):
        return
    apart = _Unfused(proto)
    g.set_nodes(proto.graph, [made for node in list(proto.graph.node) for made in apart(node)])


class _Unfused:
    """The nodes that compute what one node does: itself, or several standard ones."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self._graph, self._opset = proto.graph, main_opset(proto)
        self._weights = g.initializers(proto.graph)
        self._tensors = g.Names(g.tensor_names(proto.graph))
        self._names = g.Names(g.node_names(proto.graph))
        self._base = ""
        self._made: list[onnx.NodeProto] = []

    def __call__(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        self._base, self._made = node.output[0], []
        if node.domain != CONTRIB or not self._computed(node):
            return [node]
        self._made[0].name = node.name
        self._made[-1].output[0] = node.output[0]
        return self._made

    def _computed(self, node: onnx.NodeProto) -> bool:
        """Whether it was taken apart."""
        reads = [*node.input, "", "", ""]
        match node.op_type:
            case "FusedConv":
                made = self._node("Conv", *node.input[:3], **_own(node))
                made = self._node("Add", made, reads[3]) if reads[3] else made
                return self._activation(node, made, g.attribute(node, "activation_params", [0.0]))
            case "FusedGemm":
                made = self._node("Gemm", *node.input, **_own(node))
                given = [a.f for name in ("alpha", "beta") for a in _attribute(node, name)]
                return self._activation(node, made, given)
            case "FusedMatMul":
                return self._matmul(node)
            case "QuickGelu":
                alpha = g.attribute(node, "alpha", 1.702)
                data = reads[0] if alpha == 1 else self._times(reads[0], alpha)
                self._node("Mul", reads[0], self._node("Sigmoid", data))
            case "Gelu" | "BiasGelu":
                data = self._node("Add", *reads[:2]) if node.op_type == "BiasGelu" else reads[0]
                grown = self._node("Erf", self._times(data, 1 / math.sqrt(2)))
                self._half(data, grown)
            case "FastGelu":
                data = self._node("Add", *reads[:2]) if reads[1] else reads[0]
                cube = self._node("Mul", self._node("Mul", data, data), data)
                inner = self._node("Add", data, self._times(cube, 0.044715))
                self._half(data, self._node("Tanh", self._times(inner, math.sqrt(2 / math.pi))))
            case _:
                return False
        return True

    def _activation(self, node: onnx.NodeProto, data: str, given: Sequence[float]) -> bool:
        """The activation that ``node`` names, on ``data``; False for an unknown one."""
        kind = g.attribute(node, "activation", "")
        if kind not in _PARAMETERS:
            return not kind
        values = dict(zip(_PARAMETERS[kind], given, strict=False))
        if kind == "Clip" and self._opset >= 11:
            self._node("Clip", data, *(self._constant(v) for v in values.values()))
        else:
            self._node(kind, data, **{**_PARAMETERS[kind], **values})
        return True

    def _matmul(self, node: onnx.NodeProto) -> bool:
        """Of matrices that need no transposing but for constant weights of rank 2."""
        other = ("transA", "transBatchA", "transBatchB")
        weight = self._weights.get(node.input[1])
        data, second = node.input
        if g.attribute(node, "transB", 0):
            if weight is None or len(weight.dims) != 2:
                return False
            second = self._constant(array_of(weight).T)
        if any(g.attribute(node, name, 0) for name in other):
            return False
        made = self._node("MatMul", data, second)
        alpha = g.attribute(node, "alpha", 1.0)
        if alpha != 1:
            self._times(made, alpha)
        return True

    def _times(self, data: str, factor: float) -> str:
        return self._node("Mul", data, self._constant(factor))

    def _half(self, data: str, grown: str) -> None:
        """data · (1 + grown) / 2."""
        self._times(self._node("Mul", data, self._node("Add", grown, self._constant(1.0))), 0.5)

    def _constant(self, value: g.Array | float) -> str:
        name = self._tensors.new(f"{self._base}_constant")
        array = value if isinstance(value, np.ndarray) else np.array(value, np.float32)
        g.set_initializer(self._graph, name, array)
        return name

    def _node(self, op: str, *reads: str, **attributes: Any) -> str:
        name, made = f"{self._base}_{op}", self._tensors.new(f"{self._base}_{op}")
        label = self._names.new(name) if self._made else ""
        self._made.append(helper.make_node(op, [*reads], [made], name=label, **attributes))
        return made


def _attribute(node: onnx.NodeProto, name: str) -> list[onnx.AttributeProto]:
    return [a for a in node.attribute if a.name == f"activation_{name}"]


def _own(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes that are not the activation's."""
    return {
        a.name: helper.get_attribute_value(a)
        for a in node.attribute
        if not a.name.startswith("activation")
    }
