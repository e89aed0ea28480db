"""Forms: operators of the prepared graph rewritten to those that have an int8 kernel.

In place, and the same answers to float rounding. The first node of what is rewritten keeps its
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.model.large import Weights, array_of
from quantlab.model.model import main_opset
from quantlab.quantize.fold import affine_of
from quantlab.quantize.operators import CONTRIB, import_contrib

_Shapes = Mapping[str, tuple[g.Dim, ...]]


def to_int8_forms(proto: onnx.ModelProto) -> None:
    """Every rewriting of this module, in the order that they need."""
    graph = proto.graph
    shapes = g.tensor_shapes(proto)
    sums_as_adds(graph)
    limits_as_clips(graph)
    hard_sigmoids(graph)
    silus(proto)
    means_as_pools(proto, shapes)
    matmuls_as_gemms(graph, shapes)
    affine_as_convs(graph, shapes)
    lines_as_images(graph)
    classifier_as_gemm(proto)
    g.prune(graph)


class _Rewriting:
    """A graph while nodes are replaced: what makes and reads each tensor, weights, free names."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.weights = Weights(graph)
        self.made_by, self.read_by = g.producers(graph), g.consumers(graph)
        self.outputs = {v.name for v in graph.output}
        self.names = g.Names(g.tensor_names(graph))
        self.node_names = g.Names(g.node_names(graph))

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """The node that alone reads the tensor, unless the tensor is an output of the graph."""
        readers = self.read_by.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def constant(self, name: str, value: g.Array) -> str:
        """Adds a weight; returns its name."""
        made = self.names.new(name)
        g.set_initializer(self.graph, made, value)
        return made

    def scalar(self, name: str) -> float | None:
        """The number that a weight holds, None where it is no single float."""
        value = self.weights.get(name)
        if value is None or value.size != 1 or value.dtype.kind != "f":
            return None
        return float(value.item())

    def other(self, node: onnx.NodeProto, name: str) -> str:
        """What a node of two inputs reads besides the tensor; "" where it reads it twice."""
        found = [n for n in node.input if n != name]
        return found[0] if len(node.input) == 2 and len(found) == 1 else ""


def sums_as_adds(graph: onnx.GraphProto) -> None:
    """Sum of several tensors becomes Add after Add."""
    rewriting = _Rewriting(graph)
    kept = []
    for node in graph.node:
        if not g.is_standard(node, "Sum") or len(node.input) < 2:
            kept.append(node)
            continue
        total, rest = node.input[0], list(node.input[1:])
        for i, name in enumerate(rest):
            last = i + 1 == len(rest)
            made = node.output[0] if last else rewriting.names.new(f"{node.output[0]}_sum")
            label = node.name if last else rewriting.node_names.new(f"{node.name}_sum")
            kept.append(helper.make_node("Add", [total, name], [made], name=label))
            total = made
    g.set_nodes(graph, kept)


def limits_as_clips(graph: onnx.GraphProto) -> None:
    """Max and Min with one number become Clip; Relu and Clips in a row become one Clip."""
    rewriting = _Rewriting(graph)
    for node in graph.node:
        if not g.is_standard(node, "Max", "Min") or len(node.input) != 2:
            continue
        for data, bound in (tuple(node.input), tuple(reversed(node.input))):
            limit = rewriting.scalar(bound)
            if limit is None or data in rewriting.weights or rewriting.weights[bound].ndim > 1:
                continue
            name = rewriting.constant(f"{node.output[0]}_bound", np.array(limit, np.float32))
            reads = [data, name] if node.op_type == "Max" else [data, "", name]
            _become(node, "Clip", reads)
            break
    _merge_clips(_Rewriting(graph))


def _merge_clips(rewriting: _Rewriting) -> None:
    merged = set[str]()
    for node in rewriting.graph.node:
        before = rewriting.made_by.get(node.input[0]) if node.input else None
        limits = _limits(node, rewriting)
        first = _limits(before, rewriting) if before is not None else None
        if before is None or limits is None or first is None:
            continue
        if rewriting.only_reader(before.output[0]) is None:
            continue
        low, high = (float(np.clip(bound, *limits)) for bound in first)
        bounds = ("min", max(low, limits[0])), ("max", min(high, limits[1]))
        names = [
            rewriting.constant(f"{node.output[0]}_{what}", np.array(bound, np.float32))
            if np.isfinite(bound)
            else ""
            for what, bound in bounds
        ]
        _become(node, "Clip", [before.input[0], *names])
        rewriting.weights = Weights(rewriting.graph)
        merged.add(before.output[0])
    kept = [n for n in rewriting.graph.node if not merged.intersection(n.output)]
    g.set_nodes(rewriting.graph, kept)


