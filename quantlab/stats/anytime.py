"""Confidence sequences: intervals valid at any stopping time, for paired answers. Pure.

A limit is rejected once bets against it would have multiplied their stake by 1 / alpha; the limits
that are left are the interval (Waudby-Smith & Ramdas, "Estimating means of bounded random variables
by betting", JRSS-B 2023; Howard, Ramdas, McAuliffe & Sekhon, "Time-uniform, nonparametric,
nonasymptotic confidence sequences", Annals of Statistics 2021). Unlike an interval for a fixed
number of images it may be looked at after each one, and what was seen may end the images.

The bets are those of ``quantlab.gate.sequential``. The images are draws from an endless population,
as for the intervals of ``quantlab.stats.paired``, and then the stake depends on the counts of
outcomes alone. Each end of the interval errs with a probability of at most ``alpha``, for ever."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from quantlab.stats.paired import CONFIDENCE, Interval

Decision = Literal["pass", "fail"]
Kind = Literal["relative", "absolute"]
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


def bet_sizes(reach: float) -> Floats:
    """The bets [BETS] to average over, for numbers none of which is below ``-reach``."""
    return np.geomspace(SMALLEST_BET, BOLDEST / max(reach, SMALLEST_REACH), BETS)


def log_stake(counts: Floats, values: Floats) -> Floats:
    """The logarithm of what the stake, split evenly over the ladder, has become [...], when numbers
    with these ``values`` [k] came ``counts`` [..., k] times, and the bet is that their mean is
    above 0."""
    gains = np.log1p(values[:, None] * bet_sizes(float(-values.min())))
    stakes: Floats = np.logaddexp.reduce(counts @ gains, axis=-1)
    return stakes - math.log(BETS)


def decline_values(kind: Kind) -> Values:
    """For counts of both right, lost, gained, neither right: see ``PairedSequential``."""
    if kind == "relative":
        return lambda limit: np.array([-limit, 1 - limit, -1.0, 0.0])
    return lambda limit: np.array([0.0, 1.0, -1.0, 0.0]) - limit


def share_values(limit: float) -> Floats:
    """For counts of images that do not and that do count for a share."""
    return np.array([-limit, 1 - limit])


def decision(
    counts: Floats, values: Values, limit: float, *, alpha: float = ALPHA
) -> Decision | None:
    """Whether the limit is surely kept or surely broken, by the counts [k] so far."""
    at_limit = values(limit)
    if log_stake(counts, -at_limit) >= -math.log(alpha):
        return "pass"
    return "fail" if log_stake(counts, at_limit) >= -math.log(alpha) else None


def interval(counts: Floats, values: Values, estimate: float, *, alpha: float = ALPHA) -> Interval:
    """Every limit up to 1 for which ``decision`` is None; ``estimate`` is the one just kept.

    What is bet on an outcome rises (or falls) with the limit throughout, and so does the stake:
    the limits that are left lie side by side.
    """
    enough = -math.log(alpha)

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


def anytime_decline(both: int, lost: int, gained: int, n: int, kind: Kind) -> Interval:
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
