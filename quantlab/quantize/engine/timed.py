"""Time a net's layers in int8 and in fp32 in ONNX Runtime, by its profiler.

What a layer took is kept in the cache folder by all that its time depends on, so that a net's next
placement, or another net's with layers alike, measures only what is new.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any, get_args

import onnx
from numpy.typing import NDArray
from onnx import helper

from quantlab._util.cache import Store, key_of
from quantlab._util.scratch import temporary_folder
from quantlab._util.source import source_digest
from quantlab.model import graph as g
from quantlab.quantize.costs import Precision
from quantlab.quantize.engine.net import Layer, Net
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.runtime.environment import environment
from quantlab.runtime.graphs import graph_session

Values = Mapping[str, NDArray[Any]]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
RUNS = 60
THREADS = 1
PROFILING = 1.4
"""Microseconds that the profiler adds to a node's time."""
_SUFFIXES = re.compile(r"(_token_\d+|_nchwc|/MatMulAddFusion|/QuickGeluFusion/)+$")


@dataclass(frozen=True)
class NodeRun:
    """A node that ONNX Runtime ran: its name and operator there, whether it reads floats, shapes
    of inputs and outputs, and its median time in microseconds, without the profiler's."""

    name: str
    operator: str
    floats: bool
    reads: tuple[tuple[int, ...], ...]
    makes: tuple[tuple[int, ...], ...]
    microseconds: float


def fp32_net(net: Net) -> Net:
    """The net with no layer quantized."""
    layers = (replace(x, quantized=False, float_output=False) for x in net.layers)
    return replace(net, layers=tuple(layers))


def fp32_file(plan: QuantizationPlan) -> onnx.ModelProto:
    """The plan's net in fp32, as its layers are when they are left in fp32."""
    return write_qdq(replace(plan, net=fp32_net(plan.net), tensors={}, weights={}))


def node_runs(proto: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> list[NodeRun]:
    """The nodes that ONNX Runtime makes of a model, in running order."""
    with temporary_folder() as folder:
        session = graph_session(proto, threads=THREADS, profile=folder / "profile")
        for _ in range(RUNS):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_bytes())
    times: defaultdict[str, list[float]] = defaultdict(list)
    facts: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            times[name].append(float(event["dur"]))
            facts[name] = event["args"]
    return [
        NodeRun(
            name,
            str(facts[name]["op_name"]),
            "float" in (facts[name].get("input_type_shape") or [{}])[0],
            _shapes(facts[name].get("input_type_shape", [])),
            _shapes(facts[name].get("output_type_shape", [])),
            max(median(found) - PROFILING, 0.2),
        )
        for name, found in times.items()
    ]


