"""A graph while nodes of it are replaced."""

from __future__ import annotations

import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.model.large import Weights


class Rewriting:
    """A graph while nodes are replaced: what makes and reads each tensor, weights, free names."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self.read_weights()
        self.made_by, self.read_by = g.producers(graph), g.consumers(graph)
        self.outputs = {v.name for v in graph.output}
        self.names = g.Names(g.tensor_names(graph))
        self.node_names = g.Names(g.node_names(graph))

    def read_weights(self) -> None:
        """Reads the weights again, those that were added too."""
        self.weights = Weights(self.graph)

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


def become(node: onnx.NodeProto, op_type: str, reads: list[str]) -> None:
    """The node another operator that makes the same tensor."""
    while reads and not reads[-1]:
        reads.pop()
    made = helper.make_node(op_type, reads, list(node.output), name=node.name)
    node.CopyFrom(made)
