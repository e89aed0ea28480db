"""Time a net's layers in int8 and in fp32 in ONNX Runtime, by its profiler."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from numpy.typing import NDArray

from quantlab._util.scratch import temporary_folder
from quantlab.quantize.costs import Precision
from quantlab.quantize.engine.net import Layer, Net
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.runtime.graphs import graph_session

RUNS = 60
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
    return Net(net.proto, tuple(layers))


def fp32_file(plan: QuantizationPlan) -> onnx.ModelProto:
    """The plan's net in fp32, as its layers are when they are left in fp32."""
    return write_qdq(replace(plan, net=fp32_net(plan.net), tensors={}, weights={}))


def node_runs(proto: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]]) -> list[NodeRun]:
    """The nodes that ONNX Runtime makes of a model, in running order, one thread."""
    with temporary_folder() as folder:
        session = graph_session(proto, threads=1, profile=folder / "profile")
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
    plan: QuantizationPlan, feeds: Mapping[str, NDArray[Any]]
) -> Callable[[Layer, Precision], float | None]:
    """What each layer takes in the plan's file and in the fp32 one, in microseconds, where ONNX
    Runtime's profile tells it: 0 where a layer with weights computes it too."""
    files = {"int8": write_qdq(plan), "fp32": fp32_file(plan)}
    times: dict[str, dict[str, float]] = {}
    for precision, proto in files.items():
        spent = dict.fromkeys((layer.name for layer in plan.net.layers), 0.0)
        for layer, run in by_layer(plan.net, node_runs(proto, feeds)):
            spent[layer.name] += run.microseconds
        times[precision] = spent

    def time(layer: Layer, precision: Precision) -> float | None:
        found = times[precision].get(layer.name, 0.0)
        return None if layer.weight is not None and found == 0 else found

    return time