def _shapes(described: list[dict[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(shape) for one in described for shape in one.values())


def by_layer(net: Net, runs: list[NodeRun]) -> Iterator[tuple[Layer, NodeRun]]:
    """The runs of nodes that compute a layer, whatever ONNX Runtime has named them."""
    known: dict[str, Layer] = {}
    for layer in net.layers:
        made = (*layer.outputs, *layer.node.output, layer.node.name)
        known.update(dict.fromkeys(made, layer))
        known.update((net.names.tensor(name, "before"), layer) for name in layer.outputs)
    for run in runs:
        found = known.get(run.name) or known.get(_SUFFIXES.sub("", run.name))
        if found is not None and run.operator not in ("QuantizeLinear", "DequantizeLinear"):
            yield found, run


def times_of(
    net: Net, values: Values, plan: Callable[[], QuantizationPlan]
) -> Callable[[Layer, Precision], float | None]:
    """What each layer takes in int8 and in fp32, in microseconds, where ONNX Runtime's profile
    tells it: 0 where a layer with weights computes it too.

    ``values`` are the net's tensors, and ``plan`` makes it quantized; it is called only for layers
    whose times are not in the cache.
    """
    store, key = Store.of("times"), key_of(*_machine(), THREADS, RUNS, source_digest())
    known = store.find(key, lambda _, facts: dict(facts["value"])) or {}
    works = {layer.name: work_key(net, layer, values) for layer in net.layers}
    new = {name for name, work in works.items() if work not in known}
    if new:
        spent = _spent(part_of(plan(), new, values), values)
        alike = defaultdict(list)
        for name in works:
            if name in new:
                alike[works[name]].append(spent[name])
        known.update(
            {
                work: [mean(times) for times in zip(*found, strict=True)]
                for work, found in alike.items()
            }
        )
        subject = f"{len(known)} layers, {', '.join(_machine())}"
        store.keep(key, subject, value=known)

    def time(layer: Layer, precision: Precision) -> float | None:
        found = float(known[works[layer.name]][PRECISIONS.index(precision)])
        return None if layer.weight is not None and found == 0 else found

    return time


def _machine() -> tuple[str, ...]:
    facts = environment()
    return facts["cpu"], facts["isa"], f"onnxruntime {facts['onnxruntime']}"


def _spent(plan: QuantizationPlan, values: Values) -> dict[str, list[float]]:
    """What each of the plan's layers takes, in int8 and in fp32."""
    feeds = {v.name: values[v.name] for v in plan.net.proto.graph.input}
    spent = {layer.name: [0.0, 0.0] for layer in plan.net.layers}
    for i, proto in enumerate((write_qdq(plan), fp32_file(plan))):
        for layer, run in by_layer(plan.net, node_runs(proto, feeds)):
            spent[layer.name][i] += run.microseconds
    return spent


def work_key(net: Net, layer: Layer, values: Values) -> str:
    """Changes with all that a layer's time depends on: its operator and activation, attributes,
    shapes, types, and the layers around it, with which ONNX Runtime may compute it as one."""
    constants = g.initializers(net.proto.graph)
    makers = [net.producers.get(name) for name in layer.inputs]
    readers = [net.consumers.get(name, []) for name in layer.outputs]
    return key_of(
        _form(layer),
        sorted(a.SerializeToString(deterministic=True).hex() for a in layer.node.attribute),
        [list(constants[name].dims) for name in layer.node.input if name in constants],
        [_shape(values, name) for name in (*layer.inputs, *layer.outputs)],
        [None if maker is None else _form(maker) for maker in makers],
        [sorted(map(_form, found)) for found in readers],
        [v.name in layer.outputs for v in net.proto.graph.output],
    )


def _form(layer: Layer) -> list[Any]:
    activation = "" if layer.activation is None else layer.activation.op_type
    return [layer.node.domain, layer.kind, activation, layer.quantized, layer.float_output]


def _shape(values: Values, name: str) -> list[Any]:
    return [*values[name].shape, str(values[name].dtype)] if name in values else []


def part_of(plan: QuantizationPlan, names: Collection[str], values: Values) -> QuantizationPlan:
    """The plan for these layers and those around them alone, as a net of its own: it reads what
    other layers make as inputs."""
    net = plan.net
    around = {x.name for x in net.layers if x.name in names}
    for layer in (x for x in net.layers if x.name in names):
        around.update(net.producers[n].name for n in layer.inputs if n in net.producers)
        around.update(x.name for n in layer.outputs for x in net.consumers.get(n, []))
    layers = tuple(x for x in net.layers if x.name in around)
    read = dict.fromkeys(n for x in layers for n in x.inputs)
    if len(layers) == len(net.layers) or not values.keys() >= read.keys():
        return plan
    made = {n for x in layers for n in x.outputs if n in values}
    proto = g.without_initializers(net.proto)
    graph = proto.graph
    for field in (graph.input, graph.output, graph.value_info):
        del field[:]
    graph.input.extend(_described(values, name) for name in read if name not in made)
    graph.output.extend(
        _described(values, n) for x in layers for n in x.outputs if n in made - read.keys()
    )
    g.set_nodes(graph, [n for x in layers for n in (x.node, x.activation) if n is not None])
    needed = {name for node in graph.node for name in g.node_reads(node)}
    graph.initializer.extend(t for t in net.proto.graph.initializer if t.name in needed)
    return replace(plan, net=replace(net, proto=proto, layers=layers))


def _described(values: Values, name: str) -> onnx.ValueInfoProto:
    value = values[name]
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor_value_info(name, kind, value.shape)
