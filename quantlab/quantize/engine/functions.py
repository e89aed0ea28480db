"""Activations that ONNX Runtime computes slowly, in operators that it computes fast.

Its PRelu, Elu, Selu, Celu, Softplus and Mish take 1.4 to 10 ns for a value, most of them because
they are not vectorized; Relu, Clip, Exp, Sigmoid and arithmetic take 0.1 to 0.2 (docs/engine.md).
Equal but for float rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.quantize.rewriting import Rewriting, become

_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}


def fast_functions(graph: onnx.GraphProto) -> None:
    """In place: every such activation."""
    rewriting = Rewriting(graph)
    _join_mish(rewriting)
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        building = _Building(rewriting, node)
        kept += building.nodes() or [node]
    g.set_nodes(graph, kept)
    g.prune(graph)


def _join_mish(rewriting: Rewriting) -> None:
    """x · tanh(softplus(x)) becomes Mish."""
    for node in rewriting.graph.node:
        for data, gate in (node.input, reversed(node.input)) if len(node.input) == 2 else ():
            tanh = rewriting.made_by.get(gate)
            if not g.is_standard(node, "Mul") or tanh is None or not g.is_standard(tanh, "Tanh"):
                continue
            softplus = rewriting.made_by.get(tanh.input[0])
            if softplus is None or not g.is_standard(softplus, "Softplus"):
                continue
            if softplus.input[0] == data:
                become(node, "Mish", [data])
                break


class _Building:
    """The nodes in place of one activation."""

    def __init__(self, rewriting: Rewriting, node: onnx.NodeProto) -> None:
        self._rewriting, self._node, self._made = rewriting, node, list[onnx.NodeProto]()

    def nodes(self) -> list[onnx.NodeProto]:
        """None of them for other operators."""
        node = self._node
        if g.is_standard(node, "PRelu"):
            self._prelu(*node.input)
        elif g.is_standard(node, "Elu"):
            self._exponential(1.0, g.attribute(node, "alpha", 1.0), 1.0)
        elif g.is_standard(node, "Selu"):
            alpha, gamma = (g.attribute(node, name, value) for name, value in _SELU.items())
            self._exponential(gamma, gamma * alpha, 1.0)
        elif g.is_standard(node, "Celu"):
            alpha = g.attribute(node, "alpha", 1.0)
            self._exponential(1.0, alpha, alpha)
        elif g.is_standard(node, "Mish"):
            self._mish(node.input[0])
        elif g.is_standard(node, "Softplus"):
            self._softplus(node.input[0])
        if self._made:
            self._made[0].name = node.name
            self._made[-1].output[0] = node.output[0]
        return self._made

    def _prelu(self, data: str, name: str) -> None:
        """One slope for all: LeakyRelu, which has an int8 kernel. Slopes from 0 to 1: the larger of
        x and slope · x. Else slope · x + (1 − slope) · max(x, 0)."""
        slope = self._rewriting.weights.get(name)
        if slope is None or slope.dtype != np.float32:
            return
        if slope.size and (slope == slope.flat[0]).all():
            self._node_of("LeakyRelu", data, alpha=float(slope.flat[0]))
            return
        scaled = self._node_of("Mul", data, name)
        if (slope >= 0).all() and (slope <= 1).all():
            self._node_of("Max", data, scaled)
            return
        rest = self._constant(1 - slope.astype(np.float64))
        self._node_of("Add", scaled, self._node_of("Mul", self._node_of("Relu", data), rest))

    def _exponential(self, slope: float, height: float, width: float) -> None:
        """slope · max(x, 0) + height · (exp(min(x, 0) / width) − 1)."""
        data = self._node.input[0]
        bent = self._node_of("Clip", data, "", self._constant(0))
        bent = bent if width == 1 else self._node_of("Div", bent, self._constant(width))
        bent = self._node_of("Exp", bent)
        bent = bent if height == 1 else self._node_of("Mul", bent, self._constant(height))
        bent = self._node_of("Sub", bent, self._constant(height))
        line = self._node_of("Relu", data)
        line = line if slope == 1 else self._node_of("Mul", line, self._constant(slope))
        self._node_of("Add", line, bent)

    def _mish(self, data: str) -> None:
        """x · (2 / (1 + σ(−x)²) − 1), which is x · tanh(log(1 + eˣ))."""
        gate = self._node_of("Sigmoid", self._node_of("Neg", data))
        square = self._node_of("Mul", gate, gate)
        below = self._node_of("Add", square, self._constant(1))
        share = self._node_of("Div", self._constant(2), below)
        self._node_of("Mul", data, self._node_of("Sub", share, self._constant(1)))

    def _softplus(self, data: str) -> None:
        """max(x, 0) − log(σ(|x|))."""
        log = self._node_of("Log", self._node_of("Sigmoid", self._node_of("Abs", data)))
        self._node_of("Sub", self._node_of("Relu", data), log)

    def _constant(self, value: g.Array | float) -> str:
        return self._rewriting.constant(
            f"{self._node.output[0]}_constant", np.asarray(value, np.float32)
        )

    def _node_of(self, op: str, *reads: str, **more: Any) -> str:
        name = self._rewriting.names.new(f"{self._node.output[0]}_{op}")
        label = self._rewriting.node_names.new(f"{self._node.name}_{op}")
        self._made.append(helper.make_node(op, reads, [name], name=label, **more))
        return name
