"""Products with constant matrices as Gemm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.model.large import array_of
from quantlab.quantize.engine.gelus import CONTRIB_GELUS
from quantlab.quantize.fold import affine_of
from quantlab.quantize.rewriting import Rewriting

_Shapes = Mapping[str, tuple[g.Dim, ...]]


BY_VALUE = (
    "Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish",
    "Elu", "Selu", "Celu", "Erf", "Tanh", "Gelu", "Mish", "Softplus", "Softsign", "ThresholdedRelu",
    "Sqrt", "Exp", "Neg", "Abs", "Identity",
)  # fmt: skip
"""They compute each value by itself, in whatever shape they are."""


def normalizations_first(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """BatchNormalization of a product's rows, behind a Reshape or Flatten to [rows, columns]
    (LeViT), becomes a Mul and an Add of constants before it, where the product takes them in."""
    rewriting = Rewriting(graph)
    tensors = g.initializers(graph)
    added: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        reshape = rewriting.made_by.get(node.input[0]) if node.input else None
        if reshape is None or not g.is_standard(node, "BatchNormalization"):
            continue
        product = rewriting.made_by.get(reshape.input[0])
        if not g.is_standard(reshape, "Reshape", "Flatten") or product is None:
            continue
        affine = affine_of(node, node.input[0], 2, tensors)
        same = shapes.get(reshape.input[0], (None,))[-1] == shapes.get(node.input[0], (0,))[-1]
        rows = len(shapes.get(node.input[0], ())) == 2
        beside = [r for r in rewriting.read_by[reshape.input[0]] if r is not reshape]
        alone = rewriting.only_reader(node.input[0]) is not None
        alone = alone and all(g.is_standard(reader, "Shape") for reader in beside)
        if affine is None or not (same and rows and alone and g.is_standard(product, "MatMul")):
            continue
        name, output = reshape.input[0], node.output[0]
        made = [rewriting.names.new(f"{output}_{what}") for what in ("scaled", "shifted")]
        values = [affine.factor, affine.offset]
        constants = [
            rewriting.constant(f"{output}_{what}", np.asarray(value, np.float32))
            for what, value in zip(("scale", "shift"), values, strict=True)
        ]
        label = rewriting.node_names.new(f"{node.name}_Mul")
        added[product.name] = [
            helper.make_node("Mul", [name, constants[0]], [made[0]], name=label),
            helper.make_node("Add", [made[0], constants[1]], [made[1]], name=node.name),
        ]
        for reader in (reshape, *beside):
            reader.input[0] = made[1]
        reshape.output[0] = output
        node.output[0] = ""
    kept = [node for node in graph.node if any(node.output)]
    g.set_nodes(graph, [each for node in kept for each in (node, *added.get(node.name, []))])


def matmuls_as_gemms(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """A MatMul of any rank with a constant matrix becomes a Gemm between two Reshapes.

    What adds or multiplies a constant for each column, or one number, becomes part of it. A
    constant matrix on the left is one on the right between two Transposes. What reads the product
    value by value or row by row reads it before it is reshaped, so that most Reshapes go.
    """
    rewriting = Rewriting(graph)
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


def _product(node: onnx.NodeProto, rewriting: Rewriting, shapes: _Shapes) -> _Product | None:
    if not g.is_standard(node, "MatMul"):
        return None
    left, right = (rewriting.weights.get(name) for name in node.input)
    turned = right is None
    matrix, other = (left, right) if turned else (right, left)
    data = node.input[1 if turned else 0]
    shape = shapes.get(data, ())
    if matrix is None or other is not None or matrix.dtype != np.float32 or matrix.ndim < 2:
        return None
    if any(size != 1 for size in matrix.shape[:-2]) or matrix.ndim > len(shape):
        return None
    matrix = matrix.reshape(matrix.shape[-2:])
    return _Product(rewriting, node, data, matrix.T if turned else matrix, shape, turned)


class _Rows:
    """Tensors laid out as matrices: all axes but the last are one."""

    def __init__(self, rewriting: Rewriting, shapes: _Shapes) -> None:
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
        by_value = g.is_standard(node, *BY_VALUE) or node.op_type in CONTRIB_GELUS
        return by_value and all(value.ndim <= 1 or value.size == 1 for value in constants)


class _Product:
    """A MatMul of a tensor and a constant matrix [in, out], with what follows it."""

    def __init__(
        self,
        rewriting: Rewriting,
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
