from __future__ import annotations

import math

import numpy as np
import pytest

from quantlab.gate.sequential import _Bets
from quantlab.stats.anytime import (
    ALPHA,
    Kind,
    anytime_decline,
    anytime_share,
    decision,
    decline_values,
    log_stake,
    share_values,
)
from quantlab.stats.paired import decline_of, paired_difference, paired_ratio, wilson

COUNTS = [(700, 12, 9, 279), (40, 3, 0, 7), (0, 5, 5, 90), (90, 0, 0, 10), (1, 0, 0, 0)]
KINDS: tuple[Kind, ...] = ("relative", "absolute")


@pytest.mark.parametrize("limit", [-0.3, 0.0, 0.01, 0.5])
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_stake_is_that_of_bets_laid_one_by_one(
    kind: Kind, counts: tuple[int, ...], limit: float
) -> None:
    values = decline_values(kind)(limit)
    images = np.random.default_rng(0).permutation(np.repeat(values, counts))
    for sign in (1, -1):
        bets = _Bets(float(-(sign * values).min()))
        one_by_one = bets.update(sign * images, np.zeros(len(images)))[-1]
        at_once = log_stake(np.array(counts, np.float64), sign * values)
        assert at_once == pytest.approx(one_by_one, abs=1e-9)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_is_the_limits_that_are_not_decided(
    kind: Kind, counts: tuple[int, ...]
) -> None:
    both, lost, gained, _ = counts
    found = anytime_decline(both, lost, gained, sum(counts), kind)
    for limit in np.linspace(-1.5 if kind == "relative" else -0.99, 0.99, 200):
        made = decision(np.array(counts, np.float64), decline_values(kind), float(limit))
        expected = "fail" if limit < found.low else "pass" if limit > found.high else None
        assert made == expected, limit


@pytest.mark.parametrize("count", [0, 1, 30, 999, 1000])
def test_of_a_share(count: int) -> None:
    found, usual = anytime_share(count, 1000), wilson(count, 1000)
    assert found.low <= usual.low + 1e-3 <= usual.high - 1e-3 <= found.high
    assert 0 <= found.low <= count / 1000 <= found.high <= 1
    for limit in np.linspace(0.0005, 0.9995, 300):
        made = decision(np.array([1000 - count, count], np.float64), share_values, float(limit))
        assert made == ("fail" if limit < found.low else "pass" if limit > found.high else None)


@pytest.mark.parametrize("n", [50, 1000, 50_000])
def test_it_is_wider_than_the_usual_interval_and_shrinks_alike(n: int) -> None:
    both, lost, gained = (round(n * share) for share in (0.68, 0.04, 0.04))
    pairs = (
        (decline_of(paired_ratio(both, lost, gained)), "relative"),
        (paired_difference(lost, gained, n), "absolute"),
    )
    for usual, kind in pairs:
        found = anytime_decline(both, lost, gained, n, kind)  # type: ignore[arg-type]
        assert usual.width < found.width < 2.5 * usual.width


def test_looked_at_after_every_image_it_seldom_misses() -> None:
    """At any image at all: at most 2.5% on each side."""
    rng, shares, n, runs = np.random.default_rng(3), (0.70, 0.05, 0.03, 0.22), 4000, 400
    truth = (shares[1] - shares[2]) / (shares[0] + shares[1])
    images = rng.choice(4, size=(runs, n), p=shares)
    counts = np.stack([(images == k).cumsum(1) for k in range(4)], -1).astype(np.float64)
    for sign in (1, -1):
        ever = (
            log_stake(counts, sign * decline_values("relative")(truth)) >= -math.log(ALPHA)
        ).any(1)
        assert ever.mean() <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_a_first_model_that_is_never_right_has_no_relative_decline() -> None:
    with pytest.raises(ValueError, match="right at least once"):
        anytime_decline(0, 0, 3, 10, "relative")
    assert anytime_decline(0, 0, 3, 10, "absolute").high <= 1
