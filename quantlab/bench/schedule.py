"""Schedule of a benchmark: order and number of rounds, turns and runs. Pure; times are in
milliseconds where a name ends in ``_ms``, else in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median

import numpy as np
from numpy.typing import NDArray

ROUNDS, LEAST_ROUNDS = 15, 8
"""Fresh processes a session, as many as the time allows between these."""
TURN_MS = 3.0
"""A turn's counted runs take at least so long, so that waking a process up does not matter."""
MOST_RUNS, MOST_TURNS = 100, 200
SLOW_MS = 100.0
"""A run that takes longer does not notice what the session before it left in the caches."""
WINDOW_MS, LEAST_WINDOW, MOST_WINDOW = 20.0, 5, 200
STABLE_WITHIN = 0.05
"""Two consecutive windows of warm-up runs whose medians are this near make a session warm."""


@dataclass(frozen=True)
class RoundPlan:
    """In each of ``rounds`` rounds every session has ``turns`` turns; a turn is ``uncounted`` runs
    and then ``runs`` timed ones."""

    rounds: int
    turns: int
    runs: int
    uncounted: int


def plan(
    medians_ms: Sequence[float],
    *,
    overhead: float,
    seconds: float,
    rounds: int | None = None,
    turns: int | None = None,
) -> RoundPlan:
    """Choose rounds, turns and runs so that all rounds together take about ``seconds``.

    ``medians_ms`` is what one run of each session takes, ``overhead`` what a round takes before its
    first turn. Where rounds cannot be that short, at least half as long is timed as prepared.
    """
    runs = max(1, min(MOST_RUNS, ceil(TURN_MS / max(min(medians_ms), 1e-6))))
    uncounted = 1 if max(medians_ms) < SLOW_MS else 0
    sweep = max(1e-6, sum(medians_ms) * (runs + uncounted) / 1000)
    if rounds is None:
        rounds = max(LEAST_ROUNDS, min(ROUNDS, int(seconds / (overhead + sweep))))
    if turns is None:
        fitting = max(int((seconds / rounds - overhead) / sweep), int(overhead / 2 / sweep))
        turns = max(1, min(MOST_TURNS, fitting))
    return RoundPlan(rounds, turns, runs, uncounted)


def drawn_order(count: int, seed: Sequence[int]) -> tuple[int, ...]:
    """The numbers below ``count`` in an order drawn at random."""
    return tuple(int(i) for i in np.random.default_rng([*seed, 1]).permutation(count))


def turn_orders(sessions: int, count: int, seed: Sequence[int]) -> list[tuple[int, ...]]:
    """``count`` orders of the sessions: one drawn at random, then its reverse, then another.

    The reverse cancels slow drifts. The draw gives every session every place and every predecessor
    equally often: with a fixed A A′ B, A would often follow itself and A′ never, and the two would
    differ by more than chance.
    """
    rng = np.random.default_rng(list(seed))
    orders: list[tuple[int, ...]] = []
    while len(orders) < count:
        order = tuple(int(i) for i in rng.permutation(sessions))
        orders += [order, order[::-1]]
    return orders[:count]


def is_warm(times_ms: Sequence[float]) -> bool:
    """Whether the medians of the last two windows of runs agree within 5%. A window is as many runs
    as take 20 ms, and between 5 and 200."""
    if len(times_ms) < 2 * LEAST_WINDOW:
        return False
    usual = max(median(times_ms[-LEAST_WINDOW:]), 1e-6)
    size = max(LEAST_WINDOW, min(MOST_WINDOW, ceil(WINDOW_MS / usual)))
    if len(times_ms) < 2 * size:
        return False
    now, before = median(times_ms[-size:]), median(times_ms[-2 * size : -size])
    return abs(now - before) <= STABLE_WITHIN * before


def poisson_arrivals(rate: float, seconds: float, seed: Sequence[int]) -> NDArray[np.float64]:
    """When requests come in a window of ``seconds``, ``rate`` a second: a Poisson process, as in
    the Server scenario of MLPerf Inference, given that as many come as are expected. These are
    uniform, so that the offered load is the one asked for, with all its bursts. One comes at least.
    """
    count = max(1, round(rate * seconds))
    return np.sort(np.random.default_rng(list(seed)).uniform(0, seconds, count))
