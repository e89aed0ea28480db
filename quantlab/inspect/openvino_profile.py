"""What OpenVINO runs, node by node: which kernel, in which precision, how long, why in fp32.

From a compiled model's own counters and its runtime model. A node's counter is a mean over all runs
since the model was compiled, in whole microseconds: so it is compiled anew for every turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from quantlab.inspect.kernels import KernelKind
from quantlab.inspect.profile import NodeTime, Profile
from quantlab.model.kinds import OPENVINO

_INT8 = {"i8", "u8"}
_FLOATS = {"f32", "f16", "bf16"}
_CONVERTERS = {"Reorder", "Convert"}
_ENDS = {"Const", "Input", "Output"}
_MOVERS = {
    "Broadcast", "Concatenation", "DepthToSpace", "Gather", "MemoryInput", "MemoryOutput", "Pad",
    "Reshape", "Select", "ShapeOf", "ShuffleChannels", "SpaceToDepth", "Split", "StridedSlice",
    "Tile", "Transpose",
}  # fmt: skip
_WITH_INT8 = {
    "Add", "AvgPool", "BatchToSpace", "Clamp", "Concat", "Convolution", "ConvolutionBackpropData",
    "FullyConnected", "FullyConnectedQuantizedLegacy", "GroupConvolution", "GRUSequence",
    "Interpolate", "LSTMSequence", "MVN", "MatMul", "MaxPool", "Multiply", "NormalizeL2", "PRelu",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Relu", "ReLU", "Subtract", "Subgraph",
}  # fmt: skip
"""What its low precision transformations take up (OpenVINO's documentation lists them)."""
_WITH_WEIGHTS = {"Convolution", "Deconvolution", "FullyConnected", "MatMul"}


@dataclass(frozen=True)
class RuntimeTensor:
    """What a node reads: who makes it, by which kind of layer, in which precision."""

    maker: str
    layer: str
    precision: str


@dataclass(frozen=True)
class RuntimeNode:
    """One node of the compiled model: its kind of ``layer``, the precision that it computes in, and
    that of what it makes."""

    name: str
    layer: str
    precision: str
    made: str
    inputs: tuple[RuntimeTensor, ...]


@dataclass(frozen=True)
class Counted:
    """OpenVINO's counter of one node: its operator, its kernel, the mean microseconds of
    all runs so far."""

    name: str
    op_type: str
    kernel: str
    mean_us: float


@dataclass(frozen=True)
class Turn:
    """Some runs of a model that was compiled for them: the milliseconds of each, and the counters
    of all nodes, in running order, after the first ``warm`` runs and after all."""

    run_ms: tuple[float, ...]
    warm: int
    before: tuple[Counted, ...]
    after: tuple[Counted, ...]

    @property
    def counted(self) -> tuple[float, ...]:
        """The runs after the warm-up."""
        return self.run_ms[self.warm :]

    @property
    def node_us(self) -> tuple[float, ...]:
        """The mean microseconds of each node in these."""
        runs = len(self.run_ms)
        return tuple(
            max(0.0, last.mean_us * runs - first.mean_us * self.warm) / (runs - self.warm)
            for first, last in zip(self.before, self.after, strict=True)
        )


def runtime_nodes(compiled: Any) -> dict[str, RuntimeNode]:
    """The nodes of a compiled model, by name."""
    return {node.name: node for node in _nodes(compiled.get_runtime_model())}


def _nodes(model: Any) -> Iterator[RuntimeNode]:
    for node in model.get_ordered_ops():
        makers = [port.get_source_output().get_node() for port in node.inputs()]
        yield RuntimeNode(
            name=node.get_friendly_name(),
            layer=_fact(node, "layerType"),
            precision=_fact(node, "runtimePrecision"),
            made=_first(_fact(node, "outputPrecisions")),
            inputs=tuple(map(_tensor, makers)),
        )


def _tensor(maker: Any) -> RuntimeTensor:
    """What this node makes, named after the one that it takes it from where it moves it only."""
    source = maker
    while _fact(source, "layerType") == "Reorder":
        source = source.input(0).get_source_output().get_node()
    layer, made = _fact(source, "layerType"), _first(_fact(maker, "outputPrecisions"))
    return RuntimeTensor(source.get_friendly_name(), layer, made)


def _fact(node: Any, key: str) -> str:
    facts = node.get_rt_info()
    return str(facts[key].value) if key in facts else ""


def _first(precisions: str) -> str:
    return precisions.split(",")[0]


def counters(request: Any) -> tuple[Counted, ...]:
    """Those of all nodes, in running order; a node that takes no microsecond is said not to have
    run, as one that became part of another."""
    return tuple(
        Counted(
            found.node_name,
            found.node_type,
            found.exec_type,
            found.real_time.total_seconds() * 1e6,
        )
        for found in request.profiling_info
    )


def openvino_profile(
    nodes: Mapping[str, RuntimeNode],
    turns: Sequence[Turn],
    *,
    model: str,
    quantized: bool,
    batch_size: int,
    threads: int,
) -> Profile:
    """The Profile of these turns; ``nodes`` are those of the last one. A run's time is the median
    of all that count, a node's the median of its means in the turns."""
    last = turns[-1].after
    alike = [turn.node_us for turn in turns if len(turn.after) == len(last)]
    counted = [ms for turn in turns for ms in turn.counted]
    every = [
        _node_time(nodes[each.name], each, quantized, median(times) / 1000)
        for each, times in zip(last, zip(*alike, strict=True), strict=True)
        if each.name in nodes and nodes[each.name].layer not in _ENDS
    ]
    return Profile(
        model=model,
        batch_size=batch_size,
        threads=threads,
        runs=len(counted),
        run_ms=median(counted),
        nodes=tuple(node for node in every if node.ms or node.kind != "move"),
        runtime=OPENVINO,
    )


def _node_time(node: RuntimeNode, counter: Counted, quantized: bool, ms: float) -> NodeTime:
    kind = kind_of_node(node)
    return NodeTime(
        name=_plain(node.name),
        op_type=counter.op_type,
        kind=kind,
        ms=ms,
        reason="; ".join(_reasons(node, counter.op_type, quantized)) if kind == "fp32" else "",
        kernel=counter.kernel,
    )


def kind_of_node(node: RuntimeNode) -> KernelKind:
    """What the node does, as Kernel says it."""
    if node.layer == "FakeQuantize":
        return "quantize"
    if node.layer in _CONVERTERS:
        around = {node.made, *(tensor.precision for tensor in node.inputs[:1])}
        return "quantize" if around & _INT8 and around & _FLOATS else "move"
    if node.layer in _MOVERS:
        return "move"
    if node.precision in _INT8:
        return "int8"
    return "fp32" if node.precision in _FLOATS else "move"


def _reasons(node: RuntimeNode, op_type: str, quantized: bool) -> Iterator[str]:
    """Why it is not in int8."""
    if not quantized:
        yield "the model is not quantized"
        return
    found = []
    if op_type not in _WITH_INT8:
        found.append(f"OpenVINO has no int8 kernel for {op_type}")
    weighted = node.layer in _WITH_WEIGHTS
    for place, tensor in enumerate(node.inputs[:2] if weighted else node.inputs):
        if tensor.precision not in _FLOATS:
            continue
        if weighted and place == 1 and tensor.layer in ("Const", "Reshape"):
            found.append("its weight is in fp32")
        elif tensor.layer == "Input":
            found.append("its input is the model's, in fp32")
        elif tensor.layer != "Const":
            found.append(f"what it reads of {_plain(tensor.maker)} is in fp32")
    yield from found or ["it reads int8, but OpenVINO computes it in fp32"]


def _plain(name: str) -> str:
    """A name without what OpenVINO's transformations put at its end."""
    return re.sub(r"(/WithoutBiases|/DequantizationMultiply|_original)+$", "", name)
