"""Change points: find where the level of a series changed. Pure; numpy and scipy only.

Binary segmentation (Scott & Knott 1974, Biometrics 30:507; consistent: Vostrikova 1981, Soviet
Mathematics Doklady 24:55): the series is cut where its two parts differ most, in units of what
noise alone would do, if they differ significantly; then each part is looked at in the same way.

The statistic is the largest standardized difference of the means before and after, over all places
to cut (Hawkins 1977, JASA 72:180, for known variances). Looking at all of them has its price:

- With known variances the chance that the largest of them comes out so high without any change is
  bounded by Worsley's improved Bonferroni inequality (1982, Biometrika 69:297), which is sharp
  where it matters, because neighbouring places are nearly the same test.
- Without them the same statistic is compared with that of the figures in random orders, a
  permutation test: right whatever the noise, if without a change all orders are as likely. It
  needs LEAST figures.

Each test errs in at most 5% of series without a change. With changes, every part is tested anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import scipy
from numpy.typing import NDArray

ALPHA = 0.05
LEAST = 8
"""Figures of unknown variance below which no order of them is rare enough."""
SHUFFLES = 9999
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ChangePoint:
    """The figure at ``index`` is the first after the change; ``before`` and ``after`` are the means
    of the figures from the last change to this one, and from this one to the next."""

    index: int
    before: float
    after: float
    p: float


def change_points(
    values: Sequence[float], errors: Sequence[float] | None = None
) -> tuple[ChangePoint, ...]:
    """The places where the level changed, in order. ``errors`` are the values' standard errors,
    None where they are not known. Raises ValueError for an error that is not above 0, or too few of
    them."""
    series = np.asarray(values, np.float64)
    weights = np.ones(len(series)) if errors is None else _weights(errors, len(series))
    cuts = dict(_cuts(series, weights, errors is not None, 0))
    ends = [0, *sorted(cuts), len(series)]
    means = [
        float(np.average(series[a:b], weights=weights[a:b])) for a, b in pairwise(ends) if b > a
    ]
    return tuple(
        ChangePoint(cut, means[i], means[i + 1], cuts[cut]) for i, cut in enumerate(ends[1:-1])
    )


def _weights(errors: Sequence[float], n: int) -> Floats:
    spread = np.asarray(errors, np.float64)
    if len(spread) != n or not (spread > 0).all():
        raise ValueError("every value needs a standard error above 0")
    return 1 / spread**2


def _cuts(values: Floats, weights: Floats, known: bool, start: int) -> list[tuple[int, float]]:
    """Every place where the values are to be cut, counted from ``start``, with its p."""
    if len(values) < (2 if known else LEAST):
        return []
    scores = np.abs(_scores(values, weights))
    cut = int(scores.argmax()) + 1
    height = float(scores[cut - 1])
    p = highest_p(height, weights) if known else _shuffled_p(height, values)
    if p > ALPHA:
        return []
    left = _cuts(values[:cut], weights[:cut], known, start)
    right = _cuts(values[cut:], weights[cut:], known, start + cut)
    return [*left, (start + cut, p), *right]


def _scores(values: Floats, weights: Floats) -> Floats:
    """For every place to cut the last axis of ``values``, the difference of the means before and
    after in standard errors; of unit variance only where the weights are the inverse variances."""
    total, before = weights.sum(), weights.cumsum()[:-1]
    sums = (values * weights).cumsum(axis=-1)
    means = sums[..., :-1] / before, (sums[..., -1:] - sums[..., :-1]) / (total - before)
    return np.asarray((means[0] - means[1]) * np.sqrt(before * (total - before) / total))


def highest_p(height: float, weights: Floats) -> float:
    """At most how likely the largest of all standardized differences, on either side, is so high
    without a change. ``weights`` [n] are inverse variances, n at least 2."""
    tail = float(scipy.special.ndtr(-height))
    if tail == 0:
        return 0.0
    total, before = weights.sum(), weights.cumsum()[:-1]
    odds = before / (total - before)
    alike = np.sqrt(odds[:-1] / odds[1:])
    return float(min(1.0, 2 * tail * len(before) - _both(height, tail, alike).sum()))


def _both(height: float, tail: float, alike: Floats) -> Floats:
    """The chance that both of two standard normals of the correlations ``alike`` lie beyond
    ``height``, on any side, by Gauss and Legendre's rule over the first one's tail."""
    share = (_NODES + 1) / 2
    first = -scipy.special.ndtri(tail * share)
    apart = np.sqrt(np.maximum(1 - alike**2, 1e-12))[:, None]
    second = alike[:, None] * first
    beyond = scipy.special.ndtr((second - height) / apart) + scipy.special.ndtr(
        (-second - height) / apart
    )
    return np.asarray(2 * tail * (beyond * _WEIGHTS / 2).sum(axis=1))


def _shuffled_p(height: float, values: Floats) -> float:
    """How often the values in a random order score as high: a seeded sample of orders."""
    rng = np.random.default_rng(0)
    ones = np.ones(len(values))
    step = max(1, 1_000_000 // len(values))
    higher = 0
    for start in range(0, SHUFFLES, step):
        count = min(step, SHUFFLES - start)
        orders = rng.permuted(np.tile(values, (count, 1)), axis=1)
        higher += int((np.abs(_scores(orders, ones)).max(axis=1) >= height * (1 - 1e-9)).sum())
    return (1 + higher) / (1 + SHUFFLES)
