"""Bounds and hard sigmoids, in whatever operators they are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.quantize.rewriting import Rewriting, become

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
    """clip(α·x + β, 0, c) becomes HardSigmoid where it is divided by c, at once or after having
    been multiplied by x, where it is multiplied by x / c, and where c is 1; HardSwish becomes
    HardSigmoid and Mul."""
    rewriting = Rewriting(graph)
    gone = set[str]()
    kept = []
    for node in graph.node:
        if g.is_standard(node, "HardSwish"):
            gate = rewriting.names.new(f"{node.output[0]}_gate")
            label = rewriting.node_names.new(f"{node.name}_gate")
            kept.append(_hard_sigmoid(_Line(node.input[0], 1 / 6, 0.5), gate, label))
            become(node, "Mul", [node.input[0], gate])
        elif g.is_standard(node, "Clip") and (found := _gate(node, rewriting)) is not None:
            line, divides = found
            made = node.output[0]
            if divides is not None:
                gone.add(divides.name)
                if made in divides.input:
                    made = divides.output[0]
                else:
                    product = next(n for n in divides.input if n not in rewriting.weights)
                    _rename_output(product, divides.output[0], rewriting)
            kept.append(_hard_sigmoid(line, made, node.name))
            continue
        kept.append(node)
    g.set_nodes(graph, [node for node in kept if node.name not in gone])
    g.prune(graph)


HARD_SWISH_OPSET = 14
_USUAL = (1 / 6, 0.5)
"""The slope and the offset of a HardSwish's gate."""


def hard_swishes(graph: onnx.GraphProto) -> None:
    """x · HardSigmoid(x) becomes HardSwish; other HardSigmoids become Mul, Add and Clip."""
    rewriting = Rewriting(graph)
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if not g.is_standard(node, "HardSigmoid"):
            kept.append(node)
            continue
        line = g.attribute(node, "alpha", 0.2), g.attribute(node, "beta", 0.5)
        product = rewriting.only_reader(node.output[0])
        if product is not None and _is_swish(product, node, line, rewriting):
            become(product, "HardSwish", [node.input[0]])
        else:
            kept += _clipped_line(node, line, rewriting)
    g.set_nodes(graph, kept)


def _is_swish(
    product: onnx.NodeProto, gate: onnx.NodeProto, line: tuple[float, float], rewriting: Rewriting
) -> bool:
    alike = g.is_standard(product, "Mul") and np.allclose(line, _USUAL, rtol=1e-6)
    return alike and rewriting.other(product, gate.output[0]) == gate.input[0]


def _clipped_line(
    node: onnx.NodeProto, line: tuple[float, float], rewriting: Rewriting
) -> list[onnx.NodeProto]:
    made, name = node.output[0], node.input[0]
    nodes = []
    for kind, number in zip(("Mul", "Add"), line, strict=True):
        constant = rewriting.constant(f"{made}_{kind}", np.array(number, np.float32))
        output = rewriting.names.new(f"{made}_{kind}")
        label = rewriting.node_names.new(f"{node.name}_{kind}")
        nodes.append(helper.make_node(kind, [name, constant], [output], name=label))
        name = output
    ends = [rewriting.constant(f"{made}_{end}", np.array(end, np.float32)) for end in (0.0, 1.0)]
    become(node, "Clip", [name, *ends])
    return [*nodes, node]


class _Line(NamedTuple):
    """slope · data + offset."""

    data: str
    slope: float
    offset: float


_LONGEST = 4
"""Nodes that a line may be written in."""


def _gate(clip: onnx.NodeProto, rewriting: Rewriting) -> tuple[_Line, onnx.NodeProto | None] | None:
    """What a Clip makes a hard sigmoid of, and the division that is then done."""
    limits = _limits(clip, rewriting)
    if limits is None or limits[0] != 0 or not 0 < limits[1] < np.inf:
        return None
    top, made = limits[1], clip.output[0]
    lines = [
        _Line(line.data, line.slope / top, line.offset / top)
        for line in _lines(clip.input[0], rewriting)
        if line.slope > 0 and 0 <= line.offset <= top
    ]
    reader = rewriting.only_reader(made)
    if reader is not None and _divides(reader, made, top, rewriting):
        return (lines[-1], reader) if lines else None
    if reader is not None and g.is_standard(reader, "Mul"):
        for line in lines:
            if set(reader.input) == {line.data, made}:
                last = rewriting.only_reader(reader.output[0])
                if last is not None and _divides(last, reader.output[0], top, rewriting):
                    return line, last
            if _takes_share(reader, made, line.data, top, rewriting):
                return line, None
    shifted = [line for line in lines if line.offset > 0]
    return (shifted[-1], None) if shifted and top == 1 else None


def _takes_share(
    product: onnx.NodeProto, gate: str, data: str, top: float, rewriting: Rewriting
) -> bool:
    """Whether the Mul multiplies the gate by data / top. It then multiplies by data itself."""
    other = rewriting.other(product, gate)
    for line in _lines(other, rewriting)[1:]:
        if line.data == data and not line.offset and np.isclose(line.slope * top, 1, rtol=1e-6):
            g.rename_node_reads(product, {other: data})
            return True
    return False


def _lines(name: str, rewriting: Rewriting) -> list[_Line]:
    """The tensor as a line in itself, and in what it is made of by numbers, one after the other."""
    found = [_Line(name, 1.0, 0.0)]
    while len(found) < _LONGEST:
        maker = rewriting.made_by.get(found[-1].data)
        if maker is None or not g.is_standard(maker, "Add", "Sub", "Mul", "Div"):
            break
        data = next((n for n in maker.input if n not in rewriting.weights), "")
        number = rewriting.scalar(rewriting.other(maker, data))
        first = maker.input[0] == data
        if number is None or (not first and maker.op_type in ("Sub", "Div")):
            break
        _, slope, offset = found[-1]
        match maker.op_type:
            case "Add":
                line = _Line(data, slope, offset + slope * number)
            case "Sub":
                line = _Line(data, slope, offset - slope * number)
            case "Mul":
                line = _Line(data, slope * number, offset)
            case _:
                line = _Line(data, slope / number if number else 0.0, offset)
        found.append(line)
    return found


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


def _hard_sigmoid(line: _Line, target: str, name: str) -> onnx.NodeProto:
    return helper.make_node(
        "HardSigmoid", [line.data], [target], name=name, alpha=line.slope, beta=line.offset
    )


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
