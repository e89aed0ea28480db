"""PortableCriterion: int8's answers must be the same on CPUs without VNNI."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field

from quantlab.compare.comparison import Comparison, Where
from quantlab.gate.criterion import Criterion, Finding, Unpaired, VerdictStatus
from quantlab.stats.paired import Interval

_FAILS: dict[str, VerdictStatus] = {
    "saturates": "fail",
    "not seen": "inconclusive",
    "not emulated": "inconclusive",
    "unknown": "inconclusive",
}


class PortableCriterion(Criterion):
    """That no sum of two products overflows on CPUs without VNNI, which add them in 16 bits. Needs
    no labels.

    Source:
        docs/engine.md for the bound.

    Examples:
        >>> from quantlab import PortableCriterion
        >>> PortableCriterion().written
        'portable'
    """

    examples: ClassVar[tuple[str, ...]] = ("portable",)
    what: ClassVar[str] = "share of 16-bit pair sums that overflow"
    measured_in: ClassVar[str] = "fraction of the 16-bit pair sums"
    relation: ClassVar[Literal["<=", ">=", ""]] = ""

    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """None may overflow."""
        return 0.0

    def amount(self, loss: float) -> str:
        """``0.0673%``."""
        return f"{100 * loss:.3g}%"

    def span(self, interval: Interval) -> str:
        """A count has no interval: its one value."""
        return self.amount(interval.high)

    @property
    def written_limit(self) -> str:
        """It has none."""
        return ""

    @property
    def charted(self) -> tuple[str, str, float]:
        """The sums that overflow, in percent."""
        return "16-bit pair sums that overflow", "%", 100.0

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """The name says all. Raises ValueError for a limit."""
        if limit:
            raise ValueError(f"{name} has no limit")
        return cls()

    def is_unchanged(self, comparison: Comparison, *, anytime: bool = False) -> bool:
        """Never: fp32's answers say nothing of it."""
        return False

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """By the int8 file alone: passes where no sum can overflow, fails where one did."""
        return _finding(comparison.where)

    def measure_unpaired(self, known: Unpaired) -> Finding:
        """The same."""
        return _finding(known.where)


def _finding(where: Where | None) -> Finding:
    if where is None:
        return Finding(cause="cpus not known")
    found = where.cpus
    return Finding(
        cause="cpus",
        measured=None if found.state in ("not emulated", "unknown") else found.share,
        status=_FAILS.get(found.state, "pass"),
        facts={"runtime": where.runtime, **found.model_dump(exclude_none=True)},
    )
