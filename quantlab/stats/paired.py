"""Intervals, tests and sample sizes for two models judged on the same images. Pure; scipy only.

Throughout, of ``n`` images ``both`` are right with the first (fp32) model and with the second
(int8), ``lost`` only with the first, ``gained`` only with the second. Rates are fractions of 1.

Methods: Wilson (1927) for one proportion, Clopper & Pearson (1934) where a verdict hangs on it;
Tango (1998, Statistics in Medicine 17:891) for the difference and Tang, Tang & Chan (2003,
Statistics in Medicine 22:1217) for the ratio of two paired proportions, both by inverting a score
test, which keeps its level when few images, or none at all, change; McNemar's exact test; for a
mean the bootstrap-t, for a decline of means the bias-corrected and accelerated bootstrap over
images (BCa; Efron 1987, JASA 82:171); Newcombe's hybrid score interval (1998, Statistics in
Medicine 17:873) and Donner & Zou's MOVER-R (2012, Statistical Methods in Medical Research 21:347)
where it is not known which images changed; an exact unconditional test for the few images of a
class.

A p-value here is one-sided: how likely at least such a loss is when the true one is just the limit.
It is below 2.5% where the 95% interval of the same method lies beyond the limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import scipy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

CONFIDENCE = 0.95
POWER = 0.8
PRACTICAL_LIMIT = 1_000_000
_CHUNK = 2_000_000
_NORMAL = NormalDist()
"""SciPy's functions take a sixth of a second to import; an evaluation needs none of them."""


@dataclass(frozen=True)
class Interval:
    """Two bounds, both included."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def width(self) -> float:
        """``high - low``."""
        return self.high - self.low


class Share(BaseModel):
    """A count of images as a fraction of all, with its interval: Wilson's, or Clopper and Pearson's
    exact one where a verdict hangs on it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    count: int
    n: int
    value: float
    interval: Interval


def z_value(confidence: float = CONFIDENCE) -> float:
    """The two-sided normal quantile: 1.96 for 0.95."""
    return _NORMAL.inv_cdf(0.5 + confidence / 2)


def _reach() -> float:
    """The standard errors from a limit at which a decision has a probability of POWER."""
    return z_value() + _NORMAL.inv_cdf(POWER)


def wilson(successes: float, n: float) -> Interval:
    """Wilson's score interval for ``successes / n``. Raises ValueError for no images."""
    if n <= 0:
        raise ValueError("a proportion of no images has no interval")
    return _wilson(successes, n, z_value())


def _wilson(successes: float, n: float, z: float) -> Interval:
    centre = successes + z * z / 2
    spread = z * math.sqrt(max(0.0, successes * (n - successes) / n) + z * z / 4)
    total = n + z * z
    return Interval(max(0.0, (centre - spread) / total), min(1.0, (centre + spread) / total))


def clopper_pearson(successes: int, n: int) -> Interval:
    """The exact interval for ``successes / n`` (Clopper & Pearson 1934): for a verdict on a share
    near 0 or 1, where Wilson's misses on one side more often than it may. Raises ValueError for no
    images."""
    if n <= 0:
        raise ValueError("a proportion of no images has no interval")
    tail, failures = (1 - CONFIDENCE) / 2, n - successes
    low = float(scipy.special.betaincinv(successes, failures + 1, tail)) if successes else 0.0
    high = float(scipy.special.betaincinv(successes + 1, failures, 1 - tail)) if failures else 1.0
    return Interval(low, high)


def share_p(successes: int, n: int, limit: float) -> float:
    """The p of "the share is at most ``limit``" by the exact binomial test."""
    return float(scipy.special.bdtrc(successes - 1, n, limit)) if successes else 1.0


def paired_difference(
    lost: float, gained: float, n: float, confidence: float = CONFIDENCE
) -> Interval:
    """Tango's score interval for ``(lost - gained) / n``, the decline as a fraction of all images.

    Raises ValueError when ``n`` is not positive or the counts do not fit into it.
    """
    if n <= 0 or min(lost, gained) < 0 or lost + gained > n:
        raise ValueError(f"{lost} lost and {gained} gained do not fit into {n} images")
    return _tango(lost, gained, n, z_value(confidence))