def _limits(node: onnx.NodeProto, rewriting: _Rewriting) -> tuple[float, float] | None:
    if g.is_standard(node, "Relu"):
        return 0.0, np.inf
    if not g.is_standard(node, "Clip"):
        return None
    given = [*node.input[1:], "", ""][:2]
    found = [rewriting.scalar(name) if name else np.inf for name in given]
    if None in found:
        return None
    low, high = (float(f) for f in found if f is not None)
    return (low if given[0] else -np.inf), high


def _become(node: onnx.NodeProto, op_type: str, reads: list[str]) -> None:
    """The node another operator that makes the same tensor."""
    while reads and not reads[-1]:
        reads.pop()
    made = helper.make_node(op_type, reads, list(node.output), name=node.name)
    node.CopyFrom(made)


def hard_sigmoids(graph: onnx.GraphProto) -> None:
    """clip(x + b, 0, c), divided by c at once or after having been multiplied by x, becomes
    HardSigmoid; HardSwish becomes HardSigmoid and Mul."""
    rewriting = _Rewriting(graph)
    gone = set[str]()
    kept = []
    for node in graph.node:
        if g.is_standard(node, "HardSwish"):
            gate = rewriting.names.new(f"{node.output[0]}_gate")
            label = rewriting.node_names.new(f"{node.name}_gate")
            kept.append(_hard_sigmoid(node.input[0], gate, label, 1 / 6, 0.5))
            _become(node, "Mul", [node.input[0], gate])
        elif g.is_standard(node, "Clip") and (found := _taken_apart(node, rewriting)) is not None:
            shift, last = found
            limits = _limits(node, rewriting)
            assert limits is not None
            offset = rewriting.scalar(rewriting.other(shift.node, shift.data))
            assert offset is not None
            source = shift.data
            if last.before == node.output[0]:
                made = last.node.output[0]
            else:
                made = node.output[0]
                _rename_output(last.before, last.node.output[0], rewriting)
            gone.add(last.node.name)
            kept.append(_hard_sigmoid(source, made, node.name, 1 / limits[1], offset / limits[1]))
            continue
        kept.append(node)
    g.set_nodes(graph, [node for node in kept if node.name not in gone])
    g.prune(graph)


@dataclass(frozen=True)
class _Shift:
    node: onnx.NodeProto
    data: str


@dataclass(frozen=True)
class _Last:
    node: onnx.NodeProto
    before: str


def _taken_apart(clip: onnx.NodeProto, rewriting: _Rewriting) -> tuple[_Shift, _Last] | None:
    """The Add before a Clip from 0 to c, and the division by c behind it."""
    limits = _limits(clip, rewriting)
    add = rewriting.made_by.get(clip.input[0])
    if limits is None or limits[0] != 0 or not 0 < limits[1] < np.inf or add is None:
        return None
    if not g.is_standard(add, "Add"):
        return None
    data = next((n for n in add.input if rewriting.scalar(rewriting.other(add, n)) is not None), "")
    reader = rewriting.only_reader(clip.output[0])
    if not data or reader is None:
        return None
    before = clip.output[0]
    if g.is_standard(reader, "Mul") and set(reader.input) == {data, before}:
        before = reader.output[0]
        reader = rewriting.only_reader(before)
    if reader is None or not _divides(reader, before, limits[1], rewriting):
        return None
    return _Shift(add, data), _Last(reader, before)


def _divides(node: onnx.NodeProto, name: str, by: float, rewriting: _Rewriting) -> bool:
    constant = rewriting.scalar(rewriting.other(node, name))
    if constant is None or not constant:
        return False
    if g.is_standard(node, "Div"):
        return node.input[0] == name and bool(np.isclose(constant, by, rtol=1e-6))
    return g.is_standard(node, "Mul") and bool(np.isclose(constant, 1 / by, rtol=1e-6))


