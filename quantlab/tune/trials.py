"""Trying recipes one after the other, always knowing the best so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from quantlab.comparison import Comparison
from quantlab.errors import QuantlabError
from quantlab.gate import Verdict
from quantlab.recipe import Recipe

SAME_SPEED = 0.97
"""Speeds within 3% of the fastest count as equally fast: the machine cannot tell them apart."""

Stop = Literal["finished", "budget", "interrupted"]


@dataclass(frozen=True)
class Trial:
    """One recipe tried: the file it gave and how that compares to fp32, or why it failed."""

    number: int
    recipe: Recipe
    seconds: float
    path: Path | None = None
    comparison: Comparison | None = None
    verdict: Verdict | None = None
    error: str | None = None


@dataclass(frozen=True)
class Judged:
    """A finished trial: the file it made and what was found."""

    trial: Trial
    path: Path
    comparison: Comparison
    verdict: Verdict

    @property
    def meets(self) -> bool:
        """Whether the measured decline is within the limit; without labels there is none."""
        decline = self.verdict.decline
        return decline is None or decline <= self.verdict.policy.max_decline

    @property
    def divergence(self) -> float:
        """The mean KL to fp32 in nats; infinite for a model that gives no finite answer."""
        kl = self.comparison.fidelity.kl
        return math.inf if kl is None else kl

    @property
    def speedup(self) -> float:
        """Over fp32; 1 when it was not timed."""
        return self.comparison.speedup or 1.0


@dataclass
class Outcome:
    """All trials in order, and why there are no more."""

    trials: list[Trial] = field(default_factory=list)
    stop: Stop = "finished"

    @property
    def best(self) -> Judged | None:
        """The best finished trial, or None."""
        return best(self.trials)


Attempt = Callable[[int, Recipe], tuple[Path, Comparison, Verdict]]


def run_trials(
    recipes: Iterable[Recipe],
    attempt: Attempt,
    *,
    budget: float,
    on_best: Callable[[Judged], None],
    clock: Callable[[], float] = time.monotonic,
) -> Outcome:
    """Attempt each recipe until the budget (seconds) is spent; one is always attempted.

    A trial that fails with a QuantlabError is kept as failed and the next one starts. ``on_best``
    is called whenever another trial becomes the best. Ctrl-C ends the trials, not the outcome.
    """
    outcome = Outcome()
    start = clock()
    leader: Judged | None = None
    try:
        for number, recipe in enumerate(recipes, 1):
            if outcome.trials and clock() - start >= budget:
                outcome.stop = "budget"
                break
            outcome.trials.append(_try(number, recipe, attempt, clock))
            now = outcome.best
            if now is not None and (leader is None or now.trial is not leader.trial):
                leader = now
                on_best(now)
    except KeyboardInterrupt:
        outcome.stop = "interrupted"
    return outcome


def _try(number: int, recipe: Recipe, attempt: Attempt, clock: Callable[[], float]) -> Trial:
    start = clock()
    try:
        path, comparison, verdict = attempt(number, recipe)
    except QuantlabError as error:
        return Trial(number, recipe, clock() - start, error=str(error))
    return Trial(number, recipe, clock() - start, path, comparison, verdict)


def finished(trials: Sequence[Trial]) -> list[Judged]:
    """The trials that gave a file, in order."""
    return [
        Judged(t, t.path, t.comparison, t.verdict)
        for t in trials
        if t.path is not None and t.comparison is not None and t.verdict is not None
    ]


def best(trials: Sequence[Trial]) -> Judged | None:
    """Best by: meets the criterion, then speed, then fidelity (KL to fp32).

    When none meets it, the one that misses it least.
    """
    judged = finished(trials)
    meeting = [j for j in judged if j.meets]
    if not meeting:
        return min(judged, key=lambda j: (j.verdict.decline or 0.0, j.divergence), default=None)
    fastest = max(j.speedup for j in meeting)
    quick = [j for j in meeting if j.speedup >= SAME_SPEED * fastest]
    return min(quick, key=lambda j: j.divergence)
