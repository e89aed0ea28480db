from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import (
    binom,
    binomtest,
    bootstrap,
    chi2,
    false_discovery_control,
    multinomial,
    sem,
    ttest_1samp,
    wilcoxon,
)

from quantlab.stats import paired as stats
from quantlab.stats.paired import Interval


def test_interval_contains_its_bounds() -> None:
    interval = Interval(0.0, 1.0)
    assert 0.0 in interval
    assert 1.0 in interval
    assert 1.1 not in interval
    assert interval.width == 1.0


@pytest.mark.parametrize(("k", "n"), [(0, 20), (3, 20), (20, 20), (1036, 1300)])
def test_wilson_equals_scipys(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    got = stats.wilson(k, n)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        stats.wilson(0, 0)


# Cavo et al. (2012), as published with Fagerland, Lydersen & Laake's tests for paired proportions:
# 59 both, 6 only first, 16 only second, 80 neither.
def test_published_example() -> None:
    difference = stats.paired_difference(6, 16, 161)
    assert (difference.low, difference.high) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    ratio = stats.paired_ratio(59, 16, 6)
    assert (ratio.low, ratio.high) == pytest.approx((0.7476, 0.9876), abs=5e-5)
    assert stats.mcnemar_exact(6, 16) == pytest.approx(0.052479, abs=5e-7)


def _profile(
    both: int, lost: int, gained: int, neither: int, theta: float, relative: bool
) -> float:
    """The rate of gained images that is likeliest when the difference or the ratio is theta."""
    n = both + lost + gained + neither

    def cells(g: float) -> tuple[float, float, float, float]:
        if not relative:
            rest = 1 - 2 * g - theta
            both_share = both / max(both + neither, 1)
            return rest * both_share, g + theta, g, rest * (1 - both_share)
        total = (both + lost + gained) / n
        loss = total * (1 - theta) + theta * g
        return total - loss - g, loss, g, neither / n

    def cost(g: float) -> float:
        likelihood = 0.0
        for count, p in zip((both, lost, gained, neither), cells(g), strict=True):
            if count:
                likelihood += count * math.log(p) if p > 0 else -1e9
            elif p < 0:
                likelihood -= 1e9
        return -likelihood

    total = (both + lost + gained) / n
    if relative:
        bounds = max(0.0, total * (theta - 1) / theta), total * theta / (1 + theta)
    else:
        bounds = max(0.0, -theta), (1 - theta) / 2
    best = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-12})
    return float(best.x)


@pytest.mark.parametrize("counts", [(70, 12, 9, 30), (900, 40, 35, 225), (12, 3, 1, 4)])
def test_score_bounds_are_where_the_score_test_turns(counts: tuple[int, int, int, int]) -> None:
    """At each bound the score statistic, its variance maximised numerically, is 1.96."""
    both, lost, gained, _ = counts
    n = sum(counts)
    difference = stats.paired_difference(lost, gained, n)
    for delta in (difference.low, difference.high):
        g = _profile(*counts, delta, relative=False)
        z = (lost - gained - n * delta) / math.sqrt(n * (2 * g + delta * (1 - delta)))
        assert abs(z) == pytest.approx(1.96, abs=0.01)
    ratio = stats.paired_ratio(both, lost, gained)
    for theta in (ratio.low, ratio.high):
        g = _profile(*counts, theta, relative=True)
        loss = (both + lost + gained) / n * (1 - theta) + theta * g
        z = (both + gained - theta * (both + lost)) / math.sqrt(n * theta * (g + loss))
        assert abs(z) == pytest.approx(1.96, abs=0.01)


def test_no_change_leaves_the_rule_of_four() -> None:
    """With no discordant pair the bound is z² / (n + z²), for the ratio of the right ones."""
    z2 = chi2.ppf(0.95, 1)
    difference = stats.paired_difference(0, 0, 1000)
    assert difference.high == pytest.approx(z2 / (1000 + z2), rel=1e-6)
    assert difference.low == pytest.approx(-difference.high)
    ratio = stats.paired_ratio(800, 0, 0)
    assert ratio.low == pytest.approx(800 / (800 + z2), rel=1e-6)
    assert ratio.high == pytest.approx((800 + z2) / 800, rel=1e-6)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 300), st.integers(0, 300))
