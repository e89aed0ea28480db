"""ClassCriterion: how much any single class may lose."""

from __future__ import annotations

import math
from typing import ClassVar, Self

from pydantic import Field

from quantlab.compare.classes import classes_exceeding
from quantlab.compare.comparison import Comparison
from quantlab.gate.criteria.decline import decline_amount
from quantlab.gate.criterion import Criterion, Finding, Leads, Trend, amount, plain
from quantlab.stats.paired import CONFIDENCE, Interval, paired_difference, z_value

ALPHA = (1 - CONFIDENCE) / 2


class ClassCriterion(Criterion):
    """How many of a class's images any class may lose net, as a fraction of them.

    Source:
        Benjamini & Hochberg 1995, Journal of the Royal Statistical Society B 57:289.

    Examples:
        >>> from quantlab import ClassCriterion
        >>> criterion = ClassCriterion(of_class=0.1)
        >>> criterion.limit_text, criterion.written
        ('10 points', 'class.decline <= 10pp')
    """

    examples: ClassVar[tuple[str, ...]] = ("class.decline <= 10pp",)
    what: ClassVar[str] = "largest decline of a class"
    measured_in: ClassVar[str] = "fraction of the class's images"
    needs_labels: ClassVar[bool] = True
    leads_with: ClassVar[Leads] = "agreement"

    of_class: float = Field(gt=0, lt=1)
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The largest decline of a class."""
        return self.of_class

    def amount(self, loss: float) -> str:
        """``12.5 points``."""
        return amount(loss, "absolute")

    def span(self, interval: Interval) -> str:
        """``2.10 to 31.20 points``."""
        return f"{100 * interval.low:.2f} to {100 * interval.high:.2f} points"

    @property
    def written_limit(self) -> str:
        """``10pp``."""
        return f"{plain(100 * self.of_class)}pp"

    def trend(self, finding: Finding) -> Trend | None:
        """How many classes fell: the worst one of them is another each time."""
        if finding.measured is None:
            return None
        name = f"classes that fall by more than {self.limit_text}"
        return Trend(name, "classes", len(finding.classes))

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """``10pp``. Raises ValueError."""
        fraction, kind = decline_amount(limit)
        if kind == "relative":
            raise ValueError(f"{limit!r} is not in points")
        return cls(of_class=fraction)

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """Fails when a class surely falls beyond the limit, all of them considered; passes when
        every class's interval lies within it."""
        classes = comparison.classes
        if not classes:
            return Finding(cause="no labels", leads_with="agreement")
        tested = classes_exceeding(classes, self.limit)
        fallen = [c for c, p in tested if p <= ALPHA]
        shown = fallen or [max(classes, key=lambda c: (c.net_loss / c.n, c.n))]
        worst = shown[0]
        intervals = [paired_difference(c.lost, c.gained, c.n) for c in classes]
        open_ = sum(interval.high > self.limit for interval in intervals)
        z = z_value()
        return Finding(
            cause="classes",
            measured=worst.net_loss / worst.n,
            interval=paired_difference(worst.lost, worst.gained, worst.n),
            status="fail" if fallen else "inconclusive" if open_ else "pass",
            p=tested[0][1],
            images=comparison.n,
            counts={"classes": len(classes), "open": open_},
            facts={"least images": math.ceil(z * z * (1 - self.limit) / self.limit)},
            classes=tuple(fallen),
            shown=tuple(shown),
        )
