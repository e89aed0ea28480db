"""Query an ONNX graph, and make small changes to one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast

import onnx
from onnx import shape_inference

from quantlab.model.large import Array as Array
from quantlab.model.large import tensor_of

Dim = int | str | None
"""One dimension of a shape: its size, its symbol, or None when nothing is known."""

T = TypeVar("T", int, float, str, list[int], list[float])
_DEFAULT_DOMAINS = ("", "ai.onnx")


def attribute(node: onnx.NodeProto, name: str, default: T) -> T:
    """The node's attribute (int, float, str or list of ints), or the default when not given."""
    for found in node.attribute:
        if found.name == name:
            value: Any = onnx.helper.get_attribute_value(found)
            value = value.decode() if isinstance(value, bytes) else value
            return cast(T, list(value) if isinstance(default, list) else value)
    return default


def is_standard(node: onnx.NodeProto, *op_types: str) -> bool:
    """Whether the node is one of these operators of the standard operator set."""
    return node.op_type in op_types and node.domain in _DEFAULT_DOMAINS


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The weights by name."""
    return {t.name: t for t in graph.initializer}


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that makes each tensor, by the tensor's name."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The nodes that read each tensor, in their subgraphs too."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node_reads(node):
            found.setdefault(name, []).append(node)
    return found


def node_reads(node: onnx.NodeProto) -> Iterator[str]:
    """The names that the node reads, in its subgraphs too, but not what these make themselves."""
    yield from (name for name in node.input if name)
    for subgraph in subgraphs(node):
        own = {v.name for v in (*subgraph.input, *subgraph.initializer)}
        own.update(name for inner in subgraph.node for name in inner.output)
        for inner in subgraph.node:
            yield from (name for name in node_reads(inner) if name not in own)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that the node holds (If, Loop, Scan)."""
    for found in node.attribute:
        if found.HasField("g"):
            yield found.g
        yield from found.graphs


def tensor_shapes(proto: onnx.ModelProto) -> dict[str, tuple[Dim, ...]]:
    """The inferred shape of every tensor that has one, weights included."""
    graph = shape_inference.infer_shapes(proto, data_prop=True).graph
    found: dict[str, tuple[Dim, ...]] = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            found[value.name] = tuple(_dim(d) for d in value.type.tensor_type.shape.dim)
    return found


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    return dim_size(dim) or dim.dim_param or None


def dim_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """The dimension's size; None where it is free, which some exporters write as −1 or 0."""
    return dim.dim_value if dim.dim_value > 0 else None


def without_initializers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the model without its weights."""
    copy = onnx.ModelProto()
    for owner, target, left_out in (
        (proto, copy, "graph"),
        (proto.graph, copy.graph, "initializer"),
    ):
        for field, value in owner.ListFields():
            if field.name == left_out:
                continue
            if isinstance(value, (int, str, bytes)):
                setattr(target, field.name, value)
            else:
                getattr(target, field.name).MergeFrom(value)
    return copy


def set_initializer(graph: onnx.GraphProto, name: str, array: Array) -> None:
    """Adds the weight, or replaces the one of that name."""
    tensor = tensor_of(array, name)
    for old in graph.initializer:
        if old.name == name:
            old.CopyFrom(tensor)
            return
    graph.initializer.append(tensor)


def set_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Makes these the graph's nodes, in this order."""
    kept = [onnx.NodeProto.FromString(n.SerializeToString(deterministic=True)) for n in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def rename_reads(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Lets every node that reads ``old`` read ``new`` instead, in subgraphs too."""
    for node in graph.node:
        rename_node_reads(node, {old: new})


def rename_node_reads(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Lets the node, and those in its subgraphs, read other tensors: old name to new."""
    for i, name in enumerate(node.input):
        node.input[i] = names.get(name, name)
    for subgraph in subgraphs(node):
        for inner in subgraph.node:
            rename_node_reads(inner, names)


def prune(graph: onnx.GraphProto) -> None:
    """Removes the nodes that lead to no output, and the weights that no node reads."""
    made_by = producers(graph)
    wanted, queue = set[str](), [v.name for v in graph.output]
    while queue:
        name = queue.pop()
        if name not in wanted:
            wanted.add(name)
            queue.extend(node_reads(made_by[name]) if name in made_by else ())
    set_nodes(graph, [n for n in graph.node if wanted.intersection(n.output)])
    weights = [t for t in graph.initializer if t.name in wanted]
    if len(weights) < len(graph.initializer):
        kept = [onnx.TensorProto.FromString(t.SerializeToString()) for t in weights]
        del graph.initializer[:]
        graph.initializer.extend(kept)


class Names:
    """Names that are taken. Whatever is added to a graph gets its name from ``new``."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """A free name, from now on taken: ``wanted``, or ``wanted_2``, ``wanted_3`` …"""
        name, count = wanted, 1
        while name in self._taken:
            count += 1
            name = f"{wanted}_{count}"
        self._taken.add(name)
        return name


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the graph and of those inside its nodes."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def tensor_names(graph: onnx.GraphProto) -> set[str]:
    """The name of every tensor of the graph and of those inside its nodes."""
    names = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    names.update(t.values.name for t in graph.sparse_initializer)
    for node in graph.node:
        names.update((*node.input, *node.output))
        names.update(*map(tensor_names, subgraphs(node)))
    return names


def node_names(graph: onnx.GraphProto) -> set[str]:
    """The name of every node of the graph and of those inside its nodes."""
    return {node.name for node in all_nodes(graph)}


def size_names(graph: onnx.GraphProto) -> set[str]:
    """The symbols that stand for sizes."""
    values = (*graph.input, *graph.output, *graph.value_info)
    return {d.dim_param for v in values for d in v.type.tensor_type.shape.dim}


def name_nodes(graph: onnx.GraphProto) -> None:
    """Gives every node without a name, or with another's, one made of its operator and output."""
    names = Names(node_names(graph))
    given: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in given:
            first = next((o for o in node.output if o), "")
            node.name = names.new(node.name or f"{node.op_type}_{first}")
        given.add(node.name)