@settings(deadline=None)
def test_intervals_hold_their_estimate_and_mirror(
    lost: int, gained: int, both: int, neither: int
) -> None:
    n = both + lost + gained + neither
    if n:
        got, mirrored = (
            stats.paired_difference(lost, gained, n),
            stats.paired_difference(gained, lost, n),
        )
        assert -1 <= got.low <= (lost - gained) / n <= got.high <= 1
        assert (mirrored.low, mirrored.high) == pytest.approx((-got.high, -got.low), abs=1e-9)
    if both + lost:
        ratio = stats.paired_ratio(both, lost, gained)
        estimate = (both + gained) / (both + lost)
        assert 0 <= ratio.low <= estimate + 1e-9
        assert estimate <= ratio.high + 1e-9
    if both + lost and both + gained:
        there, back = stats.paired_ratio(both, lost, gained), stats.paired_ratio(both, gained, lost)
        assert there.low == pytest.approx(1 / back.high, rel=1e-6)


def test_ratio_needs_a_first_model_that_is_right() -> None:
    with pytest.raises(ValueError, match="at least once"):
        stats.paired_ratio(0, 0, 4)


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 0), (3, 3, 5), (-1, 0, 5)])
def test_difference_needs_counts_that_fit(lost: int, gained: int, n: int) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        stats.paired_difference(lost, gained, n)


_difference = cache(stats.paired_difference)
_ratio = cache(stats.paired_ratio)
TRUTHS = [(0.0, 0.0005), (0.002, 0.0), (0.005, 0.005), (0.01, 0.0), (0.02, 0.001), (0.05, 0.04)]


def _draws(n: int, lost: float, gained: float) -> list[list[int]]:
    cells = [0.8 - lost, lost, gained, 0.2 - gained]
    drawn: list[list[int]] = np.random.default_rng(n).multinomial(n, cells, 1000).tolist()
    return drawn


@pytest.mark.parametrize("n", [100, 1000, 5000])
@pytest.mark.parametrize(("lost", "gained"), TRUTHS)
def test_score_intervals_cover_at_every_size(n: int, lost: float, gained: float) -> None:
    """95% coverage, and neither side misses more than 5% (a false pass or fail of the gate)."""
    truth = {"difference": lost - gained, "ratio": (0.8 - lost + gained) / 0.8}
    below, above = dict.fromkeys(truth, 0), dict.fromkeys(truth, 0)
    for both, b, c, _ in _draws(n, lost, gained):
        for name, interval in (
            ("difference", _difference(b, c, n)),
            ("ratio", _ratio(both, b, c)),
        ):
            below[name] += truth[name] < interval.low
            above[name] += truth[name] > interval.high
    for name in truth:
        assert max(below[name], above[name]) <= 50
        assert below[name] + above[name] <= 70


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_twice_the_binomial_tail(lost: int, gained: int) -> None:
    expected = min(1.0, 2 * float(binom.cdf(min(lost, gained), lost + gained, 0.5)))
    assert stats.mcnemar_exact(lost, gained) == pytest.approx(expected)


def _power(n: int, lost: float, gained: float, limit: float, relative: bool) -> float:
    decided = 0
    for both, b, c, _ in _draws(n, lost, gained):
        interval = stats.decline_of(_ratio(both, b, c)) if relative else _difference(b, c, n)
        decided += interval.high <= limit or interval.low > limit
    return decided / 1000


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("lost", "gained"), [(40, 35), (60, 30)])
def test_images_needed_decide_four_times_in_five(lost: int, gained: int, relative: bool) -> None:
    n = 1000
    needed = stats.images_needed(800 - lost, lost, gained, n, limit=0.01, relative=relative)
    assert needed is not None
    assert needed > n
    power = _power(needed, lost / n, gained / n, 0.01, relative)
    assert power == pytest.approx(0.8, abs=0.06)


def test_images_needed_without_any_change_is_not_zero() -> None:
    needed = stats.images_needed(16, 0, 0, 20, limit=0.01, relative=True)
    assert needed is not None
    assert 1000 < needed < 20000
    many = stats.images_needed(400, 0, 0, 450, limit=0.01, relative=True)
    assert many is not None
    assert 450 < many < needed


