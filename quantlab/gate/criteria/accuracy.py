"""AccuracyCriterion: how much of top-1 or top-5 may be lost."""

from __future__ import annotations

from typing import ClassVar, Literal

from quantlab.compare.comparison import Comparison
from quantlab.gate.criteria.decline import DeclineCriterion
from quantlab.gate.criterion import Finding, Stopping, Unpaired
from quantlab.stats.anytime import anytime_decline
from quantlab.stats.paired import (
    images_needed,
    images_to_clear,
    independent_decline,
    mean_p,
    paired_decline_p,
    paired_difference_p,
    smallest_decline,
)

METRIC_NAMES = {"top1": "top-1", "top5": "top-5"}
_DEPTHS = {"top1": 1, "top5": 5}
"""Among how many first answers the label must be."""


class AccuracyCriterion(DeclineCriterion):
    """How much accuracy may be lost: of ``metric`` top1 or top5.

    Source:
        Tango 1998 for points; Tang, Tang & Chan 2003 for a share of fp32's accuracy.

    Examples:
        >>> from quantlab import AccuracyCriterion
        >>> criterion = AccuracyCriterion(max_decline=0.005, kind="absolute", metric="top5")
        >>> criterion.title, criterion.limit_text, criterion.written
        ('top-5 decline', '0.5 points', 'top5.decline <= 0.5pp')
    """

    examples: ClassVar[tuple[str, ...]] = ("top1.decline <= 1%", "top5.decline <= 0.5pp")

    metric: Literal["top1", "top5"] = "top1"

    @property
    def score(self) -> str:
        """``top-1``."""
        return METRIC_NAMES[self.metric]

    @property
    def stopping(self) -> Stopping:
        """Whether the label is among so many first answers."""
        return Stopping(_DEPTHS[self.metric], self.kind)

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """The decline with its paired interval."""
        change = comparison.top1 if self.metric == "top1" else comparison.top5
        if change is None:
            return Finding(cause="no labels", leads_with="agreement")
        if change.ratio is None or change.ratio_interval is None:
            return Finding(cause="never right", images=comparison.n, leads_with="agreement")
        counts = (change.both, change.lost, change.gained, change.n)
        relative = self.kind == "relative"
        if anytime:
            interval = anytime_decline(*counts, self.kind)
        else:
            interval = change.ratio_interval if relative else change.difference_interval
        p = (
            paired_decline_p(*counts[:3], self.limit)
            if relative
            else paired_difference_p(*counts[1:], self.limit)
        )
        open_ = interval.low <= self.limit < interval.high
        needed = images_needed(*counts, limit=self.limit, relative=relative) if open_ else None
        scale = (change.both + change.lost) / change.n if relative else 1.0
        return Finding(
            measured=change.ratio if relative else change.difference,
            interval=interval,
            p=p,
            images=comparison.n,
            images_needed=needed,
            smallest_decline=min(1.0, smallest_decline(*counts[1:]) / scale),
            anytime=anytime,
            counts={"lost": change.lost, "gained": change.gained},
        )

    def measure_unpaired(self, known: Unpaired) -> Finding:
        """The difference of two accuracies, each with its own interval."""
        before, now = known.before.get(self.metric), known.now.get(self.metric)
        if known.same_file or before is None or now is None:
            return super().measure_unpaired(known)
        (right, images), relative = before, self.kind == "relative"
        if relative and not right:
            return Finding(cause="baseline never right")
        interval = independent_decline(right, images, now.count, now.n, relative=relative)
        drop = right / images - now.value
        loss = drop / (right / images) if relative else drop
        return Finding(
            cause="unpaired",
            measured=loss,
            interval=interval,
            p=mean_p(loss, interval, self.limit),
            images_needed=images_to_clear(interval, loss - self.limit, now.n),
        )
