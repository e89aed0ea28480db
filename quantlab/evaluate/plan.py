"""Plan: batch size, parallel calls and threads of an evaluation, and which plans to try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BATCHES = (2, 8)
"""Larger ones leave the processor's caches. The first is the usual one, and OpenVINO's only one: it
compiles the model for each, and was never clearly faster with another."""
WORTH_CHANGING = 1.1
"""A plan counts as faster than an earlier one from here on: a few images tell no less."""
_SIDE_BY_SIDE = 16


@dataclass(frozen=True)
class ParallelPlan:
    """``workers`` calls side by side, each of ``batch`` images and computed by ``threads``."""

    workers: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.workers} x {self.threads} threads, batch {self.batch}"


def splits(cores: int) -> tuple[tuple[int, int], ...]:
    """(workers, threads) that fill the cores: as many calls as possible, some, one. Of two cores
    only the first: one call in two threads was never faster."""
    if cores <= 2:
        return ((cores, 1),)
    most = -(-cores // _SIDE_BY_SIDE)
    threads = dict.fromkeys((most, max(most, min(4, cores // 2)), cores))
    return tuple((cores // t, t) for t in threads)


def next_plan(
    rates: Mapping[ParallelPlan, float], split: Sequence[tuple[int, int]], batches: Sequence[int]
) -> ParallelPlan | None:
    """The next plan to try: every batch size with the first split, then the other splits with the
    best batch size. ``rates`` holds the images/s of those tried."""
    for batch in batches:
        if (plan := ParallelPlan(*split[0], batch)) not in rates:
            return plan
    best = fastest(rates)
    untried = (ParallelPlan(*other, best.batch) for other in split[1:])
    return next((plan for plan in untried if plan not in rates), None)


def fastest(rates: Mapping[ParallelPlan, float]) -> ParallelPlan:
    """The plan of the highest rate; an earlier one where the later is not clearly faster."""
    plans = iter(rates)
    best = next(plans)
    for plan in plans:
        if rates[plan] > WORTH_CHANGING * rates[best]:
            best = plan
    return best