def _rename_output(old: str, new: str, rewriting: _Rewriting) -> None:
    maker = rewriting.made_by[old]
    for i, name in enumerate(maker.output):
        maker.output[i] = new if name == old else name


def _hard_sigmoid(source: str, target: str, name: str, alpha: float, beta: float) -> onnx.NodeProto:
    return helper.make_node("HardSigmoid", [source], [target], name=name, alpha=alpha, beta=beta)


def silus(proto: onnx.ModelProto) -> None:
    """x times Sigmoid(x) becomes ONNX Runtime's QuickGelu, one fp32 kernel.

    Dequantizing, QuickGelu and quantizing take two thirds of the time of an int8 Sigmoid and an
    int8 Mul, and round once less (see docs/engine.md). ONNX Runtime itself makes a QuickGelu only
    where Sigmoid and Mul read the very same tensor, which they do not behind a DequantizeLinear.
    """
    rewriting = _Rewriting(proto.graph)
    gone = set[str]()
    for node in proto.graph.node:
        if not g.is_standard(node, "Mul"):
            continue
        for data, gate in (tuple(node.input), tuple(reversed(node.input))):
            maker = rewriting.made_by.get(gate)
            if maker is None or not g.is_standard(maker, "Sigmoid") or maker.input[0] != data:
                continue
            if rewriting.only_reader(gate) is not None:
                _become(node, "QuickGelu", [data])
                node.domain = CONTRIB
                node.attribute.append(helper.make_attribute("alpha", 1.0))
                gone.add(gate)
                break
    if gone:
        kept = [n for n in proto.graph.node if not gone.intersection(n.output)]
        g.set_nodes(proto.graph, kept)
        import_contrib(proto)


def means_as_pools(proto: onnx.ModelProto, shapes: _Shapes) -> None:
    """ReduceMean over height and width becomes GlobalAveragePool, with a Flatten behind it where
    the two axes go."""
    rewriting = _Rewriting(proto.graph)
    kept = []
    for node in proto.graph.node:
        kept.append(node)
        if not g.is_standard(node, "ReduceMean") or len(shapes.get(node.input[0], ())) != 4:
            continue
        axes = g.attribute(node, "axes", [0][:0])
        if main_opset(proto) >= 18 and len(node.input) > 1:
            axes = [int(n) for n in rewriting.weights.get(node.input[1], np.zeros(0))]
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            continue
        source, target = node.input[0], node.output[0]
        if g.attribute(node, "keepdims", 1):
            _become(node, "GlobalAveragePool", [source])
            continue
        pooled = rewriting.names.new(f"{target}_pooled")
        pool = helper.make_node("GlobalAveragePool", [source], [pooled], name=node.name)
        label = rewriting.node_names.new(f"{node.name}_flat")
        kept[-1:] = [pool, helper.make_node("Flatten", [pooled], [target], name=label, axis=1)]
    g.set_nodes(proto.graph, kept)


BY_VALUE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish",
    "Elu", "Erf", "Tanh", "Gelu", "Mish", "Softplus", "Sqrt", "Exp", "Neg", "Abs", "Identity",
)  # fmt: skip
"""They compute each value by itself, in whatever shape they are."""


