"""Placement: which operators to run in int8, by the time that each takes in int8 and in fp32.

Pure. Operators that compute in different types exchange tensors through a conversion, which takes
time too, so that the best choice is not made operator by operator: it is the minimum cut of a
graph. What lies on the source's side of the cut is in int8. An operator's time in fp32 is the
capacity of its edge from the source, its time in int8 that of its edge to the sink, and a
conversion that of an edge between operators.

Speed is traded for accuracy by a weight: so many microseconds for a unit of error, which count as
time that an operator takes in int8. Each weight has its minimum cut; all of them are the front.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, log2

import numpy as np
import onnx
from pydantic import BaseModel, ConfigDict, ValidationError

PLACEMENT_KEY = "quantlab.placement"
_NEVER = 2**30
"""Infinity in whole numbers, which a cut needs; all finite times together are half of it."""
_ALIKE = 1e-6
"""Sums that differ by a smaller share are taken for equal: a cut is in whole numbers."""
_SOURCE, _SINK = 0, 1


@dataclass(frozen=True)
class Operation:
    """What is placed as one: its time in int8, infinite where it cannot be, and in fp32."""

    int8: float
    fp32: float


@dataclass(frozen=True)
class Exchange:
    """A tensor that operators, by their numbers, make and read.

    ``maker`` is None for the model's input, which is fp32, and a reader None for its output. Time
    to ``quantize`` is spent once where fp32 makes what int8 reads, time to ``dequantize`` where
    int8 makes what fp32 reads; either may be infinite.
    """

    maker: int | None
    readers: tuple[int | None, ...]
    quantize: float
    dequantize: float


def predicted(
    operations: Sequence[Operation], exchanges: Sequence[Exchange], int8: Sequence[bool]
) -> float:
    """The time that a choice takes in all."""
    time = sum(o.int8 if chosen else o.fp32 for o, chosen in zip(operations, int8, strict=True))
    for exchange in exchanges:
        made = exchange.maker is not None and int8[exchange.maker]
        read = [reader is not None and int8[reader] for reader in exchange.readers]
        if made and not all(read):
            time += exchange.dequantize
        if not made and any(read):
            time += exchange.quantize
    return time


def fastest(operations: Sequence[Operation], exchanges: Sequence[Exchange]) -> tuple[bool, ...]:
    """Which operators to run in int8, so that all together take the least time; int8 where both
    are as fast."""
    count = len(operations) + 2
    edges: list[tuple[int, int, float]] = []
    for i, operation in enumerate(operations, 2):
        edges += [(_SOURCE, i, operation.fp32), (i, _SINK, operation.int8)]
    for exchange in exchanges:
        maker = _vertex(exchange.maker)
        readers = {_vertex(reader) for reader in exchange.readers}
        edges += [(maker, count, exchange.dequantize), (count + 1, maker, exchange.quantize)]
        edges += [edge for r in readers for edge in ((count, r, inf), (r, count + 1, inf))]
        count += 2
    on_sink_side = _sink_side(count, edges)
    return tuple(not on_sink_side[i] for i in range(2, len(operations) + 2))


def widest(operations: Sequence[Operation], exchanges: Sequence[Exchange]) -> tuple[bool, ...]:
    """The choice with as many operators in int8 as can be together."""
    return fastest(*by_count(operations, exchanges))


def by_count(
    operations: Sequence[Operation], exchanges: Sequence[Exchange]
) -> tuple[list[Operation], list[Exchange]]:
    """The same with every operator in fp32 counted as one, and no other time; what cannot be still
    cannot."""

    def free(time: float) -> float:
        return inf if time == inf else 0.0

    return [Operation(free(o.int8), 1.0) for o in operations], [
        replace(e, quantize=free(e.quantize), dequantize=free(e.dequantize)) for e in exchanges
    ]


@dataclass(frozen=True)
class Choice:
    """Which operators are in int8, the time that all take, and the error that these add."""

    int8: tuple[bool, ...]
    time: float
    error: float


def front(
    operations: Sequence[Operation], exchanges: Sequence[Exchange], errors: Sequence[float]
) -> tuple[Choice, ...]:
    """Every choice with the least time + weight × error for some weight, from the fastest to the
    one without error; ``errors`` are those of the operators in int8."""
    enough = 1 + sum(o.fp32 for o in operations)  # no best choice takes more

    def dearer(time: float) -> float:
        return time if time == inf else min(time, enough)

    def best(weight: float) -> Choice:
        added = [weight * error if error else 0.0 for error in errors]
        dear = [
            Operation(dearer(o.int8 + more), o.fp32)
            for o, more in zip(operations, added, strict=True)
        ]
        int8 = fastest(dear, exchanges)
        error = sum(e for e, chosen in zip(errors, int8, strict=True) if chosen)
        return Choice(int8, predicted(operations, exchanges, int8), error)

    first, last = best(0.0), best(inf)
    if first.error == last.error:
        return (first,)
    return (first, *_between(first, last, best), last)


def _between(first: Choice, last: Choice, best: Callable[[float], Choice]) -> Iterator[Choice]:
    """The choices of the front between two of it: what is best at the weight at which these two
    are equally good is one, if it is better than they are."""
    weight = (last.time - first.time) / (first.error - last.error)
    middle = best(max(weight, 0.0))
    both = first.time + weight * first.error
    better = middle.time + weight * middle.error < both * (1 - _ALIKE)
    if better and first.error > middle.error > last.error:
        yield from _between(first, middle, best)
        yield middle
        yield from _between(middle, last, best)


def _vertex(number: int | None) -> int:
    return _SINK if number is None else number + 2


def _sink_side(count: int, edges: Sequence[tuple[int, int, float]]) -> Sequence[bool]:
    """For each vertex whether what is left of the edges leads from it to the sink, once as much
    flows as can."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    starts, ends = [e[0] for e in edges], [e[1] for e in edges]
    times = np.array([e[2] for e in edges])
    least = max(times[np.isfinite(times)].sum(), 1.0) / (_NEVER // 2)
    unit = 2.0 ** ceil(log2(least))  # whole times stay exact
    whole = np.where(np.isfinite(times), np.rint(times / unit), _NEVER)
    capacity = coo_array((whole, (starts, ends)), (count, count)).tocsr()
    capacity.data = np.minimum(capacity.data, _NEVER)
    capacity = capacity.astype(np.int32)
    left = capacity - maximum_flow(capacity, _SOURCE, _SINK).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = breadth_first_order(left.T.tocsr(), _SINK, return_predecessors=False)
    return [bool(found) for found in np.isin(np.arange(count), reached)]


class Region(BaseModel):
    """Layers left in fp32 that exchange tensors, and by how many microseconds a run would take
    longer if they were in int8."""

    model_config = ConfigDict(frozen=True)

    layers: tuple[str, ...]
    slower: float


class Placement(BaseModel):
    """The regions left in fp32, and the predicted time of a run in microseconds: as placed, with
    all in int8 that can be, and with nothing."""

    model_config = ConfigDict(frozen=True)

    regions: tuple[Region, ...]
    placed: float
    widest: float
    fp32: float

    @property
    def speedup(self) -> float:
        """Over fp32, as predicted; 1 where no time is known."""
        return self.fp32 / self.placed if self.placed else 1.0

    @property
    def left(self) -> dict[str, float]:
        """The layers left in fp32, each with what its region would take longer in int8."""
        return {name: region.slower for region in self.regions for name in region.layers}


class FrontPoint(BaseModel):
    """A placement on the front of speed against accuracy: the nodes that it leaves in fp32 beside
    what is slower in int8, its predicted microseconds and error (KL, nats), and the least
    ``weight``, in microseconds a nat, at which it is the best."""

    model_config = ConfigDict(frozen=True)

    exclude: tuple[str, ...]
    time: float
    error: float
    weight: float


def write_placement(proto: onnx.ModelProto, placement: Placement) -> None:
    """Keep it in the quantized model's metadata."""
    proto.metadata_props.add(key=PLACEMENT_KEY, value=placement.model_dump_json())


def read_placement(metadata: Mapping[str, str]) -> Placement | None:
    """What a quantized file's metadata says of how it was placed; None where it says nothing."""
    text = metadata.get(PLACEMENT_KEY)
    try:
        return None if text is None else Placement.model_validate_json(text)
    except ValidationError:
        return None
