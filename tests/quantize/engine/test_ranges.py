"""Each range estimator against a plain numpy statement of its definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.errors import QuantizeError
from quantlab.quantize.engine import ranges as r

RNG = np.random.default_rng(0)
VALUES = (RNG.standard_normal((40, 3, 8, 8)) * RNG.uniform(0.5, 3, (40, 1, 1, 1)) + 0.3).astype(
    np.float32
)
ALL = [
    r.MinMax,
    r.MeanOfImages,
    r.MovingAverage,
    lambda: r.Percentile(99.0),
    lambda: r.LeastSquares(255),
    lambda: r.Entropy(255),
]


def seen(make: Any, values: NDArray[np.float32], step: int = 7) -> Any:
    estimator = make()
    for i in range(0, len(values), step):
        estimator.update(values[i : i + step])
    return estimator


def test_minmax_is_the_extremes() -> None:
    assert seen(r.MinMax, VALUES).range() == (VALUES.min(), VALUES.max())


def test_mean_is_the_mean_of_each_images_extremes() -> None:
    expected = VALUES.min((1, 2, 3)).mean(), VALUES.max((1, 2, 3)).mean()
    assert seen(r.MeanOfImages, VALUES).range() == pytest.approx(expected)


def test_moving_average_starts_at_the_first_image() -> None:
    low, high = VALUES[0].min(), VALUES[0].max()
    for image in VALUES[1:]:
        low, high = 0.99 * low + 0.01 * image.min(), 0.99 * high + 0.01 * image.max()
    assert seen(r.MovingAverage, VALUES).range() == pytest.approx((low, high))


@pytest.mark.parametrize("percentile", [90.0, 99.0, 99.9])
def test_percentile_agrees_with_numpy_to_a_bin(percentile: float) -> None:
    estimator = seen(lambda: r.Percentile(percentile), VALUES)
    expected = np.percentile(VALUES, [100 - percentile, percentile], method="inverted_cdf")
    width = 2 * estimator.reach / len(estimator.counts)
    assert np.abs(np.array(estimator.range()) - expected).max() <= 2 * width


def test_percentile_100_is_minmax() -> None:
    assert seen(lambda: r.Percentile(100), VALUES).range() == (VALUES.min(), VALUES.max())


def test_least_squares_finds_the_least_error_of_its_candidates() -> None:
    found = seen(lambda: r.LeastSquares(15), VALUES).range()

    def error(low: float, high: float) -> float:
        clipped = np.clip(VALUES.astype(np.float64), low, high)
        return float(((VALUES - clipped) ** 2).mean() + ((high - low) / 15) ** 2 / 12)

    shares = r.LeastSquares.fractions
    best = min(error(a * VALUES.min(), b * VALUES.max()) for a in shares for b in shares)
    assert error(*found) <= best * 1.001


def test_entropy_clips_a_long_tail_and_keeps_an_even_spread() -> None:
    tail = np.append(RNG.standard_normal(500_000), 60.0).astype(np.float32).reshape(1, -1)
    even = np.linspace(-1, 1, 100_000, dtype=np.float32).reshape(1, -1)
    assert seen(lambda: r.Entropy(255), tail).range()[1] < 30
    assert seen(lambda: r.Entropy(255), even).range()[1] > 0.9


def test_entropy_is_not_misled_by_the_zeros_of_a_relu() -> None:
    values = np.maximum(RNG.standard_normal((1, 200_000)), 0).astype(np.float32)
    assert 2.5 < seen(lambda: r.Entropy(255), values).range()[1] <= values.max()


def plain_entropy(values: NDArray[np.float32], levels: int) -> tuple[float, float]:
    """The clipping of least divergence: 8192 bins, 91 thresholds, level by level."""
    low, high = min(values.min(), 0), max(values.max(), 0)
    reach = 2.0 ** np.ceil(np.log2(max(-low, high)))
    counts, edges = np.histogram(values, 8192, (-reach, reach))
    centres = edges[:-1] + reach / 8192
    zero = int(np.searchsorted(edges, 0.0))
    counts[zero] = counts[zero + 1]
    costs = {}
    for threshold in np.linspace(1, 0.1, 91) * max(-low, high):
        bottom, top = max(low, -threshold), min(high, threshold)
        kept = [i for i in range(8192) if bottom <= centres[i] <= top]
        clipped = counts[kept].astype(np.float64)
        quantized = np.zeros(len(kept))
        for level in range(levels):
            first, end = (-(-edge * len(kept) // levels) for edge in (level, level + 1))
            bins = [i for i in range(first, end) if clipped[i] > 0]
            quantized[bins] = clipped[bins].mean() if bins else 0
        clipped[0] += counts[: kept[0]].sum()
        clipped[-1] += counts[kept[-1] + 1 :].sum()
        p, q = (c / c.sum() + 1e-6 / len(kept) for c in (clipped, quantized))
        p, q = p / p.sum(), q / q.sum()
        costs[bottom, top] = float((p * np.log(p / q)).sum())
    return min(costs, key=lambda ends: costs[ends])


@pytest.mark.parametrize("steps", [15, 63])
@pytest.mark.parametrize("relu", [False, True])
def test_entropy_agrees_with_its_definition(steps: int, relu: bool) -> None:
    values = np.round(RNG.laplace(0.05, 0.4, (6, 20_000)) * 512) / 512
    values = np.asarray(np.maximum(values, 0) if relu else values, np.float32)
    found = seen(lambda: r.Entropy(steps), values).range()
    assert found == pytest.approx(plain_entropy(values, steps + 1))
    assert found[1] < values.max()


@pytest.mark.parametrize("make", ALL)
def test_batches_do_not_matter(make: Any) -> None:
    assert seen(make, VALUES, 1).range() == pytest.approx(seen(make, VALUES, 40).range())


@pytest.mark.parametrize("make", ALL)
def test_merging_is_seeing_both(make: Any) -> None:
    first, second = seen(make, VALUES[:15]), seen(make, VALUES[15:] * 5)
    both = np.concatenate([VALUES[:15], VALUES[15:] * 5])
    first.merge(second)
    assert first.range() == pytest.approx(seen(make, both).range())


@pytest.mark.parametrize("make", [*ALL, lambda: r.Candidates(r.MeanOfImages(), 255, 99.9)])
@pytest.mark.parametrize("cuts", [(1,), (7, 8, 30), (20, 39), tuple(range(1, 40))])
def test_merged_parts_are_the_whole_to_the_last_bit(make: Any, cuts: tuple[int, ...]) -> None:
    growing = np.float32(2.0) ** np.random.default_rng(1).integers(-9, 9, (40, 1, 1, 1))
    values = VALUES * growing.astype(np.float32)
    values[5], values[11] = 1.0, -4.0  # powers of two: the very ends of a histogram
    whole, merged = seen(make, values, 3), make()
    for part in np.split(values, cuts):
        merged.merge(seen(make, part, 2))
    assert merged.range() == whole.range()
    if isinstance(whole, r.Histogram):
        np.testing.assert_array_equal(merged.counts, whole.counts)
        assert (merged.reach, merged.low, merged.high) == (whole.reach, whole.low, whole.high)
    if isinstance(whole, r.Candidates):
        assert merged.ranges() == whole.ranges()


def test_merged_peaks_are_the_peaks_of_all() -> None:
    values = np.maximum(VALUES, 0)
    whole, merged = seen(r.ChannelPeaks, values), r.ChannelPeaks()
    for part in np.split(values, [3, 17]):
        merged.merge(seen(r.ChannelPeaks, part))
    np.testing.assert_array_equal(merged.peaks, whole.peaks)


def test_a_sum_is_exact_in_any_order() -> None:
    values = (RNG.standard_normal(1000) * 2.0 ** RNG.integers(-60, 60, 1000)).astype(np.float32)
    sums = []
    for order in (values, values[::-1], np.sort(values)):
        total = r.ExactSum()
        total.add(order.astype(np.float64))
        sums.append(total.over(1))
    assert set(sums) == {math.fsum(values.tolist())}


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(make: Any, bad: float) -> None:
    values = VALUES.copy()
    values[3, 1, 2, 2] = bad
    with pytest.raises(QuantizeError, match="NaN or infinite"):
        make().update(values)


def test_histogram_keeps_its_size_as_it_grows() -> None:
    histogram = r.Histogram(64)
    for scale in (1e-3, 1.0, 1e3):
        histogram.update(VALUES * np.float32(scale))
    assert len(histogram.counts) == 64
    assert histogram.counts.sum() == 3 * VALUES.size
    assert histogram.reach >= np.abs(VALUES).max() * 1e3


def test_constant_zero_has_an_empty_range() -> None:
    zeros = np.zeros((2, 3), np.float32)
    for make in ALL:
        low, high = seen(make, zeros).range()
        assert abs(low) < 1e-9
        assert abs(high) < 1e-9
