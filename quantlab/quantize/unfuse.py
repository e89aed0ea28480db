"""Replace operators that ONNX Runtime's optimizer fused by the standard ones they stand for.

Who saves an optimized model has FusedConv and its kin in the file, which nobody but ONNX Runtime
knows; as a Conv and its activation they are quantized like any other. Normalizations are taken
apart too: preparation joins them again, in the opset that has them.
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


_HOLD_WEIGHTS = {
    "FusedConv", "FusedGemm", "FusedMatMul", "TransposeMatMul", "FusedMatMulActivation",
    "GemmFastGelu", "NhwcConv", "NhwcFusedConv", "Attention", "MultiHeadAttention",
    "PackedAttention", "PackedMultiHeadAttention", "DecoderAttention", "GroupQueryAttention",
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "EmbedLayerNormalization",
    "GroupNorm", "SkipGroupNorm",
}  # fmt: skip
"""What would keep products and residual sums from being quantized, were it left as it is."""
_OWN_STANDARD = {"LayerNormalization": 17, "SimplifiedLayerNormalization": 1000}
"""What ONNX Runtime writes as standard operators in opsets before these, which do not have them."""


def unfuse(proto: onnx.ModelProto) -> None:
    """In place: FusedConv, FusedGemm, FusedMatMul, Gelus, normalizations with a sum and plain
    attention of ONNX Runtime become standard operators, the first of which keeps the node's name.
    What else it has of its own stays as it is.

    Raises QuantizeError for weights that it laid out for one kind of CPU, and for forms of fused
    operators that are not taken apart.
    """
    if any(node.domain == _LAID_OUT for node in proto.graph.node):
        raise QuantizeError(
            "ONNX Runtime's optimizer has laid the model out for one kind of CPU (operators of the "
            f"domain {_LAID_OUT}).",
            "Give the original file, or one optimized at level extended at most.",
        )
    apart = _Unfused(proto)
    if not any(map(apart.own, proto.graph.node)):
        return
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
        """Raises QuantizeError for a fused operator in a form that is not taken apart."""
        if not self.own(node):
            return [node]
        self._base, self._made = node.output[0], []
        beside = [name for name in node.output[1:] if name]
        known = not beside or node.op_type.startswith("Skip")
        if not known or not self._computed(node):
            if node.op_type in _HOLD_WEIGHTS | set(_OWN_STANDARD):
                raise QuantizeError(
                    f"node {node.name or node.output[0]}: ONNX Runtime's optimizer made this "
                    f"{node.op_type} of several operators, and it is not known how to take it "
                    "apart.",
                    "Give the file that the framework's exporter wrote, or one optimized at level "
                    "basic.",
                )
            return [node]
        self._made[0].name = node.name
        self._made[-1].output[0] = node.output[0]
        return self._made

    def own(self, node: onnx.NodeProto) -> bool:
        """Whether the node is ONNX Runtime's own."""
        before = _OWN_STANDARD.get(node.op_type, 0)
        return node.domain == CONTRIB or (
            g.is_standard(node, *_OWN_STANDARD) and self._opset < before
        )

    def _computed(self, node: onnx.NodeProto) -> bool:
        """Whether it was taken apart."""
        reads = [*node.input, *[""] * 12][:12]
        match node.op_type:
            case "FusedConv":
                made = self._node("Conv", *node.input[:3], **_own(node))
                made = self._node("Add", made, reads[3]) if reads[3] else made
                return self._activation(node, made, g.attribute(node, "activation_params", [0.0]))
            case "FusedGemm":
                made = self._node("Gemm", *node.input, **_own(node))
                given = [a.f for name in ("alpha", "beta") for a in _attribute(node, name)]
                return self._activation(node, made, given)
            case "FusedMatMul" | "TransposeMatMul":
                return self._matmul(node)
            case "LayerNormalization" | "SimplifiedLayerNormalization":
                return self._normalized(node, reads[0], *reads[1:3])
            case "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization":
                return self._with_skip(node, reads)
            case "BiasSoftmax" if self._opset >= 13:
                total = self._node("Add", *reads[:2])
                self._node("Softmax", total, axis=g.attribute(node, "axis", 1))
            case "Attention":
                return self._attention(node, reads)
            case "MultiHeadAttention":
                return self._heads_of_three(node, reads)
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
        """Of matrices that need no transposing but for the last two axes."""
        if any(g.attribute(node, name, 0) for name in ("transBatchA", "transBatchB")):
            return False
        terms = ["...ij", "...jk"]
        reads = list(node.input)
        for i, name in enumerate(reads):
            if g.attribute(node, "transA" if i == 0 else "transB", 0):
                weight = self._weights.get(name)
                if weight is not None and len(weight.dims) >= 2:
                    reads[i] = self._constant(np.swapaxes(array_of(weight), -1, -2).copy())
                else:
                    terms[i] = terms[i][:3] + terms[i][:2:-1]
        if terms == ["...ij", "...jk"]:
            made = self._node("MatMul", *reads)
        elif self._opset >= 12:  # the ranks may not be known yet
            made = self._node("Einsum", *reads, equation=f"{terms[0]},{terms[1]}->...ik")
        else:
            return False
        alpha = g.attribute(node, "alpha", 1.0)
        if alpha != 1:
            self._times(made, alpha)
        return True

    def _with_skip(self, node: onnx.NodeProto, reads: Sequence[str]) -> bool:
        """The sum of both, and of a bias, normalized; the fourth output is the sum."""
        simple = node.op_type == "SkipSimplifiedLayerNormalization"
        gain, shift, bias = reads[2], "" if simple else reads[3], reads[3 if simple else 4]
        if any(node.output[1:3]):
            return False
        total = self._node("Add", *reads[:2])
        total = self._node("Add", total, bias) if bias else total
        if len(node.output) > 3 and node.output[3]:
            self._made[-1].output[0] = total = node.output[3]
        return self._normalized(node, total, gain, shift)

    def _normalized(self, node: onnx.NodeProto, data: str, gain: str, shift: str = "") -> bool:
        """LayerNormalization over the last axes, or division by the root mean square."""
        first = g.attribute(node, "axis", -1)
        if first >= 0:
            return False
        axes = list(range(first, 0))
        epsilon = self._constant(g.attribute(node, "epsilon", 1e-5))
        if "Simplified" not in node.op_type:
            data = self._node("Sub", data, self._mean(data, axes))
        square = self._node("Pow", data, self._constant(2.0))
        root = self._node("Sqrt", self._node("Add", self._mean(square, axes), epsilon))
        made = self._node("Mul", self._node("Div", data, root), gain)
        if shift:
            self._node("Add", made, shift)
        return True

    def _mean(self, data: str, axes: Sequence[int]) -> str:
        if self._opset >= 18:
            return self._node("ReduceMean", data, self._constant(np.array(axes)))
        return self._node("ReduceMean", data, axes=axes)

    def _attention(self, node: onnx.NodeProto, reads: Sequence[str]) -> bool:
        """Of one tensor to itself, without masks and what came before: queries, keys and values of
        one product, heads along an axis of their own."""
        weight = self._weights.get(reads[1])
        other = any(g.attribute(node, name, 0) for name in ("unidirectional", "do_rotary"))
        sizes = any(a.name == "qkv_hidden_sizes" for a in node.attribute)
        if any(reads[3:]) or other or sizes or weight is None or len(weight.dims) != 2:
            return False
        heads, width = g.attribute(node, "num_heads", 1), weight.dims[1] // 3
        made = self._node("MatMul", *reads[:2])
        made = self._node("Add", made, reads[2]) if reads[2] else made
        shape = self._constant(np.array([0, 0, 3, heads, width // heads]))
        made = self._node("Transpose", self._node("Reshape", made, shape), perm=[2, 0, 3, 1, 4])
        parts = [self._node("Gather", made, self._constant(np.array(i)), axis=0) for i in range(3)]
        self._attend(node, parts, width // heads)
        return True

    def _heads_of_three(self, node: onnx.NodeProto, reads: Sequence[str]) -> bool:
        """Of queries, keys and values, [n, tokens, width] each, with a bias of all three."""
        bias = self._weights.get(reads[3])
        heads, scale = g.attribute(node, "num_heads", 1), g.attribute(node, "scale", 0.0)
        known = bias is not None or scale
        if any(reads[4:]) or not all(reads[:3]) or g.attribute(node, "unidirectional", 0):
            return False
        if not known or (reads[3] and bias is None):
            return False
        width = bias.dims[0] // 3 if bias is not None else 0
        parts = []
        for i, name in enumerate(reads[:3]):
            if bias is not None:
                part = array_of(bias)[i * width : (i + 1) * width]
                name = self._node("Add", name, self._constant(part.copy()))
            shape = self._constant(np.array([0, 0, heads, -1]))
            parts.append(
                self._node("Transpose", self._node("Reshape", name, shape), perm=[0, 2, 1, 3])
            )
        self._attend(node, parts, width // heads)
        return True

    def _attend(self, node: onnx.NodeProto, parts: Sequence[str], width: int) -> None:
        """Queries, keys and values, [n, heads, tokens, width] each, to [n, tokens, all]."""
        queries, keys, values = parts
        turned = self._node("Transpose", keys, perm=[0, 1, 3, 2])
        scale = g.attribute(node, "scale", 0.0) or 1 / math.sqrt(width)
        scores = self._times(self._node("MatMul", queries, turned), scale)
        shares = self._node("Softmax", scores, axis=3)
        made = self._node("Transpose", self._node("MatMul", shares, values), perm=[0, 2, 1, 3])
        self._node("Reshape", made, self._constant(np.array([0, 0, -1])))

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
