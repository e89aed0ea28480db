"""Confidence sequences and sequential tests for paired answers, valid at any stopping time. Pure.

A limit is rejected once bets against it would have multiplied their stake by 1 / alpha; the limits
that are left are the interval (Waudby-Smith & Ramdas, "Estimating means of bounded random variables
by betting", JRSS-B 2023; Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric,
nonasymptotic confidence sequences", Annals of Statistics 2021). Unlike an interval for a fixed
number of images it may be looked at after each one, and what was seen may end the images. Each end
errs with a probability of at most ``alpha``, for ever. The stake is split evenly over a fixed
ladder of bet sizes, which is a bet itself, so that nothing has to be known of the models.

Every image has one of a few outcomes, and a limit says what each counts for: the limit is kept when
the mean is at most 0. The images must come in random order. ``decision`` and ``interval`` take them
as draws from an endless population, as the intervals of ``quantlab.stats.paired`` do: the stake
then depends on the counts of outcomes alone, and a limit near the truth may never be decided.
``FiniteTest`` draws without replacement from all the images there are: it asks what all of them
would say, and decides at the last one for certain.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantlab.stats.paired import CONFIDENCE, Interval

StopDecision = Literal["pass", "fail"]
DeclineKind = Literal["relative", "absolute"]
"""Of a decline: a share of the first accuracy, or of all images."""
Floats = NDArray[np.float64]
Values = Callable[[float], Floats]
"""What each outcome counts for, given a limit: a mean of at most 0 is a limit that is kept."""

ALPHA = (1 - CONFIDENCE) / 2
BETS = 12
SMALLEST_BET = 0.01
BOLDEST = 0.9
"""The share of the stake that the worst possible image may cost: some is always left."""
SMALLEST_REACH = 1e-3
_HALVINGS = 50
_FARTHEST = 1e6
_ROUNDING = 1e-9


def log_gains(values: Floats, reach: float, expected: Floats | float = 0.0) -> Floats:
    """What each bet [k, BETS] that ``values`` [k], none below ``-reach``, come out above what is
    ``expected`` of them multiplies its part of the stake by: the logarithm."""
    reach = max(reach, SMALLEST_REACH)
    sizes = np.geomspace(SMALLEST_BET, BOLDEST / reach, BETS)
    room = np.maximum(np.asarray(expected + reach, np.float64), _ROUNDING)
    gains = np.minimum(sizes, BOLDEST / room[..., None]) * (values - expected)[:, None]
    return np.asarray(np.log1p(gains), np.float64)


def _log_sum(stakes: Floats) -> Floats:
    """The logarithm of the whole stake [...] from those of its parts [..., BETS]."""
    return np.asarray(np.logaddexp.reduce(stakes, axis=-1) - math.log(BETS), np.float64)


def log_stake(counts: Floats, values: Floats) -> Floats:
    """The logarithm of what the stake has become [...], when numbers with these ``values`` [k] came
    ``counts`` [..., k] times, and the bet is that their mean is above 0."""
    return _log_sum(counts @ log_gains(values, float(-values.min())))


def decline_values(kind: DeclineKind) -> Values:
    """For counts of both right, lost, gained, neither right."""
    if kind == "relative":
        return lambda limit: np.array([-limit, 1 - limit, -1.0, 0.0])
    return lambda limit: np.array([0.0, 1.0, -1.0, 0.0]) - limit


def share_values(limit: float) -> Floats:
    """For counts of images that do not and that do count for a share."""
    return np.array([-limit, 1 - limit])


class FiniteTest:
    """Whether the mean of what ``total`` images count for is at most 0 (pass) or not (fail).

    ``values`` are what the outcomes count for. ``seen`` counts the images so far; once there is a
    ``decision`` it stays.
    """

    def __init__(self, values: Floats, total: int, *, alpha: float = 0.05) -> None:
        self.seen, self.total = 0, total
        self.decision: StopDecision | None = None
        self._values, self._enough = values, math.log(1 / alpha)
        self._low, self._high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        self._sum = 0.0
        self._above, self._below = np.zeros(BETS), np.zeros(BETS)

    def update(self, outcomes: NDArray[np.integer]) -> StopDecision | None:
        """Take the outcomes [k] of more images; the decision, if there is one by now."""
        if self.seen + len(outcomes) > self.total:
            raise ValueError(f"more than the {self.total} announced images")
        if self.decision is None and len(outcomes):
            values = self._values[outcomes]
            sums = self._sum + np.cumsum(values)
            left = self.total - self.seen - np.arange(len(values))
            expected = -(sums - values) / left  # were the mean of all 0
            above = self._above + np.cumsum(log_gains(values, -self._low, expected), axis=0)
            below = self._below + np.cumsum(log_gains(-values, self._high, -expected), axis=0)
            fails = (_log_sum(above) >= self._enough) | (sums + self._low * (left - 1) > _ROUNDING)
            passes = _log_sum(below) >= self._enough
            passes |= sums + self._high * (left - 1) <= _ROUNDING
            self._above, self._below, self._sum = above[-1], below[-1], float(sums[-1])
            if (fails | passes).any():
                self.decision = "fail" if fails[int((fails | passes).argmax())] else "pass"
        self.seen += len(outcomes)
        return self.decision


def decision(counts: Floats, values: Values, limit: float) -> StopDecision | None:
    """Whether the limit is surely kept or surely broken, by the counts [k] so far."""
    at_limit = values(limit)
    if log_stake(counts, -at_limit) >= -math.log(ALPHA):
        return "pass"
    return "fail" if log_stake(counts, at_limit) >= -math.log(ALPHA) else None


def interval(counts: Floats, values: Values, estimate: float) -> Interval:
    """Every limit up to 1 for which ``decision`` is None; ``estimate`` is the one just kept.

    What is bet on an outcome rises (or falls) with the limit throughout, and so does the stake:
    the limits that are left lie side by side.
    """
    enough = -math.log(ALPHA)

    def too_low(limit: float) -> bool:
        return bool(log_stake(counts, values(limit)) >= enough)

    def too_high(limit: float) -> bool:
        return bool(log_stake(counts, -values(limit)) >= enough)

    below = 1.0
    while not too_low(estimate - below) and below < _FARTHEST:
        below *= 2
    return Interval(_edge(too_low, estimate, estimate - below), _edge(too_high, estimate, 1.0))


def _edge(rejected: Callable[[float], bool], inside: float, outside: float) -> float:
    """Between ``inside``, which is not rejected, and ``outside``: the first that is."""
    if not rejected(outside):
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if rejected(middle) else (middle, outside)
    return outside


def anytime_decline(both: int, lost: int, gained: int, n: int, kind: DeclineKind) -> Interval:
    """Of a decline: of (lost - gained) / n, or relative of (lost - gained) / (both + lost).

    Raises ValueError for a relative one when the first model is never right.
    """
    right = both + lost if kind == "relative" else n
    if not right:
        raise ValueError("a relative decline needs a first model that is right at least once")
    counts = np.array([both, lost, gained, n - both - lost - gained], np.float64)
    return interval(counts, decline_values(kind), (lost - gained) / right)


def anytime_share(count: int, n: int) -> Interval:
    """Of a share of which ``count`` of ``n`` images were seen."""
    counts = np.array([n - count, count], np.float64)
    found = interval(counts, share_values, count / n)
    return Interval(max(0.0, found.low), found.high)
