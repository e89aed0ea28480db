"""Time of each node in a run, and why an int8 model is not faster. Pure.

ONNX Runtime's own profile is a list of events in Chrome's trace format: ``model_run`` for each run,
and within it ``…_kernel_time`` for each node, with its operator and the types of its inputs.
``quantlab.inspect.openvino_profile`` makes the same Profile of OpenVINO's counters.
Durations are whole microseconds and contain what profiling itself costs.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from onnx import TensorProto
from pydantic import BaseModel, ConfigDict, Field

from quantlab.errors import ModelError
from quantlab.inspect.kernels import KernelKind, kernel_kind, plain_name
from quantlab.model.kinds import ONNX_RUNTIME, RuntimeName

MAX_BYTES = 256 * 1024**2
QUANTIZERS, PRODUCTS = "Quantize/Dequantize", "Gemm/MatMul"
WORTH_A_WORD = 0.05
"""What takes a smaller share of a run's time is left out of the answer."""
ALIKE = 1.1
"""Times that differ by a smaller factor count as the same."""
KINDS_NAMED = 4
_RUN, _NODE = "model_run", "_kernel_time"
_SAME = "as fast"
_OF_OPENVINO = {
    "Convolution": "Conv",
    "GroupConvolution": "Conv",
    "ConvolutionBackpropData": "ConvTranspose",
    "FullyConnected": PRODUCTS,
    "FullyConnectedQuantizedLegacy": PRODUCTS,
    "ReduceMean": "GlobalAveragePool",
    "AvgPool": "AveragePool",
    "ReLU": "Relu",
}
"""Its operators by ONNX's names."""

ProfileEvent = Mapping[str, Any]


class NodeTime(BaseModel):
    """One node that the runtime runs, ``kind`` and ``reason`` as in ``quantlab.inspect.Kernel``;
    ``ms`` is its median time in a run, ``kernel`` what OpenVINO calls the code that ran."""

    model_config = ConfigDict(frozen=True)

    name: str
    op_type: str
    kind: KernelKind
    ms: float
    reason: str = ""
    kernel: str = ""


class Profile(BaseModel):
    """One model: ``run_ms`` is the median of ``runs`` whole runs, ``nodes`` in running order."""

    model_config = ConfigDict(frozen=True)

    model: str
    batch_size: int
    threads: int
    runs: int
    run_ms: float = Field(gt=0)
    nodes: tuple[NodeTime, ...]
    runtime: RuntimeName = ONNX_RUNTIME

    @property
    def between_ms(self) -> float:
        """What a run takes beyond its nodes."""
        return max(0.0, self.run_ms - total(self.nodes))

    @property
    def is_quantized(self) -> bool:
        """Whether any node computes in int8 or converts to it."""
        return any(node.kind in ("int8", "quantize") for node in self.nodes)

    def of_kind(self, kind: KernelKind) -> tuple[NodeTime, ...]:
        """The nodes of one kind."""
        return tuple(node for node in self.nodes if node.kind == kind)

    def share(self, ms: float) -> float:
        """Of a run's time."""
        return ms / self.run_ms

    def by_operator(self) -> dict[str, float]:
        """Milliseconds of each operator, its int8 form counted with it; the slowest first."""
        times: defaultdict[str, float] = defaultdict(float)
        for node in self.nodes:
            name = QUANTIZERS if node.kind == "quantize" else operator(node.op_type)
            times[name] += node.ms
        return dict(sorted(times.items(), key=lambda item: -item[1]))

    def slowest(self, count: int = 10) -> tuple[NodeTime, ...]:
        """The nodes that take longest, the slowest first."""
        return tuple(sorted(self.nodes, key=lambda node: -node.ms)[:count])


def total(nodes: Iterable[NodeTime]) -> float:
    """Their milliseconds together."""
    return sum(node.ms for node in nodes)


def operator(op_type: str) -> str:
    """What an operator computes, whichever its kernel and runtime: Conv for FusedConv, QLinearConv
    and OpenVINO's Convolution. A fp32 Gemm may be a QLinearMatMul in int8, so these are one."""
    if op_type in _OF_OPENVINO:
        return _OF_OPENVINO[op_type]
    if op_type in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"):
        return QUANTIZERS
    name = re.sub(r"^(QLinear|Q(?=Gemm)|DynamicQuantize|Fused|Nhwc)", "", op_type)
    name = re.sub(r"Integer(ToFloat)?$", "", name)
    return PRODUCTS if name in ("Gemm", "MatMul") else name


