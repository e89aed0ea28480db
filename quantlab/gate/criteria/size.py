"""SizeCriterion: how large the int8 file may be."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field

from quantlab._util import units
from quantlab.compare.comparison import Comparison
from quantlab.gate.criterion import Criterion, Finding, Unpaired
from quantlab.stats.paired import Interval


class SizeCriterion(Criterion):
    """How many bytes the int8 file may have.

    Examples:
        >>> from quantlab import SizeCriterion
        >>> criterion = SizeCriterion(most_bytes=4_000_000)
        >>> criterion.limit_text, criterion.written
        ('4.00 MB', 'size <= 4MB')
    """

    examples: ClassVar[tuple[str, ...]] = ("size <= 4MB",)
    what: ClassVar[str] = "size of the int8 file"
    measured_in: ClassVar[str] = "bytes"

    most_bytes: int = Field(gt=0)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest size in bytes."""
        return self.most_bytes

    def amount(self, loss: float) -> str:
        """``3.67 MB`` of a million bytes each, or ``812 bytes``."""
        return f"{loss / 1e6:.2f} MB" if loss >= 1e4 else f"{loss:,.0f} bytes"

    def span(self, interval: Interval) -> str:
        """A size has no interval: its one value."""
        return self.amount(interval.high)

    @property
    def written_limit(self) -> str:
        """``4MB``."""
        return units.size(self.most_bytes)

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """``4MB`` or ``4096B``. Raises ValueError."""
        return cls(most_bytes=units.size_bytes(limit))

    def is_unchanged(self, comparison: Comparison, *, anytime: bool = False) -> bool:
        """Never: the same answers may take more bytes."""
        return False

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """The size as it is."""
        return _finding(comparison.int8.size_bytes)

    def measure_unpaired(self, known: Unpaired) -> Finding:
        """The size as it is."""
        return _finding(known.size_bytes)


def _finding(size_bytes: int | None) -> Finding:
    if size_bytes is None:
        return Finding(cause="no file")
    return Finding(cause="file", measured=float(size_bytes))
