"""Choose which of a net's layers to leave in fp32: the minimum cut over the layers' costs, and the
front of speed against accuracy."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from math import inf, prod
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.quantize.costs import Conversion, Costs, Precision, Work
from quantlab.quantize.engine.net import Layer, Net
from quantlab.quantize.engine.observe import CANNOT_RUN
from quantlab.quantize.engine.products import BY_VALUE
from quantlab.quantize.placement import (
    Exchange,
    FrontPoint,
    Operation,
    Placement,
    Region,
    by_count,
    fastest,
    front,
    predicted,
    widest,
)
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.session import plain_errors

Shapes = Mapping[str, tuple[int, ...]]
Times = Callable[[Layer, Precision], float | None]
"""What a layer was measured to take in microseconds, None where it was not."""
LEAST_GAIN, LEAST_SHARE = 75.0, 0.05
"""What gains fewer microseconds an image, or a smaller share of a run, is left in int8: the table
does not tell it from nothing."""
LEAST_REGION = 5.0
"""And so is a region that gains fewer microseconds an image."""
STEP = 0.1
"""Each placement of a front has so much less of the error of the one before."""
_BLOCK = 16
"""ONNX Runtime computes so many channels at once, where their number is a multiple of 4."""
_ALIGNED = 4
_GATES = ("HardSigmoid", "Sigmoid")
FUSED = "fused hardswish"
"""Added to a convolution in fp32: it computes the activation behind it."""
_POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool")


def place(
    net: Net, shapes: Shapes, costs: Costs, measured: Times | None = None, *, all_int8: bool = False
) -> Placement:
    """The fastest placement of a net in which all is quantized that can be; or, with ``all_int8``,
    everything in int8, with the time that it takes."""
    problem = _Problem(net, shapes, costs, measured or (lambda *_: None))
    operations, exchanges = problem.operations, problem.exchanges
    could = widest(operations, exchanges)
    chosen = could if all_int8 else problem.settled(operations)
    placed, most, fp32 = (
        predicted(operations, exchanges, choice)
        for choice in (chosen, could, [False for _ in operations])
    )
    regions = []
    for members in _regions(exchanges, chosen):
        names = [x.name for i in sorted(members) for x in problem.units[i] if x.quantized]
        if names:
            slower = problem.slower(operations, chosen, members)
            regions.append(Region(layers=tuple(names), slower=round(slower, 1)))
    return Placement(
        regions=tuple(regions),
        placed=round(placed, 1),
        widest=round(most, 1),
        fp32=round(fp32, 1),
    )


def speed_front(
    net: Net,
    shapes: Shapes,
    costs: Costs,
    measured: Times | None = None,
    *,
    errors: Mapping[str, float],
    all_int8: bool = False,
) -> tuple[FrontPoint, ...]:
    """The net's placements from the fastest (or that with ``all_int8``) on, each with at least STEP
    less error than the one before, for as long as anything that errs is in int8. ``errors`` are
    those that layers add by being in int8, by their names. Beside the fastest placement only such
    layers are excluded: without them it leaves what goes with them in fp32 by itself."""
    problem = _Problem(net, shapes, costs, measured or (lambda *_: None))
    operations, exchanges = problem.operations, problem.exchanges
    by_unit = [sum(errors.get(x.name, 0.0) for x in unit) for unit in problem.units]

    def without(left: Collection[int]) -> Sequence[bool]:
        """The fastest choice where these are excluded."""
        kept = [replace(o, int8=inf) if i in left else o for i, o in enumerate(operations)]
        return problem.settled(kept)

    choices = front(operations, exchanges, by_unit)
    if not choices[0].error:  # int8 saves no time: as many layers in it as the error allows
        choices = front(*by_count(operations, exchanges), by_unit)
    start = widest(operations, exchanges) if all_int8 else without(())
    points: list[FrontPoint] = []
    for wanted in (start, *(choice.int8 for choice in choices)):
        out = (i for i, now in enumerate(wanted) if start[i] and not now)
        left = {i for i in out if by_unit[i] or (all_int8 and _has_int8(problem.units[i]))}
        chosen = wanted if all_int8 else without(left)
        time = predicted(operations, exchanges, chosen)
        error = sum(e for e, now in zip(by_unit, chosen, strict=True) if now)
        if points and not 0 < error <= (1 - STEP) * points[-1].error:
            continue
        layers = (x for i in sorted(left) for x in problem.units[i] if x.quantized)
        weight = (time - points[-1].time) / (points[-1].error - error) if points else 0.0
        points.append(
            FrontPoint(
                exclude=tuple(sorted(name for x in layers for name in _nodes(x))),
                time=round(time, 1),
                error=error,
                weight=max(weight, 0.0),
            )
        )
    return tuple(points)


def _has_int8(unit: Sequence[Layer]) -> bool:
    return any(layer.quantized for layer in unit)


def _nodes(layer: Layer) -> Iterator[str]:
    yield layer.name
    if layer.activation is not None:
        yield layer.activation.name


def _regions(exchanges: Sequence[Exchange], chosen: Sequence[bool]) -> list[set[int]]:
    """Operators in fp32, those together that exchange tensors."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = [(e.maker, r) for e in exchanges for r in e.readers if e.maker is not None]
    inside = [(a, b) for a, b in edges if b is not None and not chosen[a] and not chosen[b]]
    rows, columns = [a for a, _ in inside], [b for _, b in inside]
    size = (len(chosen), len(chosen))
    graph = coo_array((np.ones(len(inside)), (rows, columns)), size)
    _, labels = connected_components(graph, directed=False)
    found: dict[int, set[int]] = {}
    for i, now in enumerate(chosen):
        if not now:
            found.setdefault(int(labels[i]), set()).add(i)
    return list(found.values())


