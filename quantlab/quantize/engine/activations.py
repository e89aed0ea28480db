"""Bounds and hard sigmoids, in whatever operators they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.quantize.engine.rewriting import Rewriting, become

_Shapes = Mapping[str, tuple[g.Dim, ...]]


def limits_as_clips(graph: onnx.GraphProto) -> None:
    """Max and Min with one number become Clip; Relu and Clips in a row become one Clip."""
    rewriting = Rewriting(graph)
    for node in graph.node:
        if not g.is_standard(node, "Max", "Min") or len(node.input) != 2:
            continue
        for data, bound in (tuple(node.input), tuple(reversed(node.input))):
            limit = rewriting.scalar(bound)
            if limit is None or data in rewriting.weights or rewriting.weights[bound].ndim > 1:
                continue
            name = rewriting.constant(f"{node.output[0]}_bound", np.array(limit, np.float32))
            reads = [data, name] if node.op_type == "Max" else [data, "", name]
            become(node, "Clip", reads)
            break
    _merge_clips(Rewriting(graph))


def _merge_clips(rewriting: Rewriting) -> None:
    merged = set[str]()
    for node in rewriting.graph.node:
        before = rewriting.made_by.get(node.input[0]) if node.input else None
        limits = _limits(node, rewriting)
        first = _limits(before, rewriting) if before is not None else None
        if before is None or limits is None or first is None:
            continue
        if rewriting.only_reader(before.output[0]) is None:
            continue
        low, high = (float(np.clip(bound, *limits)) for bound in first)
        bounds = ("min", max(low, limits[0])), ("max", min(high, limits[1]))
        names = [
            rewriting.constant(f"{node.output[0]}_{what}", np.array(bound, np.float32))
            if np.isfinite(bound)
            else ""
            for what, bound in bounds
        ]
        become(node, "Clip", [before.input[0], *names])
        rewriting.read_weights()
        merged.add(before.output[0])
    kept = [n for n in rewriting.graph.node if not merged.intersection(n.output)]
    g.set_nodes(rewriting.graph, kept)


def _limits(node: onnx.NodeProto, rewriting: Rewriting) -> tuple[float, float] | None:
    if g.is_standard(node, "Relu"):
        return 0.0, np.inf
    if not g.is_standard(node, "Clip"):
        return None
    given = [*node.input[1:], "", ""][:2]
    found = [rewriting.scalar(name) if name else np.inf for name in given]
    if None in found:
        return None
    low, high = (float(f) for f in found if f is not None)
    return (low if given[0] else -np.inf), high


def hard_sigmoids(graph: onnx.GraphProto) -> None:
    """clip(x + b, 0, c), divided by c at once or after having been multiplied by x, becomes
    HardSigmoid; HardSwish becomes HardSigmoid and Mul."""
    rewriting = Rewriting(graph)
    gone = set[str]()
    kept = []
    for node in graph.node:
        if g.is_standard(node, "HardSwish"):
            gate = rewriting.names.new(f"{node.output[0]}_gate")
            label = rewriting.node_names.new(f"{node.name}_gate")
            kept.append(_hard_sigmoid(node.input[0], gate, label, 1 / 6, 0.5))
            become(node, "Mul", [node.input[0], gate])
        elif g.is_standard(node, "Clip") and (found := _taken_apart(node, rewriting)) is not None:
            shift, last = found
            if last.before == node.output[0]:
                made = last.node.output[0]
            else:
                made = node.output[0]
                _rename_output(last.before, last.node.output[0], rewriting)
            gone.add(last.node.name)
            alpha, beta = 1 / shift.top, shift.offset / shift.top
            kept.append(_hard_sigmoid(shift.data, made, node.name, alpha, beta))
            continue
        kept.append(node)
    g.set_nodes(graph, [node for node in kept if node.name not in gone])
    g.prune(graph)


@dataclass(frozen=True)
class _Shift:
    """``data`` + ``offset``, clipped from zero to ``top``."""

    data: str
    offset: float
    top: float


@dataclass(frozen=True)
class _Last:
    node: onnx.NodeProto
    before: str


def _taken_apart(clip: onnx.NodeProto, rewriting: Rewriting) -> tuple[_Shift, _Last] | None:
    """A Clip from 0 to c with the Add before it, if there is one, and the division by c behind."""
    limits = _limits(clip, rewriting)
    if limits is None or limits[0] != 0 or not 0 < limits[1] < np.inf:
        return None
    data, offset = _shifted(clip.input[0], rewriting)
    reader = rewriting.only_reader(clip.output[0])
    if reader is None:
        return None
    before = clip.output[0]
    if g.is_standard(reader, "Mul") and set(reader.input) == {data, before}:
        before = reader.output[0]
        reader = rewriting.only_reader(before)
    if reader is None or not _divides(reader, before, limits[1], rewriting):
        return None
    return _Shift(data, offset, limits[1]), _Last(reader, before)


def _shifted(name: str, rewriting: Rewriting) -> tuple[str, float]:
    """The tensor that an Add of a number makes this one of, with the number."""
    maker = rewriting.made_by.get(name)
    if maker is not None and g.is_standard(maker, "Add"):
        for data in maker.input:
            offset = rewriting.scalar(rewriting.other(maker, data))
            if offset is not None:
                return data, offset
    return name, 0.0


def _divides(node: onnx.NodeProto, name: str, by: float, rewriting: Rewriting) -> bool:
    constant = rewriting.scalar(rewriting.other(node, name))
    if constant is None or not constant:
        return False
    if g.is_standard(node, "Div"):
        return node.input[0] == name and bool(np.isclose(constant, by, rtol=1e-6))
    return g.is_standard(node, "Mul") and bool(np.isclose(constant, 1 / by, rtol=1e-6))


def _rename_output(old: str, new: str, rewriting: Rewriting) -> None:
    maker = rewriting.made_by[old]
    for i, name in enumerate(maker.output):
        maker.output[i] = new if name == old else name


def _hard_sigmoid(source: str, target: str, name: str, alpha: float, beta: float) -> onnx.NodeProto:
    return helper.make_node("HardSigmoid", [source], [target], name=name, alpha=alpha, beta=beta)


_TAKES_IN = ("Conv", "Gemm", "ConvTranspose", "Add")


_MOVERS = (
    "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Slice", "DepthToSpace", "MaxPool",
)  # fmt: skip
"""What commutes with a function of each value that never falls."""


def activations_first(graph: onnx.GraphProto) -> None:
    """A Relu or Clip behind operators that only move or select values goes before them, where a
    layer with weights or a sum takes it in."""
    rewriting = Rewriting(graph)
    order = list(graph.node)
    for node in graph.node:
        if _limits(node, rewriting) is None:
            continue
        path: list[onnx.NodeProto] = []
        name = node.input[0]
        while rewriting.only_reader(name) is not None and name in rewriting.made_by:
            maker = rewriting.made_by[name]
            if not g.is_standard(maker, *_MOVERS) or len(maker.output) > 1:
                break
            path.append(maker)
            name = maker.input[0]
        alone = rewriting.only_reader(name) is not None
        source = rewriting.made_by.get(name)
        if not path or not alone or source is None or not g.is_standard(source, *_TAKES_IN):
            continue
        bounded = rewriting.names.new(f"{name}_bounded")
        path[0].output[0] = node.output[0]
        rewriting.made_by[node.output[0]] = path[0]
        node.output[0], node.input[0] = bounded, name
        path[-1].input[0] = bounded
        rewriting.made_by[bounded], rewriting.read_by[bounded] = node, [path[-1]]
        rewriting.read_by[name] = [node]
        order.remove(node)
        order.insert(order.index(path[-1]), node)
    g.set_nodes(graph, order)