def test_images_needed_is_none_when_the_estimate_lies_on_the_limit() -> None:
    assert stats.images_needed(760, 40, 32, 1000, limit=0.01, relative=True) is None
    assert stats.images_needed(760, 40, 30, 1000, limit=0.01, relative=False) is None


def test_smallest_decline_is_seen_four_times_in_five() -> None:
    smallest = stats.smallest_decline(40, 40, 1000)
    lost, gained = 0.04 + smallest / 2, 0.04 - smallest / 2
    seen = [_difference(b, c, 1000).low > 0 for _, b, c, _ in _draws(1000, lost, gained)]
    assert np.mean(seen) == pytest.approx(0.8, abs=0.05)
    assert stats.smallest_decline(0, 0, 20) > 0.05


def test_the_signed_rank_interval_turns_scipys_test_around() -> None:
    """Where the interval ends, the exact test's p passes 5%."""
    values = np.random.default_rng(3).normal(0.3, 1, 15)
    found = stats.signed_rank(values)
    for bound, inward in ((found.low, 1e-9), (found.high, -1e-9)):
        inside, outside = (wilcoxon(values - bound - s * inward).pvalue for s in (1, -1))
        assert outside <= 0.05 < inside
    assert stats.centre(values) in found


@pytest.mark.parametrize("n", [6, 8, 15])
@pytest.mark.parametrize("tails", ["normal", "cauchy", "mixed"])
def test_the_signed_rank_interval_keeps_its_promise(n: int, tails: str) -> None:
    rng = np.random.default_rng(n)
    drawn = rng.standard_cauchy((1500, n)) if tails == "cauchy" else rng.normal(size=(1500, n))
    if tails == "mixed":  # rounds of different noise, as on a machine that others use too
        drawn *= rng.uniform(0.1, 10, (1500, n))
    missed = np.mean([0 not in stats.signed_rank(row) for row in drawn])
    assert missed <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_few_values_get_students_interval() -> None:
    values = np.array([1.0, 2.0, 4.0])
    found = stats.signed_rank(values)
    there = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((there.low, there.high))
    with pytest.raises(ValueError, match="two values"):
        stats.signed_rank(values[:1])


def test_the_centre_is_not_moved_by_one_value_far_off() -> None:
    values = np.array([1.0, 1.1, 0.9, 1.0, 1.05, 0.95, 1.0])
    moved = np.append(values, 1000.0)
    assert stats.centre(values) == pytest.approx(1.0, abs=0.01)
    assert stats.centre(moved) == pytest.approx(1.0, abs=0.06)


def test_bootstrap_of_a_mean_studentizes_every_resample() -> None:
    """Against the textbook's loop: each resample's distance in its own standard errors."""
    values = np.random.default_rng(1).lognormal(-4, 1.5, 300)
    got = stats.bootstrap_mean(values, 5)
    assert got == stats.bootstrap_mean(values, 5)
    assert got != stats.bootstrap_mean(values, 6)
    rng, distances = np.random.default_rng(7), []
    for _ in range(6000):
        drawn = rng.choice(values, len(values))
        distances.append((drawn.mean() - values.mean()) / sem(drawn))
    low, high = values.mean() - sem(values) * np.quantile(distances, [0.975, 0.025])
    assert (got.low, got.high) == pytest.approx((low, high), rel=0.05)


@pytest.mark.parametrize("n", [50, 200])
def test_bootstrap_of_a_mean_errs_seldom_on_either_side(n: int) -> None:
    """As spread as KL divergences are, where a percentile method errs far more often above."""
    rng, below, above = np.random.default_rng(4), 0, 0
    for seed in range(400):
        got = stats.bootstrap_mean(rng.gamma(0.3, 1, n), seed)
        below += got.low > 0.3
        above += got.high < 0.3
    assert max(below, above) <= 32  # 5% and three standard errors


def test_bootstrap_of_a_decline_is_scipys_bca() -> None:
    rng = np.random.default_rng(2)
    first = rng.normal(3, 1, 400)
    second = first - rng.exponential(0.2, 400)
    difference, ratio = stats.bootstrap_decline(first, second)
    assert ratio is not None
    for got, function in (
        (difference, lambda a, b, axis: a.mean(axis) - b.mean(axis)),
        (ratio, lambda a, b, axis: 1 - b.mean(axis) / a.mean(axis)),
    ):
        there = bootstrap(
            (first, second), function, paired=True, n_resamples=4000, vectorized=True, rng=1
        ).confidence_interval
        assert (got.low, got.high) == pytest.approx((there.low, there.high), rel=0.12)