def read_events(path: Path) -> list[ProfileEvent]:
    """The events of a profile. Raises ModelError when the file is too large or is none."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(
                f"ONNX Runtime's profile is larger than {MAX_BYTES >> 20} MiB: the model has too "
                "many nodes."
            )
        events = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"ONNX Runtime's profile cannot be read: {error}.") from error
    if not isinstance(events, list):
        raise ModelError("ONNX Runtime's profile is not a list of events.")
    return [event for event in events if isinstance(event, dict)]


def profile_of(
    events: Sequence[ProfileEvent],
    *,
    model: str,
    batch_size: int,
    threads: int,
    counted: Sequence[int],
    reasons: Mapping[str, str] | None = None,
) -> Profile:
    """The Profile of the runs numbered ``counted``, from 0 on; the others are warm-up. ``reasons``
    gives by node name why a node is fp32. Raises ModelError when a run is missing or an event is
    not as ONNX Runtime writes it."""
    try:
        runs = sorted((e["ts"], e["dur"]) for e in events if e.get("name") == _RUN)
        if not counted or max(counted) >= len(runs):
            raise ModelError(
                f"ONNX Runtime's profile of {model} is cut short: it holds {len(runs)} runs.",
                "The model has too many nodes to be profiled.",
            )
        times = _node_times(events, [start for start, _ in runs])
        return Profile(
            model=model,
            batch_size=batch_size,
            threads=threads,
            runs=len(counted),
            run_ms=median(runs[i][1] for i in counted) / 1000,
            nodes=tuple(
                _node(event, median(in_run[i] for i in counted) / 1000, reasons or {})
                for event, in_run in times.values()
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"ONNX Runtime's profile is not as expected: {error!r}.") from error


def _node_times(
    events: Sequence[ProfileEvent], starts: Sequence[float]
) -> dict[tuple[str, str], tuple[ProfileEvent, list[float]]]:
    """Each node's first event and its microseconds in each run, in running order; a node that runs
    several times in a run (in a loop) has the sum."""
    found: dict[tuple[str, str], tuple[ProfileEvent, list[float]]] = {}
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(_NODE)]
    for event in sorted(nodes, key=lambda e: e["ts"]):
        key = (event["name"], str(event["args"].get("node_index")))
        _, times = found.setdefault(key, (event, [0.0] * len(starts)))
        if (run := bisect_right(starts, event["ts"]) - 1) >= 0:
            times[run] += max(0.0, float(event["dur"]))
    return found


def _node(event: ProfileEvent, ms: float, reasons: Mapping[str, str]) -> NodeTime:
    name, op_type = plain_name(event["name"].removesuffix(_NODE)), event["args"]["op_name"]
    types = [kind for tensor in event["args"].get("input_type_shape") or [] for kind in tensor]
    kind = kernel_kind(op_type, _data_type(types[0]) if types else None)
    reason = reasons.get(name, "") if kind == "fp32" else ""
    return NodeTime(name=name, op_type=op_type, kind=kind, ms=ms, reason=reason)


def _data_type(name: str) -> int | None:
    """ONNX's number for a type as the profile writes it."""
    return dict(TensorProto.DataType.items()).get(name.upper())


def answers(profiles: Sequence[Profile]) -> tuple[str, ...]:
    """Sentences that explain the later models' speed against the first by measured times; for a
    single model, where its time goes."""
    first, *others = profiles
    if not others:
        return (_alone(first), *_costs(first))
    return tuple(
        sentence for other in others for sentence in (_against(first, other), *_costs(other))
    )


def _alone(profile: Profile) -> str:
    parts = [
        f"{profile.share(ms):.0%} {name}"
        for name, ms in profile.by_operator().items()
        if profile.share(ms) >= WORTH_A_WORD
    ]
    return f"{profile.model} takes {profile.run_ms:.2f} ms a run: {', '.join(parts)}."


def _against(first: Profile, other: Profile) -> str:
    speed = _speed(first.run_ms, other.run_ms)
    link = "as" if speed == _SAME else "than"
    old, new = first.by_operator(), other.by_operator()
    shared = [
        f"{_speed(old[name], new[name])} in {name} ({old[name]:.2f} to {new[name]:.2f} ms)"
        for name in old
        if name in new and max(first.share(old[name]), other.share(new[name])) >= WORTH_A_WORD
    ]
    added = [
        f"{ms:.2f} ms go into {name}, which {first.model} does without"
        for name, ms in new.items()
        if name not in old and name != QUANTIZERS and other.share(ms) >= WORTH_A_WORD
    ]
    whole = f"{other.model} is {speed} {link} {first.model} ({first.run_ms:.2f} to "
    return "; ".join([f"{whole}{other.run_ms:.2f} ms)", *shared, *added]) + "."


def _speed(before: float, after: float) -> str:
    ratio = before / max(after, 1e-9)
    if 1 / ALIKE < ratio < ALIKE:
        return _SAME
    return f"{ratio:.2f}x faster" if ratio > 1 else f"{1 / max(ratio, 1e-9):.2f}x slower"


def _costs(profile: Profile) -> list[str]:
    """Sentences on what slows a quantized model down; none for an fp32 one."""
    if not profile.is_quantized:
        return []
    found = [_conversions(profile), _left_in_fp32(profile), _moves(profile)]
    return [f"{profile.model}: {text}" for text in found if text]


def _conversions(profile: Profile) -> str:
    nodes = profile.of_kind("quantize")
    share = profile.share(total(nodes))
    onnx = profile.runtime == ONNX_RUNTIME
    several = "QuantizeLinear and DequantizeLinear" if onnx else "conversions"
    what = several if len(nodes) > 1 else "conversion"
    return f"{share:.1%} of its time goes into {len(nodes)} {what}." if nodes else ""


def _left_in_fp32(profile: Profile) -> str:
    nodes = profile.of_kind("fp32")
    if not nodes:
        return "every node that computes has an int8 kernel."
    counts, times = Counter(node.op_type for node in nodes), defaultdict[str, float](float)
    for node in nodes:
        times[node.op_type] += node.ms
    worst = sorted(times, key=lambda op: -times[op])[:KINDS_NAMED]
    kinds = ", ".join(f"{counts[op]} {op}" for op in worst)
    others = " and others" if len(counts) > KINDS_NAMED else ""
    verb = "nodes still run" if len(nodes) > 1 else "node still runs"
    share, slowest = profile.share(total(nodes)), max(nodes, key=lambda node: node.ms)
    why = f" The slowest, {slowest.name}: {slowest.reason}." if slowest.reason else ""
    return f"{len(nodes)} {verb} in fp32, {share:.1%} of its time: {kinds}{others}.{why}"


def _moves(profile: Profile) -> str:
    nodes = profile.of_kind("move")
    share = profile.share(total(nodes))
    kinds = ", ".join(sorted({node.op_type for node in nodes}))
    return (
        f"{share:.1%} of its time goes into {len(nodes)} nodes that only move data ({kinds})."
        if share >= WORTH_A_WORD
        else ""
    )