def _tango(lost: float, gained: float, n: float, z: float) -> Interval:
    estimate = (lost - gained) / n

    def score(delta: float) -> float:
        return _tango_score(lost, gained, n, delta)

    return Interval(
        _crossing(score, z, -1.0, estimate, estimate), _crossing(score, -z, estimate, 1.0, estimate)
    )


def _tango_score(lost: float, gained: float, n: float, delta: float) -> float:
    b = -lost - gained + (2 * n - lost + gained) * delta
    c = -gained * delta * (1 - delta)
    rate = (math.sqrt(max(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    return _standardised(lost - gained - n * delta, n * (2 * rate + delta * (1 - delta)))


def paired_difference_p(lost: float, gained: float, n: float, limit: float) -> float:
    """The p of "``(lost - gained) / n`` is at most ``limit``" by Tango's score test."""
    return float(scipy.special.ndtr(-_tango_score(lost, gained, n, limit)))


def paired_ratio(both: float, lost: float, gained: float) -> Interval:
    """The score interval of Tang, Tang & Chan for ``(both + gained) / (both + lost)``.

    One minus it is the interval of the decline ratio (fp32 - int8) / fp32. Images that neither
    model gets right do not enter. Raises ValueError when the first model is never right.
    """
    _check_ratio(both, lost, gained)
    return _tang(both, lost, gained, z_value())


def _tang(both: float, lost: float, gained: float, z: float) -> Interval:
    estimate = (both + gained) / (both + lost)

    def score(ratio: float) -> float:
        return _tang_score(both, lost, gained, ratio)

    top = max(2 * estimate, 2.0)
    while score(top) > -z and top < 1e9:
        top *= 2
    return Interval(
        _crossing(score, z, 0.0, estimate, estimate), _crossing(score, -z, estimate, top, estimate)
    )


def _tang_score(both: float, lost: float, gained: float, ratio: float) -> float:
    first, second, total = both + lost, both + gained, both + lost + gained
    if ratio <= 0:
        return math.inf if second else 0.0
    b = ratio * ratio * (first + 2 * gained) - second
    root = math.sqrt(max(0.0, (second - ratio * ratio * first) ** 2 + 4 * ratio**2 * lost * gained))
    only_second = (b + root) / (2 * ratio * (1 + ratio))
    only_first = total * (1 - ratio) + ratio * only_second
    return _standardised(second - ratio * first, ratio * (only_first + only_second))


def paired_decline_p(both: float, lost: float, gained: float, limit: float) -> float:
    """The p of "``(lost - gained) / (both + lost)`` is at most ``limit``", by Tang, Tang & Chan.

    Raises ValueError when the first model is never right.
    """
    _check_ratio(both, lost, gained)
    return float(scipy.special.ndtr(_tang_score(both, lost, gained, 1 - limit)))


def _check_ratio(both: float, lost: float, gained: float) -> None:
    if min(both, lost, gained) < 0 or both + lost <= 0:
        raise ValueError("the ratio needs a first model that is right at least once")


def _standardised(value: float, variance: float) -> float:
    if variance > 1e-12:
        return value / math.sqrt(variance)
    return 0.0 if abs(value) < 1e-12 else math.copysign(math.inf, value)


def _crossing(
    score: Callable[[float], float], target: float, low: float, high: float, estimate: float
) -> float:
    """Where a falling ``score`` passes ``target`` between ``low`` and ``high``, by bisection."""
    if target > 0 and score(low) <= target:
        return low
    if target < 0 and score(high) >= target:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        if score(middle) > target:
            low = middle
        else:
            high = middle
    return min(low, estimate) if target > 0 else max(high, estimate)


EXACT_UP_TO = 100
"""Images up to which the exact test is enumerated; with more, Tango's is as good."""
_NUISANCE_STEPS = 64


def few_difference_p(lost: int, gained: int, n: int, limit: float) -> float:
    """The p of "``(lost - gained) / n`` is at most ``limit``", exact for up to EXACT_UP_TO images.

    Unconditional: the largest chance, over every rate of gained images, that Tango's score comes
    out at least so high when the true decline is the limit (Sidik 2003, Statistics in Medicine
    22:265). ``limit`` is at least 0 and below 1.
    """
    if n > EXACT_UP_TO:
        return paired_difference_p(lost, gained, n, limit)
    scores, chances = _exact_tails(n, limit)
    place = np.searchsorted(-scores, -_tango_score(lost, gained, n, limit) + 1e-9, side="right") - 1
    return min(1.0, float(chances[place]))


@lru_cache(maxsize=256)
def _exact_tails(n: int, limit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every possible score, falling, and the largest chance of at least so high a one."""
    lost, gained = (grid.ravel() for grid in np.mgrid[: n + 1, : n + 1])
    lost, gained = lost[lost + gained <= n], gained[lost + gained <= n]
    scores = np.array(
        [_tango_score(x, y, n, limit) for x, y in zip(lost.tolist(), gained.tolist(), strict=True)]
    )
    rate = np.linspace(0, (1 - limit) / 2, _NUISANCE_STEPS)[:, None]
    logs = scipy.special.xlogy(lost, rate + limit) + scipy.special.xlogy(gained, rate)
    logs += scipy.special.xlogy(n - lost - gained, np.maximum(0.0, 1 - limit - 2 * rate))
    logs += (
        scipy.special.gammaln(n + 1)
        - scipy.special.gammaln(lost + 1)
        - scipy.special.gammaln(gained + 1)
        - scipy.special.gammaln(n - lost - gained + 1)
    )
    order = np.argsort(-scores, kind="stable")
    return scores[order], np.exp(logs)[:, order].cumsum(axis=1).max(axis=0)


def benjamini_hochberg(p: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values: calling all at most q significant, at most a share q of them is wrong
    (Benjamini & Hochberg 1995, JRSS-B 57:289). The smallest one is Simes' p of all together."""
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    raised = values[order] * len(values) / np.arange(1, len(values) + 1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(raised[::-1])[::-1])
    return tuple(adjusted.tolist())


def holm(p: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values: the chance that any at most q is wrong is at most q, however the tests
    depend on each other (Holm 1979, Scandinavian Journal of Statistics 6:65)."""
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, raised)
    return tuple(adjusted.tolist())


def mcnemar_exact(lost: int, gained: int) -> float:
    """The exact two-sided p of a fair coin giving ``lost`` and ``gained``; 1 if both are 0."""
    if lost + gained == 0:
        return 1.0
    return min(1.0, 2 * float(scipy.special.bdtr(min(lost, gained), lost + gained, 0.5)))


def images_needed(
    both: int,
    lost: int,
    gained: int,
    n: int,
    *,
    limit: float,
    relative: bool,
) -> int | None:
    """How many images would decide whether the decline is within ``limit``, or None.

    Assumes that the true rates of lost and gained images are the ones seen, each with half an image
    added (so that no change among a few images is not read as no change ever), and asks that the
    interval lies on one side of the limit with a probability of POWER. The limit is a fraction of
    all images, or of the first model's right ones when ``relative``. None means that more than a
    million would be needed: the estimate lies on the limit.
    """
    z = _reach()
    rates = [x / (n + 1) for x in (both, lost + 0.5, gained + 0.5)]

    def decided(size: int) -> bool:
        right, less, more = (rate * size for rate in rates)
        bounds = (
            decline_of(_tang(right, less, more, z)) if relative else _tango(less, more, size, z)
        )
        return bounds.high <= limit or bounds.low > limit

    return _smallest(decided, n + 1, PRACTICAL_LIMIT)


def decline_of(ratio: Interval) -> Interval:
    """The interval of ``1 - ratio``."""
    return Interval(1 - ratio.high, 1 - ratio.low)


def _smallest(holds: Callable[[int], bool], low: int, high: int) -> int | None:
    """The smallest integer in ``low..high`` from which ``holds`` stays true, or None."""
    if low > high or not holds(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return high


def smallest_decline(lost: int, gained: int, n: int) -> float:
    """The smallest true decline (a fraction of all images) that ``n`` images tell from none.

    Told means: the interval leaves zero out, with a probability of POWER, when as many images
    change as were seen to (plus one, for the same reason as in ``images_needed``).
    """
    changed = (lost + gained + 1) / (n + 1)
    z = _reach()
    return min(1.0, z * math.sqrt(changed / n))


def images_to_clear(
    interval: Interval,
    distance: float,
    n: int,
) -> int | None:
    """How many images would decide a mean whose interval on ``n`` images is this, or None.

    ``distance`` is from the estimate to the limit. The interval shrinks with the root of the number
    of images; None means more than a million, as in ``images_needed``.
    """
    reach = smallest_distance(interval)
    if distance == 0 or n * (reach / distance) ** 2 > PRACTICAL_LIMIT:
        return None
    return max(n + 1, math.ceil(n * (reach / distance) ** 2))


def smallest_distance(interval: Interval) -> float:
    """The distance from a limit that the truth must have for such an interval to lie on one side of
    it, with a probability of POWER."""
    z = z_value()
    return interval.width / (2 * z) * _reach()


def mean_p(estimate: float, interval: Interval, limit: float) -> float:
    """The p of "the mean is at most ``limit``" from its 95% interval alone: each side of it is read
    as a normal's."""
    reach = estimate - interval.low if estimate > limit else interval.high - estimate
    if reach <= 0:
        return 0.0 if estimate > limit else 1.0
    return float(scipy.special.ndtr(-z_value() * (estimate - limit) / reach))


def independent_decline(
    first: int,
    first_n: int,
    second: int,
    second_n: int,
    *,
    relative: bool,
) -> Interval:
    """The interval of a decline from two counts of right images that cannot be paired.

    Of ``p1 - p2`` (Newcombe's hybrid score) or of ``1 - p2 / p1`` when ``relative`` (MOVER-R), both
    of Wilson's intervals. For the same images it is wider than it need be, so it decides less and
    errs less than a paired one. Raises ValueError for no images, and for a ratio when the first
    model is never right.
    """
    p1, p2 = first / max(first_n, 1), second / max(second_n, 1)
    a, b = wilson(first, first_n), wilson(second, second_n)
    if not relative:
        return Interval(
            p1 - p2 - math.hypot(p1 - a.low, b.high - p2),
            p1 - p2 + math.hypot(a.high - p1, p2 - b.low),
        )
    if not first:
        raise ValueError("the ratio needs a first model that is right at least once")
    product = p1 * p2

    def root(of_first: float, of_second: float) -> float:
        square = of_first * (2 * p1 - of_first) * of_second * (2 * p2 - of_second)
        return product + math.sqrt(max(0.0, product**2 - square))

    low = b.low * (2 * p2 - b.low) / root(a.high, b.low) if second else 0.0
    high = root(a.low, b.high) / (a.low * (2 * p1 - a.low))
    return decline_of(Interval(low, high))


RESAMPLES = 2000
_FEW_KINDS = 100


def bootstrap_mean(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """The bootstrap-t interval of the mean of ``values`` [n]; the same seed gives the same one.

    Each resampled mean is measured in its own standard error (Efron & Tibshirani, An Introduction
    to the Bootstrap, 12.5). Of values like KL divergences, most near 0 and a few far off, that
    keeps the upper end from being too low, as that of the percentile methods is.
    """
    mean, spread = float(values.mean()), float(values.std())
    if spread == 0:
        return Interval(mean, mean)
    scaled = (values - mean) / spread
    means, squares = _resampled_means(np.stack([scaled, scaled**2]), seed)
    errors = np.sqrt(np.maximum(squares - means**2, 1e-12))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means / errors, [tail, 1 - tail])
    return Interval(mean - spread * max(0.0, float(high)), mean - spread * min(0.0, float(low)))


def bootstrap_decline(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    seed: int = 0,
) -> tuple[Interval, Interval | None]:
    """The paired BCa intervals of mean(first) - mean(second), and of that over mean(first).

    Two made-up images, one lost and one gained by the largest change seen (by the whole range of
    scores when none changed), are added before resampling, so that no change among a few images is
    not read as no change ever; for scores of 0 and 1 that comes to Tango's interval. The second
    interval is None when a resampled mean of ``first`` is not above 0: then a share of it has no
    meaning.
    """
    change = float(np.abs(first - second).max()) or float(np.ptp(first))
    pair = first.mean() + change / 2 * np.array([1, -1])
    a, b = np.append(first, pair), np.append(second, pair[::-1])
    means_a, means_b = _resampled_means(np.stack([a, b]), seed)
    true_a, true_b = float(first.mean()), float(second.mean())
    difference = _bca(means_a - means_b, true_a - true_b, a - b - (a - b).mean())
    if means_a.min() <= 0 or true_a <= 0:
        return difference, None
    influence = b.mean() / a.mean() * a - b
    return difference, _bca(1 - means_b / means_a, 1 - true_b / true_a, influence)


def _resampled_means(columns: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means [k, RESAMPLES] of the columns [k, n], resampled with replacement together."""
    rng, n = np.random.default_rng(seed), columns.shape[1]
    kinds, counts = np.unique(columns, axis=1, return_counts=True)
    if len(counts) <= _FEW_KINDS:  # such as right and wrong: their counts are all there is to draw
        drawn = rng.multinomial(n, counts / n, size=RESAMPLES)
        return np.asarray(kinds @ drawn.T / n, np.float64)
    step = max(1, _CHUNK // (2 * n))
    means = np.empty((len(columns), RESAMPLES))
    for start in range(0, RESAMPLES, step):
        stop = min(start + step, RESAMPLES)
        chosen = rng.integers(n, size=(stop - start, n))
        for row, column in zip(means, columns, strict=True):
            row[start:stop] = column[chosen].mean(axis=1)
    return means


def _bca(
    replicates: NDArray[np.float64],
    estimate: float,
    influence: NDArray[np.float64],
) -> Interval:
    """Efron's interval from bootstrap replicates and each image's influence on the estimate."""
    spread = float(np.square(influence).sum())
    if spread == 0 or replicates.min() == replicates.max():
        return Interval(estimate, estimate)
    below = (replicates < estimate).mean() + (replicates == estimate).mean() / 2
    bias = scipy.special.ndtri(
        np.clip(below, 1 / (2 * len(replicates)), 1 - 1 / (2 * len(replicates)))
    )
    acceleration = float((influence**3).sum()) / (6 * spread**1.5)
    tails = bias + z_value() * np.array([-1, 1])
    levels = scipy.special.ndtr(bias + tails / (1 - acceleration * tails))
    low, high = np.quantile(replicates, levels)
    return Interval(min(float(low), estimate), max(float(high), estimate))


def signed_rank(values: NDArray[np.float64]) -> Interval:
    """The interval of the centre of ``values`` [n] by Wilcoxon's signed-rank test: exact for
    independent values that are as likely to fall so far above the centre as below, whatever their
    spread and tails (Hollander & Wolfe, Nonparametric Statistical Methods, 3.3).

    Fewer than six values cannot reach 95% so; they get Student's interval. Raises ValueError for
    fewer than two.
    """
    n = len(values)
    if n < 2:
        raise ValueError("an interval needs two values")
    tail = (1 - CONFIDENCE) / 2
    cut = int(np.searchsorted(_signed_rank_cdf(n), tail, side="right"))
    if cut == 0:
        reach = float(scipy.special.stdtrit(n - 1, 1 - tail) * values.std(ddof=1) / math.sqrt(n))
        return Interval(float(values.mean()) - reach, float(values.mean()) + reach)
    means = np.sort(_pair_means(values))
    return Interval(float(means[cut - 1]), float(means[-cut]))


def centre(values: NDArray[np.float64]) -> float:
    """The median of all means of two ``values`` [n] (Hodges and Lehmann 1963): nearly as sharp as
    the mean, and not moved by a few values far off. ``signed_rank`` is its interval."""
    return float(np.median(_pair_means(values)))


def _pair_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of all pairs, each value with itself too: Walsh's averages."""
    rows, columns = np.triu_indices(len(values))
    return np.asarray((values[rows] + values[columns]) / 2, np.float64)


def _signed_rank_cdf(n: int) -> NDArray[np.float64]:
    """The chances that the ranks 1..n, each kept or not by a fair coin, sum to at most 0, 1, …"""
    chances = np.zeros(n * (n + 1) // 2 + 1)
    chances[0] = 1.0
    for rank in range(1, n + 1):
        kept = np.zeros_like(chances)
        kept[rank:] = chances[:-rank]
        chances = (chances + kept) / 2
    return np.cumsum(chances)
