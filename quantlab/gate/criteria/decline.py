"""DeclineCriterion: what every limit for the decline of a score has in common."""

from __future__ import annotations

import re
from typing import ClassVar, Self

from pydantic import Field

from quantlab.gate.criterion import NUMBER, Criterion, amount, plain
from quantlab.stats.anytime import DeclineKind
from quantlab.stats.paired import Interval

_AMOUNT = re.compile(rf"\s*{NUMBER}\s*(%|pp|points?)\s*", re.IGNORECASE)
_SUFFIX = ".decline"


class DeclineCriterion(Criterion):
    """How much of a score may be lost.

    ``max_decline`` is a fraction: of the fp32 model's score when ``kind`` is relative, of all
    images (percentage points / 100) when it is absolute. ``metric`` has the score.
    """

    declines: ClassVar[bool] = True
    for_tuning: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True

    max_decline: float = Field(default=0.01, ge=0, lt=1)
    kind: DeclineKind = "relative"
    metric: str
    tolerance: float = Field(default=0.0, ge=0)

    @property
    def limit(self) -> float:
        """The most that may be lost."""
        return self.max_decline

    @property
    def unit(self) -> str:
        """A fraction, of what its kind says."""
        return "fraction of fp32's" if self.kind == "relative" else "fraction of 1"

    @property
    def score(self) -> str:
        """The metric's name in words."""
        return self.metric

    @property
    def title(self) -> str:
        """``top-1 decline``."""
        return f"{self.score} decline"

    def amount(self, loss: float) -> str:
        """``0.25%`` or ``0.2 points``."""
        return amount(loss, self.kind)

    def span(self, interval: Interval) -> str:
        """``-0.37% to 0.37%`` or ``-0.29 to 0.29 points``."""
        unit, tail = ("%", "") if self.kind == "relative" else ("", " points")
        return f"{100 * interval.low:.2f}{unit} to {100 * interval.high:.2f}{unit}{tail}"

    @property
    def name(self) -> str:
        """``top1.decline``."""
        return f"{self.metric}{_SUFFIX}"

    @property
    def written_limit(self) -> str:
        """``1%`` or ``0.5pp``."""
        return f"{plain(100 * self.max_decline)}{'%' if self.kind == 'relative' else 'pp'}"

    @property
    def charted(self) -> tuple[str, str, float]:
        """In percent or points."""
        return self.name, "%" if self.kind == "relative" else "points", 100.0

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """``1%`` of fp32's score, ``0.5pp`` or ``0.5 points`` of all images. Raises ValueError."""
        fraction, kind = decline_amount(limit)
        return cls(max_decline=fraction, kind=kind, metric=name.removesuffix(_SUFFIX))


def decline_amount(text: str) -> tuple[float, DeclineKind]:
    """The fraction and the kind of ``1%`` or ``0.5pp``. Raises ValueError."""
    match = _AMOUNT.fullmatch(text)
    if match is None or float(match[1]) >= 100:
        raise ValueError(f"{text!r} is no decline")
    return float(match[1]) / 100, "relative" if match[2] == "%" else "absolute"
