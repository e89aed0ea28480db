"""Normalizations that exporters take apart, as one node: LayerNormalization, InstanceNormalization.

Before opset 17 PyTorch writes a LayerNormalization as ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt,
Div, Mul and Add; TensorFlow folds the scale into the root, and shifts by the mean last. Others are
written as ONNX Runtime computes them fastest: GroupNormalization, of which it makes 25 nodes, as
InstanceNormalization of groups, and the root of mean squares so that it joins the nodes itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from quantlab.model import graph as g
from quantlab.model.model import main_opset
from quantlab.quantize.rewriting import Rewriting, become

LAYER_NORMALIZATION_OPSET = 17
_MOST = 2**24
"""Numbers of a scale: a file may declare any size."""
_Shapes = Mapping[str, tuple[g.Dim, ...]]
_Doubles = NDArray[np.float64]


class _Over(NamedTuple):
    """A tensor, and the axes that a mean of it is over: none where they are not known."""

    data: str
    axes: tuple[int, ...]


_Root = tuple[_Over, float]
"""What √(variance + ε) is of, and ε."""


@dataclass(frozen=True)
class _Normalized:
    """(``data`` − mean) / √(variance + ``epsilon``) over ``axes``, then the constants ``scale`` and
    ``shift``, shaped to the tensor's rank. ``last`` is the node that makes it."""

    last: onnx.NodeProto
    data: str
    axes: tuple[int, ...]
    shape: tuple[g.Dim, ...]
    epsilon: float
    scale: _Doubles
    shift: _Doubles

    @property
    def by_image(self) -> bool:
        """Whether each channel of an image is normalized by itself."""
        return len(self.shape) > 3 and self.axes == tuple(range(2, len(self.shape)))

    @property
    def constant_axes(self) -> tuple[int, ...]:
        """The axes along which scale and shift may change."""
        return (1,) if self.by_image else self.axes


def can_be_joined(proto: onnx.ModelProto, shapes: _Shapes) -> bool:
    """Whether a LayerNormalization is written in several nodes."""
    return any(not found.by_image for found in _all_found(Rewriting(proto.graph), shapes))


def join_normalizations(proto: onnx.ModelProto, shapes: _Shapes) -> None:
    """In place: a normalization in several nodes becomes one, with the constants behind it. Over
    the channels of an image it is one between two Transposes."""
    rewriting = Rewriting(proto.graph)
    known = main_opset(proto) >= LAYER_NORMALIZATION_OPSET
    made = {}
    for found in list(_all_found(rewriting, shapes)):
        if known or found.by_image:
            whole = _with_constants(found, rewriting)
            made[whole.last.output[0]] = _nodes(whole, rewriting)
    nodes = [made.get(n.output[0], [n]) if n.output else [n] for n in proto.graph.node]
    g.set_nodes(proto.graph, [node for several in nodes for node in several])
    if made:
        g.prune(proto.graph)
    rest = _Match(Rewriting(proto.graph), shapes)
    for node in proto.graph.node:
        if g.is_standard(node, "Mul") and len(node.input) == 2:
            rest.divide_by_root(node)


def _all_found(rewriting: Rewriting, shapes: _Shapes) -> Iterator[_Normalized]:
    for node in rewriting.graph.node:
        if g.is_standard(node, "Div", "Mul", "Add") and len(node.input) == 2:
            found = _Match(rewriting, shapes).of(node)
            if found is not None and _can_be_written(found):
                yield found


def _can_be_written(found: _Normalized) -> bool:
    """Whether the sizes of the constants are known, and the axes are the last ones or channels."""
    sizes = [found.shape[axis] for axis in found.constant_axes]
    trailing = found.axes == tuple(range(len(found.shape)))[-len(found.axes) :]
    known = [size for size in sizes if isinstance(size, int)]
    whole = len(known) == len(sizes) and math.prod(known) <= _MOST
    return whole and (trailing or (found.axes == (1,) and len(found.shape) > 2))


