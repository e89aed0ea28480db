"""Products of one-hot rows and a constant table become what they are: a Gather of the table's rows.

Exporters write an embedding as ``one_hot(index) @ table``, which costs a multiply-accumulate for
each number of the table and each index. An index that is no row of the table gives zeros, as its
one-hot row does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantlab.model import graph as g
from quantlab.quantize.rewriting import Rewriting, become

_Shapes = Mapping[str, tuple[g.Dim, ...]]
_UNCHANGING = ("Cast", "Transpose")


def lookups_as_gathers(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """Rewrites every such MatMul in place; its name and its output's stay."""
    known = Rewriting(graph)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if g.is_standard(node, "MatMul") and node.input[1] in known.weights:
            nodes += _rewritten(known, node, shapes)
        nodes.append(node)
    g.set_nodes(graph, nodes)


def _rewritten(graph: Rewriting, node: onnx.NodeProto, shapes: _Shapes) -> list[onnx.NodeProto]:
    """The nodes that make the index of the Gather that ``node`` becomes, if it is a lookup."""
    orders: list[list[int]] = []
    maker = graph.made_by.get(node.input[0])
    while maker is not None and g.is_standard(maker, *_UNCHANGING):
        if maker.op_type == "Transpose":
            *order, last = g.attribute(maker, "perm", [0])
            if last != len(order) or last == 0:
                return []
            orders.insert(0, order)
        maker = graph.made_by.get(maker.input[0])
    if maker is None or not g.is_standard(maker, "OneHot", "Equal"):
        return []
    table = graph.weights[node.input[1]]
    if table.ndim < 2 or len(shapes.get(node.input[0], ())) < 2 or not np.isfinite(table).all():
        return []
    *outer, rows, width = table.shape
    made_of = _of_one_hot if maker.op_type == "OneHot" else _of_equal
    index = made_of(graph, maker, rows, shapes)
    if index is None:
        return []
    made: list[onnx.NodeProto] = []

    def add(op_type: str, *reads: str, **attributes: Any) -> str:
        name = graph.names.new(f"{node.output[0]}_index")
        made.append(helper.make_node(op_type, reads, [name], **attributes))
        return name

    def number(value: object) -> str:
        return graph.constant(f"{node.output[0]}_number", np.asarray(value, np.int64))

    index = add("Cast", index, to=TensorProto.INT64)
    if maker.op_type == "OneHot":  # counts negative ones from the end
        wrapped = add("Add", index, number(rows))
        index = add("Where", add("Less", index, number(0)), wrapped, index)
    index = add("Clip", add("Add", index, number(1)), number(0), number(rows + 1))
    for order in orders:
        index = add("Transpose", index, perm=order)
    if outer:
        tables = np.arange(math.prod(outer)).reshape(*outer, 1)
        index = add("Add", index, number(tables * (rows + 2)))
    zeros = [(0, 0)] * len(outer) + [(1, 1), (0, 0)]
    padded = np.pad(table, zeros).reshape(-1, width)
    become(node, "Gather", [graph.constant(f"{node.input[1]}_rows", padded), index])
    return made


def _of_one_hot(graph: Rewriting, node: onnx.NodeProto, rows: int, shapes: _Shapes) -> str | None:
    """What a OneHot makes rows of ``rows`` numbers of, along a last axis."""
    depth, values = (graph.weights.get(name) for name in node.input[1:])
    if depth is None or values is None or int(depth.item()) != rows or values.tolist() != [0, 1]:
        return None
    rank = len(shapes.get(node.output[0], ()))
    last = g.attribute(node, "axis", -1) in (-1, rank - 1)
    return str(node.input[0]) if last else None


def _of_equal(graph: Rewriting, node: onnx.NodeProto, rows: int, shapes: _Shapes) -> str | None:
    """What an Equal compares with 0, 1, … ``rows`` − 1, along a last axis."""
    for one, other in (tuple(node.input), tuple(node.input)[::-1]):
        maker, rank = graph.made_by.get(one), len(shapes.get(one, ()))
        if maker is None or not g.is_standard(maker, "Unsqueeze"):
            continue
        axes = graph.weights.get(maker.input[1])
        last = axes is not None and axes.tolist() in ([-1], [rank - 1])
        if last and _counts(graph, other, rows, rank):
            return str(maker.input[0])
    return None


def _counts(graph: Rewriting, name: str, rows: int, rank: int) -> bool:
    """Whether the tensor is 0, 1, … ``rows`` − 1, integers along a last axis."""
    value, maker = graph.weights.get(name), graph.made_by.get(name)
    if value is not None:
        whole = value.dtype.kind in "iu" and value.ndim <= rank and value.shape[-1:] == (rows,)
        return whole and value.reshape(-1).tolist() == list(range(rows))
    if maker is None or not g.is_standard(maker, "Range"):
        return False
    steps = [graph.weights.get(n) for n in maker.input]
    whole = all(step is not None and step.dtype.kind in "iu" for step in steps)
    return whole and [int(s.item()) for s in steps if s is not None] == [0, rows, 1]