def _with(
    operations: Sequence[Operation], chosen: Sequence[bool], members: Collection[int]
) -> list[bool]:
    """The choice with these operators in int8 as well, those that can be."""
    could = [i in members and o.int8 < inf for i, o in enumerate(operations)]
    return [now or more for now, more in zip(chosen, could, strict=True)]


class _Problem:
    """The net as operations and exchanges. Layers that ONNX Runtime computes as one are one."""

    def __init__(self, net: Net, shapes: Shapes, costs: Costs, measured: Times) -> None:
        self._net, self._shapes, self._costs, self._measured = net, shapes, costs, measured
        self.units = tuple(units_of(net, shapes))
        self._of = {layer.name: i for i, unit in enumerate(self.units) for layer in unit}
        self.operations = tuple(self._operation(unit) for unit in self.units)
        self.exchanges = tuple(self._exchanges())

    def settled(self, operations: Sequence[Operation]) -> Sequence[bool]:
        """The fastest choice, with what gains too little to tell left in int8."""
        images = self._shapes[self._net.input][0]
        could = widest(operations, self.exchanges)
        chosen: Sequence[bool] = fastest(operations, self.exchanges)
        most, placed = (predicted(operations, self.exchanges, c) for c in (could, chosen))
        if most - placed < max(LEAST_GAIN * images, LEAST_SHARE * most):
            return could
        for members in _regions(self.exchanges, chosen):
            if self.slower(operations, chosen, members) < LEAST_REGION * images:
                chosen = _with(operations, chosen, members)
        return chosen

    def slower(
        self, operations: Sequence[Operation], chosen: Sequence[bool], members: Collection[int]
    ) -> float:
        """How much more time a choice takes with these operators in int8 that can be."""
        choices = (_with(operations, chosen, members), chosen)
        more, now = (predicted(operations, self.exchanges, choice) for choice in choices)
        return more - now

    def _operation(self, unit: Sequence[Layer]) -> Operation:
        fp32 = self._fp32(unit)
        if _floats(unit[0], self._shapes):
            layout = self._layout(unit[0].output)
            size = prod(self._shapes[unit[0].output])
            both = (self._costs.conversion("matrix", c, size) for c in ("dequantize", "quantize"))
            return Operation(fp32 + sum(both) if layout == "image" else inf, fp32)
        if not _has_int8(unit):
            return Operation(inf, fp32)
        return Operation(sum(self._time(layer, "int8") for layer in unit), fp32)

    def _fp32(self, unit: Sequence[Layer]) -> float:
        first, last = unit[0], unit[-1]
        if self._measured(first, "fp32") is not None:
            return sum(self._measured(layer, "fp32") or 0.0 for layer in unit)
        if first.kind != "Conv":
            return sum(self._time(layer, "fp32") for layer in unit)
        size = prod(self._shapes.get(last.output, ())) if last.kind == "Mul" else 0
        fused = self._costs.operator(Work(FUSED, 0, 0, size), "fp32")
        return self._time(first, "fp32") + fused

    def _time(self, layer: Layer, precision: Precision) -> float:
        found = self._measured(layer, precision)
        if found is None:
            found = self._costs.operator(work_of(self._net, layer, self._shapes), precision)
        return found + (self._reorders(layer) if precision == "fp32" else 0.0)

    def _reorders(self, layer: Layer) -> float:
        """What ONNX Runtime spends on laying out anew, there and back, the channels of an image
        that a fp32 operator reads which is not written for blocks of channels."""
        sizes = [self._shapes.get(name, ()) for name in layer.inputs]
        broadcast = layer.kind in ("Mul", "Add") and len(set(sizes)) > 1
        if not broadcast or self._layout(layer.output) == "matrix":
            return 0.0
        return 2 * self._costs.conversion("image", "reorder", prod(self._shapes[layer.output]))

    def _layout(self, name: str) -> Literal["image", "matrix"]:
        shape = self._shapes.get(name, ())
        return "image" if len(shape) == 4 and prod(shape[2:]) > 1 else "matrix"

    def _exchanges(self) -> Iterator[Exchange]:
        outputs = {v.name for v in self._net.proto.graph.output}
        for name in (self._net.input, *chain(*(x.outputs for x in self._net.layers))):
            maker = self._net.producers.get(name)
            made = None if maker is None else self._of[maker.name]
            readers = {self._of[x.name] for x in self._net.consumers.get(name, [])} - {made}
            ends: tuple[int | None, ...] = (*sorted(readers), *[None] * (name in outputs))
            if ends and name in self._shapes:
                yield Exchange(made, ends, self._quantize(name), self._dequantize(name))

    def _quantize(self, name: str) -> float:
        maker, size = self._net.producers.get(name), prod(self._shapes[name])
        readers = self._net.consumers.get(name, [])
        taken = maker is not None and maker.quantized and not maker.float_output
        if taken and any(x.quantized and not _takes_floats(x) for x in readers):
            return inf
        layout = self._layout(name)
        time = self._conversion(name, "quantize")
        if maker is not None and maker.kind == "MaxPool" and layout == "image":
            work = Work("elementwise", size, size, size)
            time += self._costs.operator(work, "fp32")  # see qdq.write_qdq
        return time

    def _dequantize(self, name: str) -> float:
        maker = self._net.producers.get(name)
        if maker is None or maker.float_output:
            return 0.0
        if _floats(maker, self._shapes):  # it gives floats, in the layout of int8
            return self._conversion(name, "transpose")
        return self._conversion(name, "dequantize")

    def _conversion(self, name: str, what: Conversion) -> float:
        return self._costs.conversion(self._layout(name), what, prod(self._shapes[name]))