class _Match:
    """Reads a normalization backwards from its last node."""

    def __init__(self, rewriting: Rewriting, shapes: _Shapes) -> None:
        self._rewriting, self._shapes = rewriting, shapes

    def of(self, node: onnx.NodeProto) -> _Normalized | None:
        """The normalization that the node ends, constants behind it aside."""
        first, second = node.input
        one, none = np.ones(1), np.zeros(1)
        if node.op_type == "Div":
            return self._made(node, self._centred(first), self._root(second), one, none)
        for a, b in ((first, second), (second, first)):
            if node.op_type == "Add":
                found = self._shifted_last(node, a, b)
            else:
                found = self._made(node, self._centred(a), *self._inverse(b), none)
            if found is not None:
                return found
        return None

    def _shifted_last(self, node: onnx.NodeProto, product: str, rest: str) -> _Normalized | None:
        """x · r + (shift − mean · r), r the scale over the root."""
        scaled, shifted = self._maker(product, "Mul"), self._maker(rest, "Sub")
        if scaled is None or shifted is None:
            return None
        shift = self._rewriting.weights.get(shifted.input[0])
        moved = self._maker(shifted.input[1], "Mul")
        if shift is None or moved is None:
            return None
        for data, inverse in (tuple(scaled.input), tuple(reversed(scaled.input))):
            over = self._mean(self._rewriting.other(moved, inverse))
            if over is not None and over.data == data:
                return self._made(node, over, *self._inverse(inverse), shift.astype(np.float64))
        return None

    def _made(
        self,
        node: onnx.NodeProto,
        centred: _Over | None,
        root: _Root | None,
        scale: _Doubles,
        shift: _Doubles,
    ) -> _Normalized | None:
        if centred is None or root is None or root[0] != centred or not centred.axes:
            return None
        shape = self._shapes[centred.data]
        if max(scale.ndim, shift.ndim) > len(shape):
            return None
        found = _Normalized(node, *centred, shape, root[1], np.ones(1), np.zeros(1))
        return _affected(found, scale, shift)

    def _maker(self, name: str, *operators: str) -> onnx.NodeProto | None:
        maker = self._rewriting.made_by.get(name)
        return maker if maker is not None and g.is_standard(maker, *operators) else None

    def _mean(self, name: str) -> _Over | None:
        """What a ReduceMean that keeps its axes makes the tensor of."""
        node = self._maker(name, "ReduceMean")
        if node is None:
            return None
        shape = self._shapes.get(node.input[0], ())
        axes = g.attribute(node, "axes", [0][:0])
        if len(node.input) > 1:
            axes = [int(n) for n in self._rewriting.weights.get(node.input[1], np.zeros(0))]
        known = bool(shape) and g.attribute(node, "keepdims", 1) == 1
        return _Over(node.input[0], tuple(sorted(a % len(shape) for a in axes)) if known else ())

    def _centred(self, name: str) -> _Over | None:
        """The tensor that this one is without its mean."""
        difference = self._maker(name, "Sub")
        over = self._mean(difference.input[1]) if difference is not None else None
        same = over is not None and difference is not None and over.data == difference.input[0]
        return over if same else None

    def _root(self, name: str) -> _Root | None:
        root = self._maker(name, "Sqrt", "Pow")
        if root is None or (root.op_type == "Pow" and not self._is(root.input[1], 0.5)):
            return None
        return self._variance(root.input[0])

    def _variance(self, name: str) -> _Root | None:
        """What the variance + ε is of, and ε."""
        total = self._maker(name, "Add")
        for variance in total.input if total is not None else ():
            mean = self._mean(variance)
            epsilon = self._epsilon(self._rewriting.other(total, variance)) if total else 0.0
            square = self._maker(mean.data, "Pow", "Mul") if mean is not None else None
            if mean is None or square is None or not epsilon:
                continue
            centred = self._centred(square.input[0])
            if centred is not None and self._is_square(square) and mean.axes == centred.axes:
                return centred, epsilon
        return None

    def _epsilon(self, name: str) -> float:
        """The positive float32 that the tensor holds, else 0."""
        value = self._rewriting.weights.get(name)
        known = value is not None and value.size == 1 and value.dtype == np.float32
        return max(float(value.item()), 0.0) if value is not None and known else 0.0

    def _inverse(self, name: str) -> tuple[_Root | None, _Doubles]:
        """What 1 / √(variance + ε), times a constant, is of; and the constant."""
        scale = np.ones(1)
        node = self._maker(name, "Reciprocal", "Div", "Pow", "Mul")
        if node is not None and node.op_type == "Mul":
            inner = next((n for n in node.input if n not in self._rewriting.weights), "")
            constant = self._rewriting.weights.get(self._rewriting.other(node, inner))
            scale = scale if constant is None else constant.astype(np.float64)
            node = None if constant is None else self._maker(inner, "Reciprocal", "Div", "Pow")
        if node is None:
            return None, scale
        match node.op_type:
            case "Reciprocal":
                return self._root(node.input[0]), scale
            case "Div":
                return (self._root(node.input[1]) if self._is(node.input[0], 1) else None), scale
            case _:
                inverse = self._is(node.input[1], -0.5)
                return (self._variance(node.input[0]) if inverse else None), scale

    def divide_by_root(self, node: onnx.NodeProto) -> None:
        """x · (1 / √(mean(x²) + ε)) over the last axis becomes x / √(mean(x²) + ε), with a Pow."""
        for data, inverse in (tuple(node.input), tuple(reversed(node.input))):
            one = self._maker(inverse, "Reciprocal", "Div")
            if one is None or (one.op_type == "Div" and not self._is(one.input[0], 1)):
                continue
            root = self._maker(one.input[-1], "Sqrt")
            total = self._maker(root.input[0], "Add") if root is not None else None
            for mean in total.input if total is not None else ():
                over = self._mean(mean)
                square = self._maker(over.data, "Pow", "Mul") if over is not None else None
                if over is None or square is None or square.input[0] != data:
                    continue
                last = over.axes == (len(self._shapes[over.data]) - 1,)
                if last and self._is_square(square):
                    two = self._rewriting.constant(f"{over.data}_two", np.array(2, np.float32))
                    become(square, "Pow", [data, two])
                    become(node, "Div", [data, one.input[-1]])
                    return

    def _is_square(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "Pow":
            return self._is(node.input[1], 2)
        return bool(node.input[0] == node.input[1])

    def _is(self, name: str, value: float) -> bool:
        weight = self._rewriting.weights.get(name)
        return weight is not None and weight.size == 1 and float(weight.item()) == value


def _affected(found: _Normalized, scale: _Doubles, shift: _Doubles) -> _Normalized | None:
    """The normalization, multiplied by the one and shifted by the other; None where they change
    along other axes."""
    rank = len(found.shape)
    both = [v.reshape([1] * (rank - v.ndim) + list(v.shape)) for v in (scale, shift)]
    for value in both:
        for axis, size in enumerate(value.shape):
            whole = axis in found.constant_axes and size == found.shape[axis]
            if size != 1 and not whole:
                return None
    return replace(found, scale=found.scale * both[0], shift=found.shift * both[0] + both[1])


def _with_constants(found: _Normalized, rewriting: Rewriting) -> _Normalized:
    """With the constants that are multiplied and added behind it."""
    while (reader := rewriting.only_reader(found.last.output[0])) is not None:
        value = rewriting.weights.get(rewriting.other(reader, found.last.output[0]))
        if value is None or value.dtype != np.float32 or value.ndim > len(found.shape):
            break
        number = value.astype(np.float64)
        if g.is_standard(reader, "Mul"):
            larger = _affected(found, number, np.zeros(1))
        elif g.is_standard(reader, "Add"):
            larger = _affected(found, np.ones(1), number)
        else:
            break
        if larger is None:
            break
        found = replace(larger, last=reader)
    return found


def _nodes(found: _Normalized, rewriting: Rewriting) -> list[onnx.NodeProto]:
    """The one node, and the Transposes that it needs."""
    output, name = found.last.output[0], found.last.name or found.last.output[0]
    sizes = {a: n for a in found.constant_axes if isinstance(n := found.shape[a], int)}
    whole = [sizes.get(axis, 1) for axis in range(len(found.shape))]
    constants = []
    for what, value in (("scale", found.scale), ("shift", found.shift)):
        full = np.broadcast_to(value, whole).reshape(list(sizes.values()))
        array = np.ascontiguousarray(full, np.float32)
        constants.append(rewriting.constant(f"{output}_{what}", array))
    if found.by_image:
        return [
            helper.make_node(
                "InstanceNormalization", [found.data, *constants], [output], name=name,
                epsilon=found.epsilon,
            )
        ]  # fmt: skip
    rank = len(found.shape)
    if found.axes[-1] == rank - 1:
        return [_layer_normalization(found.data, constants, output, name, found)]
    ends = [rewriting.names.new(f"{output}_{what}") for what in ("channels_last", "normalized")]
    labels = [rewriting.node_names.new(f"{name}_{what}") for what in ("before", "after")]
    last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    return [
        helper.make_node("Transpose", [found.data], ends[:1], name=labels[0], perm=last),
        _layer_normalization(ends[0], constants, ends[1], name, replace(found, axes=(rank - 1,))),
        helper.make_node("Transpose", ends[1:], [output], name=labels[1], perm=first),
    ]


def _layer_normalization(
    data: str, constants: Sequence[str], output: str, name: str, found: _Normalized
) -> onnx.NodeProto:
    axis = found.axes[0] - len(found.shape)
    return helper.make_node(
        "LayerNormalization", [data, *constants], [output], name=name, axis=axis,
        epsilon=found.epsilon,
    )  # fmt: skip


SCALES_BY_CHANNEL = 21
"""GroupNormalization has a scale for each channel from this opset on, one for each group before."""


def groups_as_instances(proto: onnx.ModelProto) -> None:
    """In place: a GroupNormalization of constants becomes an InstanceNormalization between two
    Reshapes; scales for each channel are multiplied and added behind it."""
    if not any(g.is_standard(node, "GroupNormalization") for node in proto.graph.node):
        return
    rewriting, shapes = Rewriting(proto.graph), g.tensor_shapes(proto)
    by_channel = main_opset(proto) >= SCALES_BY_CHANNEL
    kept: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        known = g.is_standard(node, "GroupNormalization")
        known = known and all(name in rewriting.weights for name in node.input[1:])
        shape = shapes.get(node.input[0], ()) if known else ()
        kept += _of_groups(node, shape, rewriting, by_channel) if len(shape) > 2 else [node]
    g.set_nodes(proto.graph, kept)


def _of_groups(
    node: onnx.NodeProto, shape: tuple[g.Dim, ...], rewriting: Rewriting, by_channel: bool
) -> list[onnx.NodeProto]:
    data, output, count = node.input[0], node.output[0], g.attribute(node, "num_groups", 1)
    scale, shift = (rewriting.weights[name] for name in node.input[1:])
    if not 0 < count <= scale.size:
        return [node]
    made: list[onnx.NodeProto] = []

    def add(op: str, *reads: str, **more: Any) -> str:
        name = rewriting.names.new(f"{output}_{op}")
        label = rewriting.node_names.new(f"{node.name or output}_{op}")
        made.append(helper.make_node(op, reads, [name], name=label, **more))
        return name

    def constant(what: str, value: g.Array) -> str:
        return rewriting.constant(f"{output}_{what}", value)

    own = scale, shift
    if by_channel:
        own = np.ones(count, scale.dtype), np.zeros(count, scale.dtype)
    groups = add("Reshape", data, constant("groups", np.array([0, count, -1])))
    constants = [constant(w, v) for w, v in zip(("scale", "shift"), own, strict=True)]
    epsilon = g.attribute(node, "epsilon", 1e-5)
    normalized = add("InstanceNormalization", groups, *constants, epsilon=epsilon)
    made[-1].name = node.name
    sizes = [size if isinstance(size, int) else -1 for size in shape[1:]]
    known = sizes.count(-1) < 2
    back = constant("shape", np.array([0, *sizes])) if known else add("Shape", data)
    whole = add("Reshape", normalized, back)
    if by_channel:
        ones = [1] * (len(shape) - 2)
        whole = add("Mul", whole, constant("channel_scale", scale.reshape(-1, *ones)))
        add("Add", whole, constant("channel_shift", shift.reshape(-1, *ones)))
    made[-1].output[0] = output
    return made
