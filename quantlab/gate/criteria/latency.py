"""LatencyCriterion: how many times fp32's latency int8 may take."""

from __future__ import annotations

import math
from typing import ClassVar, Self

from pydantic import Field

from quantlab.compare.comparison import Comparison
from quantlab.gate.criterion import Criterion, Finding, Level, Unpaired, number, plain
from quantlab.stats.paired import Interval, mean_p


class LatencyCriterion(Criterion):
    """How many times fp32's median latency int8 may take, at batch 1 and on one thread.

    Source:
        docs/bench.md for the interval: runs side by side, a signed-rank interval over rounds.

    Examples:
        >>> from quantlab import LatencyCriterion
        >>> criterion = LatencyCriterion(ratio=0.6)
        >>> criterion.limit_text, criterion.written
        ('0.6', 'latency.p50.ratio <= 0.6')
    """

    examples: ClassVar[tuple[str, ...]] = ("latency.p50.ratio <= 1.05",)
    what: ClassVar[str] = "latency p50, int8 / fp32"
    measured_in: ClassVar[str] = "x fp32"
    usual_level: ClassVar[Level] = "advisory"
    needs_timing: ClassVar[bool] = True

    ratio: float = Field(gt=0)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest ratio int8 / fp32."""
        return self.ratio

    @property
    def limit_text(self) -> str:
        """``1.05``."""
        return f"{self.ratio:g}"

    def amount(self, loss: float) -> str:
        """``0.512``."""
        return f"{loss:.3f}"

    def span(self, interval: Interval) -> str:
        """``0.504 to 0.521``."""
        return f"{interval.low:.3f} to {interval.high:.3f}"

    @property
    def written_limit(self) -> str:
        """``1.05``."""
        return plain(self.ratio)

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """``0.6``. Raises ValueError."""
        return cls(ratio=number(limit))

    def is_unchanged(self, comparison: Comparison, *, anytime: bool = False) -> bool:
        """Never: the same answers may take another time."""
        return False

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """The ratio of the medians at the smallest batch size, with its interval."""
        if comparison.same_file:
            return self._own_time()
        speed = comparison.speed
        if speed is None:
            return Finding(cause="not timed")
        ratio = 1 / speed.speedup
        interval = Interval(1 / speed.interval.high, 1 / speed.interval.low)
        logs = Interval(math.log(interval.low), math.log(interval.high))
        return Finding(
            cause="timed",
            measured=ratio,
            interval=interval,
            status="inconclusive" if speed.too_noisy else None,
            p=mean_p(math.log(ratio), logs, math.log(self.limit)),
            facts={
                "batch size": speed.batch_size,
                "too noisy": speed.too_noisy,
                "rounds": speed.rounds_needed or 2 * speed.rounds,
            },
        )

    def measure_unpaired(self, known: Unpaired) -> Finding:
        """Only of one file beside itself; else both are needed."""
        return self._own_time() if known.same_file else Finding(cause="not timed")

    def _own_time(self) -> Finding:
        """A file beside itself takes its own time, and no clock is needed."""
        return Finding(cause="own time", measured=1.0)