def test_bootstrap_without_spread_is_a_point() -> None:
    assert stats.bootstrap_mean(np.zeros(5)) == Interval(0, 0)
    difference, ratio = stats.bootstrap_decline(np.full(5, 2.0), np.full(5, 2.0))
    assert (difference, ratio) == (Interval(0, 0), Interval(0, 0))


def test_bootstrap_of_a_mean_covers_a_skewed_one() -> None:
    """Like a KL divergence: most images near 0, a few far off."""
    rng, truth = np.random.default_rng(3), float(np.exp(0.5))
    got = [stats.bootstrap_mean(rng.lognormal(0, 1, 500), s) for s in range(200)]
    assert sum(truth in interval for interval in got) >= 180


def test_images_to_clear_shrinks_the_interval_with_the_root() -> None:
    assert stats.smallest_distance(Interval(0.4, 0.6)) == pytest.approx(0.1 * 2.8 / 1.96, rel=0.01)
    assert stats.images_to_clear(Interval(0.4, 0.6), 0.01, 100) == pytest.approx(20_409, rel=0.01)
    assert stats.images_to_clear(Interval(0.4, 0.6), -0.01, 100) == pytest.approx(20_409, rel=0.01)
    assert stats.images_to_clear(Interval(0.4, 0.6), 0.0, 100) is None
    assert stats.images_to_clear(Interval(0.4, 0.6), 1e-4, 100) is None


@pytest.mark.parametrize(("k", "n"), [(0, 20), (3, 20), (20, 20), (1036, 1300)])
def test_clopper_pearson_and_its_p_equal_scipys(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="exact")
    got = stats.clopper_pearson(k, n)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    p = binomtest(k, n, 0.3, alternative="greater").pvalue
    assert stats.share_p(k, n, 0.3) == pytest.approx(p)
    with pytest.raises(ValueError, match="no images"):
        stats.clopper_pearson(0, 0)


@given(
    st.integers(0, 300),
    st.integers(0, 60),
    st.integers(0, 60),
    st.integers(0, 300),
    st.floats(0, 0.3),
)
@settings(deadline=None)
def test_a_p_is_small_just_where_the_interval_lies_beyond(
    both: int, lost: int, gained: int, neither: int, limit: float
) -> None:
    n = both + lost + gained + neither
    pairs = []
    if n:
        pairs += [
            (
                stats.paired_difference(lost, gained, n),
                stats.paired_difference_p(lost, gained, n, limit),
            ),
            (stats.clopper_pearson(lost, n), stats.share_p(lost, n, limit)),
        ]
    if both + lost:
        decline = stats.decline_of(stats.paired_ratio(both, lost, gained))
        pairs.append((decline, stats.paired_decline_p(both, lost, gained, limit)))
    for interval, p in pairs:
        if abs(p - 0.025) > 1e-6:
            assert (interval.low > limit + 1e-9) == (p < 0.025) or abs(interval.low - limit) < 1e-9


def test_mean_p_reads_the_interval_as_a_normals() -> None:
    interval = Interval(0.8, 1.5)
    assert stats.mean_p(1.0, interval, 0.8) == pytest.approx(0.025)
    assert stats.mean_p(1.0, interval, 1.5) == pytest.approx(0.975)
    assert stats.mean_p(1.0, interval, 1.0) == pytest.approx(0.5)
    point = Interval(1.0, 1.0)
    assert (stats.mean_p(1.0, point, 0.9), stats.mean_p(1.0, point, 1.1)) == (0.0, 1.0)


def _brute_p(lost: int, gained: int, n: int, limit: float) -> float:
    """Every table as likely to be so far out, at every rate of gained images: scipy's pmf."""
    tables = [(x, y) for x in range(n + 1) for y in range(n + 1 - x)]

    def score(x: int, y: int) -> float:
        p = stats.paired_difference_p(x, y, n, limit)
        return -p

    far = [t for t in tables if score(*t) >= score(lost, gained) - 1e-9]
    rates = np.linspace(0, (1 - limit) / 2, 64)
    return max(
        sum(
            multinomial.pmf([x, y, n - x - y], n, [g + limit, g, max(0.0, 1 - limit - 2 * g)])
            for x, y in far
        )
        for g in rates
    )


