"""Trial: the result of one recipe; the best of them, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from quantlab.compare.comparison import Comparison
from quantlab.gate.verdict import Verdict
from quantlab.recipe import Recipe
from quantlab.stats.paired import Interval
from quantlab.tune.choices import Pick as Pick

SAME_SPEED = 0.97
"""Speeds within 3% of the fastest count as equally fast, as do those whose intervals overlap."""

TrialStatus = Literal["scored", "done", "stopped", "failed"]


class Scores(BaseModel):
    """What was measured of a trial's file on the evaluation images.

    ``excess`` is how far the measured figure is beyond the criterion's limit, as a fraction of it
    (0 or less: met). Rates are fractions; ``speedup`` is over fp32, with its 95% interval, and
    ``faster`` whether that is surely more than 1, all None when it was not timed. ``int8_macs`` is
    the share of the MACs that the file computes in int8, None where that is not known. ``kl_p99``
    is the 99th percentile of the images' KL.
    """

    model_config = ConfigDict(frozen=True)

    meets: bool
    excess: float
    status: Literal["pass", "fail", "inconclusive"]
    images: int
    top1: float | None
    decline: float | None
    agreement: float
    kl: float | None
    kl_p99: float | None = None
    speedup: float | None
    speed_interval: Interval | None = None
    faster: bool | None = None
    int8_macs: float | None = None


class Trial(BaseModel):
    """One recipe: the file it gave (by content), how near that is to fp32, or why there is none.

    ``scored``: quantized, and its ``proxy`` (mean KL to fp32 on calibration images, nats) known.
    ``done``: evaluated on all images. ``stopped``: proven to meet the criterion, or not to, before
    all images were seen. ``failed``: ``error`` says why.

    Examples:
        >>> from quantlab import Recipe, Trial
        >>> trial = Trial(number=1, recipe=Recipe(), status="scored", seconds=0.5, proxy=0.01)
        >>> trial.divergence, trial.speedup
        (0.01, 1.0)
    """

    model_config = ConfigDict(frozen=True)

    schema_version: Literal[1] = 1
    number: int
    recipe: Recipe
    status: TrialStatus
    seconds: float
    sha256: str | None = None
    size_bytes: int | None = None
    proxy: float | None = None
    scores: Scores | None = None
    error: str | None = None
    note: str = ""

    @property
    def digest(self) -> str:
        """The recipe's digest: equal recipes are one trial."""
        return self.recipe.digest

    @property
    def as_scored(self) -> Trial:
        """The trial as it was before its evaluation."""
        unmade = self.sha256 is None
        return self if unmade else self.model_copy(update={"status": "scored", "scores": None})

    @property
    def judged(self) -> bool:
        """Whether it was evaluated on all images, or surely meets the criterion."""
        if self.scores is None:
            return False
        return self.status == "done" or (self.status == "stopped" and self.scores.meets)

    @property
    def speedup(self) -> float:
        """The speedup over fp32; 1 when it was not timed."""
        return (self.scores.speedup if self.scores else None) or 1.0

    @property
    def divergence(self) -> float:
        """The mean KL to fp32 in nats; infinite for a model that gives no finite answer."""
        kl = self.scores.kl if self.scores else self.proxy
        return math.inf if kl is None else kl


def scores(comparison: Comparison, verdict: Verdict) -> Scores:
    """The figures by which trials are ranked."""
    return Scores(
        meets=verdict.meets,
        excess=verdict.excess,
        status=verdict.status,
        images=comparison.n,
        top1=comparison.int8.top1.value if comparison.int8.top1 else None,
        decline=comparison.top1.ratio if comparison.top1 else None,
        agreement=comparison.fidelity.agreement.value,
        kl=comparison.fidelity.kl,
        kl_p99=comparison.fidelity.kl_p99,
        speedup=comparison.speedup,
        speed_interval=None if comparison.speed is None else comparison.speed.interval,
        faster=None if comparison.speed is None else comparison.speed.conclusion == "faster",
        int8_macs=None if comparison.macs is None else comparison.macs.int8,
    )


def best(trials: Sequence[Trial]) -> Trial | None:
    """Best by: meets the criterion, then speed, then fidelity: KL to fp32 on evaluation images, or
    on calibration images where not all have seen the same ones.

    When none meets it, the one that misses it least; when none was evaluated, the one nearest to
    fp32 on calibration images; None when there is no file at all.
    """
    done = [t for t in trials if t.judged]
    meeting = [t for t in done if t.scores and t.scores.meets]
    if meeting:
        fastest = max(meeting, key=lambda t: t.speedup)
        quick = [t for t in meeting if _as_fast(t, fastest)]
        whole = all(t.status == "done" for t in quick)
        return min(quick, key=lambda t: t.divergence if whole else calibration_score(t))
    if done:
        return min(done, key=lambda t: (_excess(t), t.divergence))
    filed = [t for t in trials if t.sha256 is not None]
    return min(filed, key=lambda t: (_excess(t), calibration_score(t)), default=None)


def _as_fast(trial: Trial, fastest: Trial) -> bool:
    """Whether the machine could not tell the two apart."""
    if trial.speedup >= SAME_SPEED * fastest.speedup:
        return True
    own, other = (t.scores.speed_interval if t.scores else None for t in (trial, fastest))
    return own is not None and other is not None and own.high >= other.low


def calibration_score(trial: Trial) -> float:
    """The KL on calibration images, which every trial with a file has: one quantity for all."""
    return math.inf if trial.proxy is None else trial.proxy


def _excess(trial: Trial) -> float:
    return max(0.0, trial.scores.excess) if trial.scores else 0.0


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """The evaluated trials that no other one beats in decline, speed and size together."""
    done = [t for t in trials if t.judged]
    return [t for t in done if not any(_dominates(other, t) for other in done)]


def _objectives(trial: Trial) -> tuple[float, float, float]:
    """Decline (KL where there are no labels), relative latency, bytes: all to be small."""
    decline = trial.scores.decline if trial.scores else None
    return (
        trial.divergence if decline is None else decline,
        1 / trial.speedup,
        float(trial.size_bytes or 0),
    )


def _dominates(a: Trial, b: Trial) -> bool:
    pairs = list(zip(_objectives(a), _objectives(b), strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def picked(trials: Sequence[Trial], pick: Pick) -> Trial | None:
    """The best by one objective among those on the Pareto front that meet the criterion (among all
    of the front when none does)."""
    if pick == "best":
        return best(trials)
    front = pareto_front(trials)
    front = [t for t in front if t.scores and t.scores.meets] or front
    column = {"most-accurate": 0, "fastest": 1, "smallest": 2}[pick]
    return min(front, key=lambda t: (_objectives(t)[column], t.divergence), default=None)