def _takes_floats(layer: Layer) -> bool:
    """Whether the engine quantizes what the layer reads for its sake."""
    return layer.weight is not None or (layer.kind in ("Add", "Mul") and len(layer.inputs) == 2)


def _floats(layer: Layer, shapes: Shapes) -> bool:
    """Whether the layer computes value by value in fp32, in whatever layout its input has."""
    by_value = layer.kind in (*BY_VALUE, "QuickGelu")
    if layer.quantized or not by_value or len(layer.inputs) != 1:
        return False
    return shapes.get(layer.inputs[0]) == shapes.get(layer.output)


def units_of(net: Net, shapes: Shapes) -> list[list[Layer]]:
    """Layers that belong together: HardSigmoid with the Mul that makes a HardSwish of it, a
    convolution with such an activation behind it, and a channel shuffle with what it shuffles."""
    units: list[list[Layer]] = []
    of: dict[str, list[Layer]] = {}
    for layer in net.layers:
        first, *others = [of[x.name] for x in _belongs_to(net, layer, shapes)] or [[]]
        for other in others:
            if other is not first:
                first += other
                units = [unit for unit in units if unit is not other]
        if not first:
            units.append(first)
        first.append(layer)
        of.update((member.name, first) for member in first)
    return units


def _belongs_to(net: Net, layer: Layer, shapes: Shapes) -> Iterator[Layer]:
    makers = [net.producers[name] for name in layer.inputs if name in net.producers]
    if layer.kind in _GATES and len(makers) == 1 and makers[0].kind == "Conv":
        readers = net.consumers[makers[0].output]
        if len(readers) == 1 or (len(readers) == 2 and any(map(_swish(net), readers))):
            yield makers[0]
    if _swish(net)(layer):
        yield from (x for x in makers if x.kind == "HardSigmoid")
    if _shuffles(net, layer, shapes):
        yield from reversed(_behind_convolutions(net, layer))


