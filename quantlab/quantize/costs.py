"""The table of costs: how long an operator takes in int8 and in fp32, by what it has to do.

It ships with quantlab, so that the same model and recipe give the same file on every machine;
``benchmarks/costs.py`` makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

Precision = Literal["int8", "fp32"]
Conversion = Literal["quantize", "dequantize", "reorder", "transpose"]
TABLE = Path(__file__).with_name("costs.json")


@dataclass(frozen=True)
class Work:
    """What one operator does: its kind, as the table names it, and how many output positions it
    computes (pixels, or rows of a matrix), values it reads and writes, and products it adds."""

    kind: str
    positions: int
    reads: int
    writes: int
    macs: int = 0

    @property
    def amounts(self) -> tuple[float, ...]:
        """What the terms of a Cost are multiplied with."""
        return (1.0, *(n / 1000 for n in (self.positions, self.reads, self.writes, self.macs)))


class Cost(BaseModel):
    """Microseconds for the operator itself, then nanoseconds for each position, value read, value
    written and product."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: float = 0.0
    position: float = 0.0
    read: float = 0.0
    write: float = 0.0
    mac: float = 0.0

    def of(self, work: Work) -> float:
        """Microseconds for this work."""
        terms = (self.start, self.position, self.read, self.write, self.mac)
        return sum(t * n for t, n in zip(terms, work.amounts, strict=True))


class Costs(BaseModel):
    """Costs by kind of operator, and those of conversions between int8 and fp32.

    A conversion of an ``image`` also changes how its channels are laid out, that of a ``matrix``
    does not. ``reorder`` and ``transpose`` change the layout of floats alone: from blocks of
    channels to channels first or back, and from channels last to blocks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    instructions: str
    onnxruntime: str
    operators: Mapping[str, Mapping[Precision, Cost]]
    conversions: Mapping[Literal["image", "matrix"], Mapping[Conversion, Cost]]

    def operator(self, work: Work, precision: Precision) -> float:
        """Microseconds; 0 for a kind that the table does not have."""
        found = self.operators.get(work.kind, {}).get(precision)
        return 0.0 if found is None else found.of(work)

    def conversion(self, layout: Literal["image", "matrix"], what: Conversion, size: int) -> float:
        """Microseconds for a tensor of so many values."""
        return self.conversions[layout][what].of(Work(what, 0, 0, size))


@cache
def shipped_costs() -> Costs:
    """The table that ships with quantlab."""
    return Costs.model_validate_json(TABLE.read_bytes())