@pytest.mark.parametrize("counts", [(3, 0), (5, 1), (1, 0), (8, 0), (2, 2)])
@pytest.mark.parametrize("limit", [0.05, 0.1])
def test_the_exact_test_of_few_images_enumerates_all_tables(
    counts: tuple[int, int], limit: float
) -> None:
    got = stats.few_difference_p(*counts, 8, limit)
    assert got == pytest.approx(_brute_p(*counts, 8, limit), rel=1e-6)


def test_the_exact_test_without_a_margin_and_with_many_images() -> None:
    assert stats.few_difference_p(0, 0, 5, 0.0) == 1.0
    assert stats.few_difference_p(10, 0, 10, 0.1) == pytest.approx(0.55**10, rel=1e-3)
    for counts in ((30, 2), (20, 9)):
        exact = stats.few_difference_p(*counts, 100, 0.1)
        assert exact == pytest.approx(stats.paired_difference_p(*counts, 100, 0.1), rel=0.5)
    assert stats.few_difference_p(30, 2, 101, 0.1) == stats.paired_difference_p(30, 2, 101, 0.1)


@pytest.mark.parametrize(("n", "limit"), [(5, 0.1), (20, 0.05), (50, 0.1)])
def test_the_exact_test_keeps_its_level(n: int, limit: float) -> None:
    rng = np.random.default_rng(n)
    for gained in (0.0, 0.05, 0.3):
        drawn = rng.multinomial(n, (gained + limit, gained, 1 - limit - 2 * gained), 2000).tolist()
        wrong = sum(stats.few_difference_p(x, y, n, limit) <= 0.025 for x, y, _ in drawn)
        assert wrong <= 0.025 * 2000 + 3 * math.sqrt(0.025 * 0.975 * 2000)


def test_corrections_for_many_tests() -> None:
    p = [0.01, 0.04, 0.03, 0.005, 0.2]
    assert stats.holm(p) == pytest.approx(
        (0.04, 0.09, 0.09, 0.025, 0.2)
    )  # statsmodels' multipletests
    assert stats.benjamini_hochberg(p) == pytest.approx(tuple(false_discovery_control(p)))
    assert (stats.holm([]), stats.benjamini_hochberg([])) == ((), ())
    assert stats.holm([0.5, 0.9]) == (1.0, 1.0)


def test_newcombes_published_example() -> None:
    """56 of 70 and 48 of 80: 0.0524 to 0.3339 (Newcombe 1998, method 10)."""
    got = stats.independent_decline(56, 70, 48, 80, relative=False)
    assert (got.low, got.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)


@pytest.mark.parametrize(
    ("counts", "score"),
    [
        ((56, 70, 48, 80), (1.0790471, 1.6721453)),
        ((915, 1300, 890, 1300), (0.9769148, 1.0820893)),
        ((9, 10, 3, 10), (1.3279566, 8.6919149)),
    ],
)
def test_an_unpaired_ratio_is_close_to_the_score_interval(
    counts: tuple[int, int, int, int], score: tuple[float, float]
) -> None:
    """Koopman's, of the first to the second, as statsmodels' confint_proportions_2indep has it."""
    got = stats.independent_decline(*counts, relative=True)
    assert (1 / (1 - got.low), 1 / (1 - got.high)) == pytest.approx(score, rel=0.04)


def test_an_unpaired_ratio_at_the_edges() -> None:
    with pytest.raises(ValueError, match="at least once"):
        stats.independent_decline(0, 10, 3, 10, relative=True)
    none_right = stats.independent_decline(5, 10, 0, 10, relative=True)
    assert none_right.high == 1.0
    assert none_right.low < 1.0


@pytest.mark.parametrize("relative", [True, False])
def test_an_unpaired_interval_covers_paired_images_too(relative: bool) -> None:
    """Images that both get right or wrong together only make it wider than need be."""
    truth = 0.02 / 0.8 if relative else 0.02
    missed = 0
    for both, lost, gained, _ in _draws(1000, 0.05, 0.03):
        got = stats.independent_decline(both + lost, 1000, both + gained, 1000, relative=relative)
        missed += truth not in got
    assert missed <= 5