def matmuls_as_gemms(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """A MatMul of any rank with a constant matrix becomes a Gemm between two Reshapes.

    What adds or multiplies a constant for each column, or one number, becomes part of it. A
    constant matrix on the left is one on the right between two Transposes. What reads the product
    value by value or row by row reads it before it is reshaped, so that most Reshapes go.
    """
    rewriting = _Rewriting(graph)
    rows = _Rows(rewriting, shapes)
    gone = set[str]()
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name in gone:
            continue
        product = _product(node, rewriting, shapes)
        if product is not None:
            gone.update(product.absorbed)
            nodes += product.nodes(rows)
        else:
            nodes += rows.by_row(node)
    g.set_nodes(graph, nodes)


def _product(node: onnx.NodeProto, rewriting: _Rewriting, shapes: _Shapes) -> _Product | None:
    if not g.is_standard(node, "MatMul"):
        return None
    left, right = (rewriting.weights.get(name) for name in node.input)
    turned = right is None
    matrix, other = (left, right) if turned else (right, left)
    data = node.input[1 if turned else 0]
    shape = shapes.get(data, ())
    if matrix is None or other is not None or matrix.ndim != 2 or matrix.dtype != np.float32:
        return None
    if len(shape) < 2:
        return None
    return _Product(rewriting, node, data, matrix.T if turned else matrix, shape, turned)


class _Rows:
    """Tensors laid out as matrices: all axes but the last are one."""

    def __init__(self, rewriting: _Rewriting, shapes: _Shapes) -> None:
        self._rewriting, self._known = rewriting, shapes
        self._rows: dict[str, str] = {}
        self.shapes: dict[str, str] = {}
        """Of tensors that are made as rows, what Reshape needs to bring them back."""

    def of(self, made: list[onnx.NodeProto], data: str, width: int) -> str:
        """The tensor as rows, with a Reshape unless there are such already."""
        if data not in self._rows:
            sizes = np.array([-1, width], np.int64)
            target = self._rewriting.constant(f"{data}_rows_shape", sizes)
            self._rows[data] = self._reshape(made, data, target, f"{data}_rows")
        return self._rows[data]

    def back(self, made: list[onnx.NodeProto], rows: str, data: str, shape: str) -> None:
        """Makes the tensor of its rows; ``shape`` is the tensor that Reshape needs."""
        self._reshape(made, rows, shape, data)
        made[-1].output[0] = data
        self._rows[data], self.shapes[data] = rows, shape

    def _reshape(self, made: list[onnx.NodeProto], data: str, shape: str, wanted: str) -> str:
        name = self._rewriting.names.new(wanted)
        label = self._rewriting.node_names.new(f"{wanted}_Reshape")
        made.append(helper.make_node("Reshape", [data, shape], [name], name=label))
        return name

    def by_row(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The node, on rows where it reads what is made as rows."""
        data = [name for name in node.input if name and name not in self._rewriting.weights]
        known = next((name for name in data if name in self.shapes), "")
        width = self._known.get(known, (None,))[-1]
        if not known or not isinstance(width, int) or not self._takes_rows(node, data):
            return [node]
        made: list[onnx.NodeProto] = []
        g.rename_node_reads(node, {name: self.of(made, name, width) for name in data})
        output = node.output[0]
        node.output[0] = self._rewriting.names.new(f"{output}_rows")
        made.append(node)
        self.back(made, node.output[0], output, self.shapes[known])
        return made

    def _takes_rows(self, node: onnx.NodeProto, data: list[str]) -> bool:
        whole = [self._known.get(name) for name in data]
        if any(shape != whole[0] or shape is None or None in shape for shape in whole):
            return False
        constants = [
            self._rewriting.weights[name] for name in node.input if name and name not in data
        ]
        if g.is_standard(node, "LayerNormalization"):
            last = g.attribute(node, "axis", -1) in (-1, len(whole[0] or ()) - 1)
            return last and len(node.output) == 1
        by_value = g.is_standard(node, *BY_VALUE) or node.op_type == "QuickGelu"
        return by_value and all(value.ndim <= 1 or value.size == 1 for value in constants)


class _Product:
    """A MatMul of a tensor and a constant matrix [in, out], with what follows it."""

    def __init__(
        self,
        rewriting: _Rewriting,
        node: onnx.NodeProto,
        data: str,
        matrix: g.Array,
        shape: tuple[g.Dim, ...],
        turned: bool,
    ) -> None:
        self._rewriting, self._node, self._data, self._turned = rewriting, node, data, turned
        self._shape = (*shape[:-2], shape[-1], shape[-2]) if turned else shape
        self._matrix, self._bias = matrix.astype(np.float64), np.zeros(matrix.shape[1])
        self.absorbed: set[str] = set()
        self._output = node.output[0]
        while not turned and self._absorb():
            pass

    def _absorb(self) -> bool:
        """Whether the only reader of the output could be taken in."""
        reader = self._rewriting.only_reader(self._output)
        if reader is None or not g.is_standard(reader, "Add", "Sub", "Mul", "Div"):
            return False
        value = self._rewriting.weights.get(self._rewriting.other(reader, self._output))
        if value is None or not self._fits(value):
            return False
        first = reader.input[0] == self._output
        if reader.op_type in ("Sub", "Div") and not first:
            return False
        column = np.broadcast_to(value.reshape(-1).astype(np.float64), self._bias.shape)
        if reader.op_type in ("Add", "Sub"):
            self._bias = self._bias + (column if reader.op_type == "Add" else -column)
        elif reader.op_type == "Mul" or column.all():
            factor = column if reader.op_type == "Mul" else 1 / column
            self._matrix, self._bias = self._matrix * factor, self._bias * factor
        else:
            return False
        self.absorbed.add(reader.name)
        self._output = reader.output[0]
        return True

    def _fits(self, value: g.Array) -> bool:
        wide = value.ndim <= len(self._shape) and all(n == 1 for n in value.shape[:-1])
        return wide and value.dtype.kind == "f" and value.size in (1, len(self._bias))

    def nodes(self, rows: _Rows) -> list[onnx.NodeProto]:
        """The nodes in its place."""
        made: list[onnx.NodeProto] = []
        data = self._turn(made, self._data) if self._turned else self._data
        flat = len(self._shape) == 2
        product = self._gemm(made, data if flat else rows.of(made, data, len(self._matrix)))
        end = f"{self._output}_product" if self._turned else self._output
        if not flat:
            target = self._shape_before(made, data)
            end = self._rewriting.names.new(end) if self._turned else end
            rows.back(made, product, end, target)
        elif not self._turned:
            made[-1].output[0] = end
        else:
            end = product
        if self._turned:
            self._turn(made, end)
            made[-1].output[0] = self._output
        return made

    def _add(self, made: list[onnx.NodeProto], op: str, reads: list[str], **more: Any) -> str:
        name = self._rewriting.names.new(f"{self._output}_{op}")
        label = self._rewriting.node_names.new(f"{self._node.name}_{op}")
        made.append(helper.make_node(op, reads, [name], name=label, **more))
        return name

    def _turn(self, made: list[onnx.NodeProto], data: str) -> str:
        rank = len(self._shape)
        return self._add(made, "Transpose", [data], perm=[*range(rank - 2), rank - 1, rank - 2])

    def _gemm(self, made: list[onnx.NodeProto], data: str) -> str:
        add = self._rewriting.constant
        weight = add(f"{self._output}_weight", self._matrix.astype(np.float32))
        bias = add(f"{self._output}_bias", self._bias.astype(np.float32))
        product = self._add(made, "Gemm", [data, weight, bias])
        made[-1].name = self._node.name
        return product

    def _shape_before(self, made: list[onnx.NodeProto], data: str) -> str:
        outer, width = self._shape[:-1], self._matrix.shape[1]
        add = self._rewriting.constant
        if sum(not isinstance(size, int) for size in outer) <= 1:
            sizes = [size if isinstance(size, int) else -1 for size in outer]
            return add(f"{self._output}_shape", np.array([*sizes, width], np.int64))
        shape = self._add(made, "Shape", [data])
        ends = [add(f"{self._output}_{end}", np.array([end])) for end in (0, -1)]
        kept = self._add(made, "Slice", [shape, *ends])
        last = add(f"{self._output}_width", np.array([width], np.int64))
        return self._add(made, "Concat", [kept, last], axis=0)


_SPATIAL = ("Conv", "ConvTranspose", "Concat", "Add", "MaxPool", "AveragePool", "Relu", "Clip")


def affine_as_convs(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """What scales or shifts each channel of an image, and could not be folded into the layer
    before, becomes a depthwise convolution of one weight a channel: BatchNormalization before a
    convolution (DenseNet), constants that are added or multiplied."""
    rewriting = _Rewriting(graph)
    tensors = g.initializers(graph)
    for node in graph.node:
        data = next((n for n in node.input if n not in rewriting.weights), "")
        maker, shape = rewriting.made_by.get(data), shapes.get(data, ())
        channels = shape[1] if len(shape) == 4 else None
        if maker is None or not isinstance(channels, int) or not g.is_standard(maker, *_SPATIAL):
            continue
        affine = affine_of(node, data, 4, tensors)
        if affine is None or max(affine.factor.size, affine.offset.size) != channels:
            continue
        rows = np.broadcast_to(affine.factor, channels).astype(np.float32)
        weight = rewriting.constant(f"{node.output[0]}_weight", rows.reshape(-1, 1, 1, 1))
        offsets = np.broadcast_to(affine.offset, channels).astype(np.float32)
        bias = rewriting.constant(f"{node.output[0]}_bias", np.ascontiguousarray(offsets))
        made = helper.make_node(
            "Conv", [data, weight, bias], [node.output[0]], name=node.name,
            group=channels, kernel_shape=[1, 1],
        )  # fmt: skip
        node.CopyFrom(made)


def lines_as_images(graph: onnx.GraphProto) -> None:
    """A convolution of one dimension becomes one over images of height 1."""
    rewriting = _Rewriting(graph)
    kept = []
    for node in graph.node:
        weight = rewriting.weights.get(node.input[1]) if g.is_standard(node, "Conv") else None
        if (
            weight is None
            or weight.ndim != 3
            or g.attribute(node, "auto_pad", "NOTSET") != "NOTSET"
        ):
            kept.append(node)
            continue
        before, after = g.attribute(node, "pads", [0, 0])
        values: dict[str, Any] = {
            "kernel_shape": [1, weight.shape[2]],
            "pads": [0, before, 0, after],
            "strides": [1, *g.attribute(node, "strides", [1])],
            "dilations": [1, *g.attribute(node, "dilations", [1])],
            "group": g.attribute(node, "group", 1),
        }
        output = node.output[0]
        high, made = (rewriting.names.new(f"{output}_{end}") for end in ("high", "image"))
        labels = [rewriting.node_names.new(f"{node.name}_{end}") for end in ("high", "flat")]
        axes = rewriting.constant(f"{output}_axes", np.array([2], np.int64))
        image = rewriting.constant(f"{output}_weight", np.expand_dims(weight, 2))
        kept += [
            helper.make_node("Unsqueeze", [node.input[0], axes], [high], name=labels[0]),
            helper.make_node(
                "Conv", [high, image, *node.input[2:]], [made], name=node.name, **values
            ),
            helper.make_node("Squeeze", [made, axes], [output], name=labels[1]),
        ]
    g.set_nodes(graph, kept)


def classifier_as_gemm(proto: onnx.ModelProto) -> None:
    """In place: GlobalAveragePool, 1×1 Conv, Flatten becomes GlobalAveragePool, Flatten, Gemm.

    A quantized Gemm can give fp32 logits at full speed; a quantized Conv cannot.
    """
    weights = {t.name: t for t in proto.graph.initializer}
    made_by, read_by = g.producers(proto.graph), g.consumers(proto.graph)
    outputs = {v.name for v in proto.graph.output}
    for flat in proto.graph.node:
        conv = made_by.get(flat.input[0]) if g.is_standard(flat, "Flatten") else None
        if conv is None or not g.is_standard(conv, "Conv") or conv.output[0] in outputs:
            continue
        pool = made_by.get(conv.input[0])
        kernel = weights.get(conv.input[1])
        if pool is None or kernel is None or not g.is_standard(pool, "GlobalAveragePool"):
            continue
        if len(read_by[conv.output[0]]) == 1 and _is_pointwise(conv, list(kernel.dims)):
            _swap(proto.graph, conv, flat, array_of(kernel))


def _is_pointwise(conv: onnx.NodeProto, dims: list[int]) -> bool:
    return (
        dims[2:] == [1, 1]
        and g.attribute(conv, "group", 1) == 1
        and not any(g.attribute(conv, "pads", [0, 0, 0, 0]))
    )


def _swap(
    graph: onnx.GraphProto, conv: onnx.NodeProto, flat: onnx.NodeProto, kernel: g.Array
) -> None:
    names = g.Names(g.tensor_names(graph))
    flattened, matrix = names.new(f"{conv.input[0]}_flat"), names.new(f"{conv.input[1]}_matrix")
    g.set_initializer(graph, matrix, kernel.reshape(kernel.shape[:2]))
    first = helper.make_node("Flatten", [conv.input[0]], [flattened], name=flat.name, axis=1)
    reads = [flattened, matrix, *conv.input[2:]]
    second = helper.make_node("Gemm", reads, list(flat.output), name=conv.name, transB=1)
    conv.CopyFrom(first)
    flat.CopyFrom(second)
