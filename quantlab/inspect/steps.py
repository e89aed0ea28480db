"""Run a graph step by step: ONNX Runtime for most nodes, functions that change some outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx
import onnxruntime as ort
from onnx import helper

from quantlab.errors import ModelError
from quantlab.inspect.kernels import tensor_types
from quantlab.model import graph as g
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.session import plain_errors

StepChange = Callable[[g.Array, g.Array], g.Array]
"""From a node's first input and its output to what later nodes see as its output."""


@dataclass(frozen=True, eq=False)
class Segment:
    """Neighbouring nodes that ONNX Runtime runs together."""

    session: ort.InferenceSession
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    def run(self, values: Mapping[str, g.Array]) -> dict[str, g.Array]:
        """The tensors that it makes for later steps."""
        with plain_errors("ONNX Runtime cannot run part of the model"):
            found = self.session.run(list(self.makes), {n: values[n] for n in self.reads})
        return dict(zip(self.makes, found, strict=True))


class Steps:
    """``Steps(proto, ["conv1", …])(image, {"conv1": change, …})`` gives the first output.

    ``changed`` are outputs of nodes that functions change; each run may bring other functions.
    Every node is computed once a run, and a tensor is kept only until its last reader had it.
    """

    def __init__(self, proto: onnx.ModelProto, changed: Sequence[str]) -> None:
        self._input, self._output = proto.graph.input[0].name, proto.graph.output[0].name
        ordered = onnx.GraphProto()
        ordered.CopyFrom(proto.graph)
        g.set_nodes(ordered, _ordered(proto.graph))
        chunks = list(_chunks(list(ordered.node), set(changed)))
        weights, types = g.initializers(ordered), tensor_types(ordered)
        reads = [_reads(chunk) - set(weights) for chunk in chunks]
        self._last: dict[str, int] = {self._output: len(chunks)}
        for i, names in enumerate(reads):
            self._last |= dict.fromkeys(names, i)
        self._steps = []
        for i, chunk in enumerate(chunks):
            last = chunk[-1]
            ends = {last.input[0], last.output[0]} if last.output[0] in changed else set[str]()
            made = {name for node in chunk for name in node.output if name}
            later = {self._output}.union(ends, *reads[i + 1 :])
            makes, taken = tuple(sorted(made & later)), tuple(sorted(reads[i] - made))
            self._steps.append((_segment(proto, chunk, makes, taken, types), last))

    def __call__(self, images: g.Array, changes: Mapping[str, StepChange]) -> g.Array:
        """Runs everything on a batch. Raises ModelError."""
        values: dict[str, g.Array] = {self._input: images}
        for i, (segment, last) in enumerate(self._steps):
            values |= segment.run(values)
            name = last.output[0]
            if name in changes:
                values[name] = changes[name](values[last.input[0]], values[name])
            values = {n: v for n, v in values.items() if self._last.get(n, 0) > i}
        return values[self._output]


def _ordered(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes, each after those whose outputs it reads."""
    nodes = list(graph.node)
    waiting = {name for node in nodes for name in node.output if name}
    order: list[onnx.NodeProto] = []
    while nodes:
        left = []
        for node in nodes:
            if waiting.isdisjoint(g.node_reads(node)):
                order.append(node)
                waiting.difference_update(node.output)
            else:
                left.append(node)
        if len(left) == len(nodes):
            raise ModelError("the graph holds a cycle.")
        nodes = left
    return order


def _chunks(nodes: list[onnx.NodeProto], changed: set[str]) -> Iterator[list[onnx.NodeProto]]:
    """Runs of neighbours, each but the last ending with a node whose output is changed."""
    chunk: list[onnx.NodeProto] = []
    for node in nodes:
        chunk.append(node)
        if node.output[0] in changed:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _reads(chunk: list[onnx.NodeProto]) -> set[str]:
    return {name for node in chunk for name in g.node_reads(node)}


def _segment(
    proto: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    makes: tuple[str, ...],
    reads: tuple[str, ...],
    types: Mapping[str, int],
) -> Segment:
    wanted = _reads(nodes)
    graph = helper.make_graph(
        nodes,
        "segment",
        [helper.make_tensor_value_info(name, types[name], None) for name in reads],
        [helper.make_empty_tensor_value_info(name) for name in makes],
        [t for t in proto.graph.initializer if t.name in wanted],
    )
    model = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    # One thread: those of so many sessions would spin and take the processor from numpy.
    session = graph_session(model, threads=1, optimization="disabled")
    return Segment(session, reads, makes)
