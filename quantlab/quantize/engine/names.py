"""Unique names for the tensors and nodes that a writer adds to a graph."""

from __future__ import annotations

from itertools import product

import onnx

from quantlab.model import graph as g

_TENSORS = (
    "fp32", "fp32/kept", "quantized", "dequantized", "before", "scale", "zero",
    "requantized/scale", "requantized/zero", "requantized/nothing", "requantized/integer",
    "constant/0", "constant/1", "constant/2",
    "weight", "weight/quantized", "weight/scale", "weight/zero",
    "bias", "bias/quantized", "bias/scale", "bias/zero",
    "product", "product/sums", "product/floats", "product/scale",
)  # fmt: skip
_NODES = (
    "QuantizeLinear", "DequantizeLinear", "weight/DequantizeLinear", "bias/DequantizeLinear",
    "fp32/Max", "copy", "requantized/DequantizeLinear",
    "DynamicQuantizeLinear", "product/Cast", "product/scale/Mul", "product/Mul", "product/Add",
)  # fmt: skip


class MadeNames:
    """``quantlab/<tensor>/<part>`` for every part that may be added to a tensor, or what is free.

    All are given out at once, so that they do not depend on which are used, by whom, and when.
    """

    def __init__(self, graph: onnx.GraphProto) -> None:
        made = (name for node in graph.node for name in node.output if name)
        every = tuple(dict.fromkeys([*(v.name for v in graph.input), *made]))
        tensors, nodes = g.Names(g.tensor_names(graph)), g.Names(g.node_names(graph))
        self.least = tensors.new("quantlab/least")
        self._free = tensors
        self._beside: dict[tuple[str, ...], str] = {}
        self._tensors, self._nodes = (
            {(name, part): free.new(f"quantlab/{name}/{part}") for name, part in product(every, of)}
            for free, of in ((tensors, _TENSORS), (nodes, _NODES))
        )

    def tensor(self, name: str, part: str) -> str:
        """The name of a tensor beside the graph's tensor ``name``."""
        return self._tensors[name, part]

    def beside(self, name: str, reader: str, part: str) -> str:
        """The name of a tensor, and of the node that makes it, between ``name`` and the maker of
        ``reader``."""
        key = (name, reader, part)
        if key not in self._beside:
            self._beside[key] = self._free.new(f"quantlab/{reader}/{name}/{part}")
        return self._beside[key]

    def node(self, name: str, part: str) -> str:
        """The name of a node beside it."""
        return self._nodes[name, part]
