"""Range estimators: the interval of a tensor's values that its quantizer should cover.

Each is fed batches in order and keeps a fixed amount of memory however many images it sees
(MovingAverage: eight bytes an image): ``update`` with float32 values [n, …], n images; ``merge``
another one that saw later images; ``range`` gives (low, high), real units, in float64. All raise
QuantizeError on NaN or infinity.

Whoever merges gets, to the last bit, what one estimator would that had seen all images: counts,
extremes and sums are exact.
"""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import QuantizeError
from quantlab.quantize.engine.grid import Doubles, Floats
from quantlab.recipe import Recipe

Range = tuple[float, float]
SAMPLE = 2**15
LIMIT = 1e18


class Observer(Protocol):
    """Receives the values of a tensor batch by batch."""

    def update(self, values: Floats) -> None:
        """Add the values of n images, [n, …]."""

    def merge(self, other: Self) -> None:
        """Add all values that ``other`` has received."""


class RangeEstimator(Observer, Protocol):
    """See the module's docstring."""

    def add(self, values: Floats, low: Doubles, high: Doubles) -> None:
        """See Estimator."""

    def range(self) -> Range:
        """(low, high) of the values received so far."""


def range_estimator(recipe: Recipe, steps: int) -> RangeEstimator:
    """A fresh estimator for the recipe's method and a grid of ``steps`` intervals."""
    match recipe.ranges:
        case "minmax":
            return MinMax()
        case "mean":
            return MeanOfImages()
        case "moving-average":
            return MovingAverage()
        case "percentile":
            return Percentile(recipe.percentile)
        case "entropy":
            return Entropy(steps)
        case "mse":
            return LeastSquares(steps)


