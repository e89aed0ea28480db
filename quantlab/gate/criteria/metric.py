"""MetricCriterion: how much of a metric of the user's own may be lost."""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field

from quantlab.compare.comparison import Comparison
from quantlab.errors import RecipeError
from quantlab.gate.criteria.decline import DeclineCriterion
from quantlab.gate.criterion import Finding
from quantlab.stats.paired import images_to_clear, mean_p, smallest_distance

FUNCTION = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*"


class MetricCriterion(DeclineCriterion):
    """How much the mean score of ``metric`` may fall, a ``module:function`` of the user's own
    (``quantlab.evaluate.custom``).

    Source:
        Efron 1987, Journal of the American Statistical Association 82:171 (the bootstrap).

    Examples:
        >>> from quantlab import MetricCriterion
        >>> MetricCriterion(metric="my.metrics:f1", max_decline=0.02).written
        'my.metrics:f1.decline <= 2%'
    """

    examples: ClassVar[tuple[str, ...]] = ("module:function.decline <= 1%",)

    metric: str = Field(pattern=rf"^{FUNCTION}$")

    @property
    def metric_function(self) -> str:
        """The function itself."""
        return self.metric

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether it is the decline of a function."""
        return re.fullmatch(rf"{FUNCTION}\.decline", name) is not None

    def is_unchanged(self, comparison: Comparison, *, anytime: bool = False) -> bool:
        """Whether no image scores otherwise either."""
        change = comparison.custom.get(self.metric)
        same = change is not None and not (change.lower or change.higher)
        return same and super().is_unchanged(comparison, anytime=anytime)

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """The decline with its bootstrap interval. Raises RecipeError where the comparison does not
        hold the metric."""
        change = comparison.custom.get(self.metric)
        if change is None:
            raise RecipeError(
                f"the comparison does not hold the metric {self.metric}.",
                "Give its function to compare(metrics=...).",
            )
        relative = self.kind == "relative"
        decline = change.ratio if relative else change.difference
        interval = change.ratio_interval if relative else change.difference_interval
        if decline is None or interval is None:
            return Finding(
                cause="not positive", facts={"mean": change.fp32}, leads_with="agreement"
            )
        return Finding(
            measured=decline,
            interval=interval,
            p=mean_p(decline, interval, self.limit),
            images=comparison.n,
            images_needed=images_to_clear(interval, decline - self.limit, change.n),
            smallest_decline=smallest_distance(interval),
            counts={"images score lower": change.lower, "higher": change.higher},
        )