def _swish(net: Net) -> Callable[[Layer], bool]:
    def multiplies_its_gate(layer: Layer) -> bool:
        gates = [net.producers.get(name) for name in layer.inputs]
        return layer.kind == "Mul" and any(
            gate is not None and gate.kind == "HardSigmoid" and gate.inputs[0] in layer.inputs
            for gate in gates
        )

    return multiplies_its_gate


def work_of(net: Net, layer: Layer, shapes: Shapes) -> Work:
    """What one of the net's layers does, on tensors of these shapes."""
    read = [shapes.get(name, ()) for name in layer.inputs]
    made = shapes.get(layer.outputs[0], ()) if layer.outputs else ()
    reads, writes = sum(prod(s) for s in read if s), prod(made) if made else 0
    if layer.kind == "Conv" and layer.weight is not None:
        return _convolution(layer, read[0], made)
    if layer.kind == "Gemm" and layer.weight is not None:
        return Work("gemm", made[0], reads, writes, writes * layer.weight.shape[1])
    if layer.kind == "MatMul" and read and read[0]:
        return Work("matmul", writes // max(made[-1], 1), reads, writes, writes * read[0][-1])
    kind = "shuffle" if _shuffles(net, layer, shapes) else _kind(layer, read)
    return Work(kind, writes, reads, writes)


def _shuffles(net: Net, layer: Layer, shapes: Shapes) -> bool:
    """Whether the layer transposes five dimensions of what convolutions alone make: in int8 these
    have channels last, and ONNX Runtime brings them to the front in the same, slow, step."""
    if layer.kind != "Transpose" or len(shapes.get(layer.inputs[0], ())) != 5:
        return False
    made = _behind_convolutions(net, layer)
    names = made[-1].inputs if made else ()
    return all(n in net.producers and net.producers[n].kind == "Conv" for n in names) and bool(
        names
    )


def _behind_convolutions(net: Net, layer: Layer) -> list[Layer]:
    """The Reshapes and the Concat before a layer, the last first."""
    found: list[Layer] = []
    maker = net.producers.get(layer.inputs[0])
    while maker is not None and maker.kind in ("Reshape", "Concat"):
        found.append(maker)
        maker = net.producers.get(maker.inputs[0]) if maker.kind == "Reshape" else None
    return found


def _kind(layer: Layer, read: Sequence[tuple[int, ...]]) -> str:
    if layer.kind in ("Add", "Mul"):
        return "elementwise" if len(set(read)) < 2 else "broadcast"
    if layer.row.role == "moves" and layer.kind not in _POOLS:
        return "transpose" if layer.kind == "Transpose" else "move"
    return layer.kind.lower()


def _convolution(layer: Layer, read: tuple[int, ...], made: tuple[int, ...]) -> Work:
    assert layer.weight is not None
    kernel, positions = prod(layer.weight.shape[2:]), made[0] * prod(made[2:])
    wide, narrow = _rounded(made[1]), layer.weight.shape[1]
    odd = "odd " if (made[1] if layer.depthwise else narrow) % _ALIGNED else ""
    if layer.depthwise:
        kind, each = "depthwise", 1
        odd = odd or ("uneven " if made[1] % _BLOCK else "")
    elif layer.groups > 1:
        kind, each = "grouped", narrow
    elif narrow < _ALIGNED and kernel > 1 and len(read) == 4:
        kind, each, odd = "first", narrow, ""
    else:
        kind, each = "pointwise" if kernel == 1 else "dense", _rounded(narrow)
    if len(read) > 4:
        kind, odd = f"volume {kind}", ""
    reads = read[0] * _rounded(read[1]) * prod(read[2:])
    return Work(odd + kind, positions, reads, positions * wide, positions * wide * each * kernel)


def _rounded(channels: int) -> int:
    return -(-channels // _BLOCK) * _BLOCK


def tensor_values(net: Net, images: NDArray[np.generic]) -> dict[str, NDArray[np.generic]]:
    """All tensors on one image (or a fixed batch), as ONNX Runtime computes them in fp32."""
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    outputs = {v.name for v in proto.graph.output}
    names = [name for layer in net.layers for name in layer.outputs]
    proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in outputs)
    session = graph_session(proto, threads=1, optimization="disabled")
    with plain_errors(CANNOT_RUN):
        found = session.run(names, {net.input: images})
    made = {n: v for n, v in zip(names, found, strict=True) if hasattr(v, "shape")}
    return {**made, net.input: images}


def sizes_of(values: Mapping[str, NDArray[np.generic]]) -> Shapes:
    """The tensors' shapes."""
    return {name: tuple(value.shape) for name, value in values.items()}
