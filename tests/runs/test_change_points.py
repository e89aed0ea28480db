"""Change points: how often they are wrong, how often found, and what their p is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from quantlab.runs.change_points import LEAST, change_points, highest_p


@pytest.mark.parametrize("n", [2, 3, 6, 20, 60])
def test_false_alarms_with_known_variances(n: int) -> None:
    rng = np.random.default_rng(n)
    series, errors = 2000, rng.uniform(0.3, 3, n)
    values = rng.normal(5, errors, (series, n))
    wrong = sum(bool(change_points(row, errors)) for row in values)
    assert wrong / series < 0.05 + 3 * (0.05 * 0.95 / series) ** 0.5
    assert wrong / series > 0.02, "and not for being blind"


@pytest.mark.parametrize("n", [LEAST, 20])
def test_false_alarms_whatever_the_noise(n: int) -> None:
    rng = np.random.default_rng(n)
    series = 150
    wrong = sum(bool(change_points(row)) for row in rng.standard_t(2, (series, n)))
    assert wrong / series < 0.05 + 3 * (0.05 * 0.95 / series) ** 0.5


@pytest.mark.parametrize(("n", "at"), [(2, 1), (6, 3), (12, 2), (40, 25)])
def test_a_large_change_is_found_and_where_it_is(n: int, at: int) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(200):
        values = rng.normal(0, 1, n)
        values[at:] += 8
        found.append([c.index for c in change_points(values, np.ones(n))])
    assert np.mean([at in places for places in found]) > 0.95
    assert np.mean([len(places) == 1 for places in found]) > 0.85


def test_without_known_variances_a_clear_step_of_few_figures_is_found() -> None:
    values = [5.0, 5.1, 4.9, 5.05, 6.0, 6.1, 5.95, 6.02]
    (change,) = change_points(values)
    assert change.index == 4
    assert change.before == pytest.approx(np.mean(values[:4]))
    assert change.after == pytest.approx(np.mean(values[4:]))
    assert change.p == pytest.approx(2 / 70, rel=0.3)
    assert change_points(values[1:]) == ()


def test_a_dip_that_ends_gives_two_changes_and_means_between_them() -> None:
    values = [0.80] * 4 + [0.70] * 3 + [0.80] * 4
    found = change_points(values, [0.01] * 11)
    assert [c.index for c in found] == [4, 7]
    assert [c.before for c in found] == pytest.approx([0.8, 0.7])
    assert [c.after for c in found] == pytest.approx([0.7, 0.8])


def test_means_are_weighted_by_what_is_known() -> None:
    (change,) = change_points([0, 0, 10, 11.5], [1, 1, 1, 0.5])
    assert (change.index, change.after) == (2, pytest.approx((10 + 4 * 11.5) / 5))


@pytest.mark.parametrize("height", [1.5, 2.1, 3.0])
def test_for_two_places_to_cut_the_p_is_exact(height: float) -> None:
    weights = 1 / np.array([0.5, 1.0, 2.0]) ** 2
    before, total = weights.cumsum()[:-1], weights.sum()
    odds = before / (total - before)
    alike = np.sqrt(odds[0] / odds[1])
    normal = multivariate_normal([0, 0], [[1, alike], [alike, 1]])
    inside = normal.cdf([height, height], lower_limit=[-height, -height])
    assert highest_p(height, weights) == pytest.approx(1 - inside, rel=1e-4)


@pytest.mark.parametrize("height", [2.0, 2.8, 3.5])
def test_for_many_places_the_p_is_at_least_the_chance(height: float) -> None:
    rng = np.random.default_rng(0)
    n, series = 15, 100_000
    walks = rng.normal(size=(series, n)).cumsum(axis=1)
    k = np.arange(1, n)
    scores = (walks[:, :-1] - k / n * walks[:, -1:]) / np.sqrt(k * (n - k) / n)
    chance = (np.abs(scores).max(axis=1) > height).mean()
    p = highest_p(height, np.ones(n))
    assert chance - 3 * (chance / series) ** 0.5 < p < 1.35 * chance


@pytest.mark.parametrize("values", [[], [1.0], [0.8] * 20])
def test_nothing_and_sameness_have_no_change(values: list[float]) -> None:
    assert change_points(values) == ()
    assert change_points(values, [0.01] * len(values)) == ()


def test_the_largest_height_has_a_p_of_0() -> None:
    (change,) = change_points([0, 0, 1e6, 1e6], [1.0] * 4)
    assert change.p == 0


@pytest.mark.parametrize("errors", [[1.0], [1.0, 0.0], [1.0, float("nan")], [1.0, -1.0]])
def test_errors_that_are_none(errors: list[float]) -> None:
    with pytest.raises(ValueError, match="a standard error above 0"):
        change_points([1.0, 2.0], errors)