def sampled(values: Floats) -> Floats:
    """Every k-th value of each image, [n, …], k odd and as large as leaves SAMPLE of them."""
    flat = values.reshape(len(values), -1)
    step = max(1, (flat.shape[1] // SAMPLE - 1) // 2 * 2 + 1)
    return flat[:, ::step]


def image_extremes(values: Floats) -> tuple[Doubles, Doubles]:
    """Each image's minimum and maximum, float64 [n]. Raises QuantizeError on NaN, infinity, and
    what is so large that its square is infinite."""
    flat = values.reshape(len(values), -1)
    low, high = flat.min(1).astype(np.float64), flat.max(1).astype(np.float64)
    if not ((low > -LIMIT) & (high < LIMIT)).all():
        raise QuantizeError(
            f"an activation is NaN or infinite (or beyond {LIMIT:g}) on a calibration image."
        )
    return low, high


class Estimator:
    """An observer that is given each image's extremes [n] with its values: several that look at
    one tensor need them once."""

    def update(self, values: Floats) -> None:
        """See Observer."""
        self.add(values, *image_extremes(values))

    def add(self, values: Floats, low: Doubles, high: Doubles) -> None:
        """The same; ``low`` and ``high`` are from ``image_extremes``."""
        raise NotImplementedError


class MinMax(Estimator):
    """The least and the greatest value of all images."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def add(self, values: Floats, low: Doubles, high: Doubles) -> None:
        self.low, self.high = min(self.low, low.min()), max(self.high, high.max())

    def merge(self, other: Self) -> None:
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def range(self) -> Range:
        return float(self.low), float(self.high)


_UNIT = 149
"""Every float32 is a whole number of 2**-149."""


class ExactSum:
    """A sum of float32 values without rounding: whatever is added in whatever order, the same."""

    def __init__(self) -> None:
        self.units = 0

    def add(self, values: Doubles) -> None:
        """Adds float32 values, held as float64 [n]."""
        self.units += sum(map(int, np.ldexp(values, _UNIT).tolist()))

    def over(self, count: int) -> float:
        """The sum divided by ``count``, rounded once."""
        return self.units / (count << _UNIT)


class MeanOfImages(Estimator):
    """The mean over images of each image's minimum and maximum: rare outliers are clipped."""

    def __init__(self) -> None:
        self.low, self.high, self.images = ExactSum(), ExactSum(), 0

    def add(self, values: Floats, low: Doubles, high: Doubles) -> None:
        self.low.add(low)
        self.high.add(high)
        self.images += len(values)

    def merge(self, other: Self) -> None:
        self.low.units += other.low.units
        self.high.units += other.high.units
        self.images += other.images

    def range(self) -> Range:
        return self.low.over(self.images), self.high.over(self.images)


class MovingAverage(Estimator):
    """Exponential average of each image's extremes: r ← r + c · (image − r), c = 0.01; the first
    image sets it (Jacob et al. 2018, Quantization and training of neural networks).

    The order counts, so the extremes themselves are kept."""

    def __init__(self, constant: float = 0.01) -> None:
        self.keep = 1 - constant
        self.extremes: list[Floats] = []

    def add(self, values: Floats, low: Doubles, high: Doubles) -> None:
        self.extremes.append(np.stack((low, high), 1).astype(np.float32))

    def merge(self, other: Self) -> None:
        self.extremes += other.extremes

    def range(self) -> Range:
        found, *later = np.concatenate(self.extremes).astype(np.float64)
        for pair in later:
            found = self.keep * found + (1 - self.keep) * pair
        return float(found[0]), float(found[1])


class Histogram(Estimator):
    """Counts over a symmetric interval that doubles, by joining neighbouring bins, when a value
    falls outside: ``bins`` equal bins on [−reach, reach]. Exact extremes are kept beside it.

    ``reach`` is a power of two above every magnitude, and bins are found without rounding, so that
    histograms of any history merge exactly. Of a large tensor every k-th value is counted, so that
    at least SAMPLE an image are.
    """

    def __init__(self, bins: int = 8192) -> None:
        self.counts = np.zeros(bins, np.int64)
        self.reach = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: Floats, low: Doubles, high: Doubles) -> None:
        self.low, self.high = min(self.low, low.min()), max(self.high, high.max())
        self._grow(_above(max(abs(low.min()), abs(high.max()))))
        bins = sampled(values) * np.float32(len(self.counts) / (2 * self.reach))
        index = np.floor(bins, out=bins).astype(np.int64) + len(self.counts) // 2
        self.counts += np.bincount(index.reshape(-1), minlength=len(self.counts))

    def _grow(self, wanted: float) -> None:
        if self.reach == 0:
            self.reach = wanted
        while self.reach < wanted:
            quarter = len(self.counts) // 4
            joined = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(joined, quarter)
            self.reach *= 2

    def merge(self, other: Self) -> None:
        if other.reach == 0:
            return
        theirs = Histogram(len(other.counts))
        theirs.counts, theirs.reach = other.counts.copy(), other.reach
        self._grow(other.reach)
        theirs._grow(self.reach)
        self.counts = self.counts + theirs.counts
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    @property
    def edges(self) -> Doubles:
        """The bins' edges, [bins + 1]."""
        return np.linspace(-self.reach, self.reach, len(self.counts) + 1)

    @property
    def centres(self) -> Doubles:
        """The bins' centres, [bins]."""
        edges = self.edges
        return np.asarray((edges[1:] + edges[:-1]) / 2)

    def between(self, percentile: float) -> Range:
        """What is left when as many values at each end are cut off as lie beyond it."""
        share = np.cumsum(self.counts) / max(self.counts.sum(), 1)
        edges, cut = self.edges, 1 - percentile / 100
        low = edges[np.searchsorted(share, cut, "right")] if cut > 0 else self.low
        high = edges[1 + np.searchsorted(share, 1 - cut, "left")] if cut > 0 else self.high
        return float(max(low, self.low)), float(min(high, self.high))


def _above(magnitude: float) -> float:
    """The least power of two above it."""
    return float(np.ldexp(1.0, np.frexp(max(magnitude, 1e-30))[1]))


class Percentile(Histogram):
    """Cuts off as many values at each end as lie beyond the percentile: 99.99 leaves 0.01 % of
    all values below and 0.01 % above; from a histogram, to within one of its bins."""

    def __init__(self, percentile: float) -> None:
        super().__init__()
        self.percentile = percentile

    def range(self) -> Range:
        return self.between(self.percentile)


class LeastSquares(Histogram):
    """The range with the least expected squared error: what is clipped plus rounding, step² / 12.

    Candidates shrink the two ends independently (Banner et al. 2019, Post training 4-bit
    quantization, searched on the histogram rather than in closed form).
    """

    fractions = np.linspace(1.0, 0.05, 96)

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def range(self) -> Range:
        weight = self.counts / max(self.counts.sum(), 1)
        highs = self.fractions * max(self.high, 0.0)
        lows = self.fractions * min(self.low, 0.0)
        x = self.centres
        above = np.array([(weight * np.maximum(x - h, 0) ** 2).sum() for h in highs])
        below = np.array([(weight * np.maximum(v - x, 0) ** 2).sum() for v in lows])
        step = (highs[None] - lows[:, None]) / self.steps
        error = above[None] + below[:, None] + step**2 / 12
        i, j = np.unravel_index(int(error.argmin()), error.shape)
        return float(lows[i]), float(highs[j])


class Candidates(Estimator):
    """``own`` estimator, and beside its range every other one worth trying, from one pass."""

    def __init__(self, own: RangeEstimator, steps: int, percentile: float) -> None:
        self.own, self.percentile = own, percentile
        self.mean, self.counted = MeanOfImages(), LeastSquares(steps)

    def add(self, values: Floats, low: Doubles, high: Doubles) -> None:
        self.own.add(values, low, high)
        self.mean.add(values, low, high)
        self.counted.add(values, low, high)

    def merge(self, other: Self) -> None:
        self.own.merge(other.own)
        self.mean.merge(other.mean)
        self.counted.merge(other.counted)

    def range(self) -> Range:
        return self.own.range()

    def ranges(self) -> dict[str, Range]:
        """The ranges by method."""
        return {
            "mean": self.mean.range(),
            "minmax": (float(self.counted.low), float(self.counted.high)),
            "percentile": self.counted.between(self.percentile),
            "mse": self.counted.range(),
        }


class ChannelPeaks:
    """The largest value of each channel, the second axis, over all images, for a tensor that is
    never negative: float64 [channels]."""

    def __init__(self) -> None:
        self.peaks = np.array(0.0)

    def update(self, values: Floats) -> None:
        peaks = values.reshape(*values.shape[:2], -1).max(2)
        image_extremes(peaks)
        self.peaks = np.maximum(self.peaks, peaks.max(0))

    def merge(self, other: Self) -> None:
        self.peaks = np.maximum(self.peaks, other.peaks)


class Entropy(Histogram):
    """The clipping at which the quantized histogram stays nearest to the clipped one in
    Kullback-Leibler divergence (Migacz 2017, 8-bit inference with TensorRT): magnitudes beyond a
    threshold are clipped; the reference keeps them in its outermost bins. Zeros, of which
    activations hold any number and which are always exact, count as their neighbours do."""

    fractions = np.linspace(1.0, 0.1, 91)

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.levels = min(steps + 1, 256)

    def range(self) -> Range:
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        thresholds = self.fractions * max(-low, high)
        counts = self.counts.copy()
        middle = len(counts) // 2
        counts[middle] = counts[middle + 1]
        costs = [self.divergence(counts, max(low, -t), min(high, t)) for t in thresholds]
        best = float(thresholds[int(np.argmin(costs))])
        return max(low, -best), min(high, best)

    def divergence(self, counts: NDArray[np.int64], low: float, high: float) -> float:
        """KL(reference ‖ quantized) in nats when values, ``counts`` a bin, are clipped."""
        x = self.centres
        inside = (x >= low) & (x <= high)
        kept = counts[inside].astype(np.float64)
        if len(kept) < 2 or not kept.any():
            return np.inf
        reference = kept.copy()
        reference[0] += counts[x < low].sum()
        reference[-1] += counts[x > high].sum()
        from scipy.special import rel_entr  # half a second of imports, for KL ranges only

        return float(rel_entr(_shares(reference), _shares(self._quantized(kept))).sum())

    def _quantized(self, kept: Doubles) -> Doubles:
        level: NDArray[np.int64] = np.arange(len(kept)) * self.levels // len(kept)
        filled = np.bincount(level, kept > 0, self.levels)
        mean = np.bincount(level, kept, self.levels) / np.maximum(filled, 1)
        return np.where(kept > 0, mean[level], 0.0)


def _shares(counts: Doubles) -> Doubles:
    """Shares of the whole; empty bins get a little, so that the divergence is finite."""
    smooth = counts + 1e-6 * max(counts.sum(), 1.0) / len(counts)
    return np.asarray(smooth / smooth.sum())
