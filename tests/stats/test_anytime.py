from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.stats.anytime import (
    ALPHA,
    BETS,
    BOLDEST,
    SMALLEST_BET,
    DeclineKind,
    FiniteTest,
    StopDecision,
    anytime_decline,
    anytime_share,
    decision,
    decline_values,
    log_stake,
    share_values,
)
from quantlab.stats.paired import decline_of, paired_difference, paired_ratio, wilson

COUNTS = [(700, 12, 9, 279), (40, 3, 0, 7), (0, 5, 5, 90), (90, 0, 0, 10), (1, 0, 0, 0)]
KINDS: tuple[DeclineKind, ...] = ("relative", "absolute")


@pytest.mark.parametrize("limit", [-0.3, 0.0, 0.01, 0.5])
@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_stake_is_that_of_bets_laid_one_by_one(
    kind: DeclineKind, counts: tuple[int, ...], limit: float
) -> None:
    values = decline_values(kind)(limit)
    images = np.random.default_rng(0).permutation(np.repeat(values, counts))
    for sign in (1, -1):
        boldest = BOLDEST / max(float(-(sign * values).min()), 1e-3)
        ladder = SMALLEST_BET * (boldest / SMALLEST_BET) ** (np.arange(BETS) / (BETS - 1))
        stakes = np.zeros(BETS)
        for image in images:
            stakes += np.log(1 + ladder * sign * image)
        at_once = log_stake(np.array(counts, np.float64), sign * values)
        one_by_one = math.log(np.exp(stakes - stakes.max()).mean()) + stakes.max()
        assert at_once == pytest.approx(one_by_one, abs=1e-9)


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_interval_is_the_limits_that_are_not_decided(
    kind: DeclineKind, counts: tuple[int, ...]
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


N = 50_000
ACCURACY, DISCORDANT = 0.72, 0.08
AGREEMENTS = 20_000
Bools = NDArray[np.bool_]
RELATIVE = decline_values("relative")


def _models(rng: np.random.Generator, n: int, decline: float) -> tuple[Bools, Bools]:
    """Which of ``n`` images each model gets right, at this true relative decline."""
    net = decline * ACCURACY
    lost, gained = (DISCORDANT + net) / 2, (DISCORDANT - net) / 2
    u = rng.random(n)
    return u < ACCURACY, (u < ACCURACY - lost) | ((u >= ACCURACY) & (u < ACCURACY + gained))


def _outcomes(first: Bools, second: Bools) -> NDArray[np.int64]:
    """0 for both right, 1 lost, 2 gained, 3 neither right."""
    return np.where(first, np.where(second, 0, 1), np.where(second, 2, 3))


def _decided(test: FiniteTest, outcomes: NDArray[np.int64]) -> tuple[StopDecision | None, int]:
    """The decision and how many images it took, in batches of 50."""
    for at in range(0, len(outcomes), 50):
        if test.update(outcomes[at : at + 50]):
            break
    return test.decision, test.seen


def _run(decline: float, seed: int, n: int) -> tuple[StopDecision | None, int]:
    test = FiniteTest(RELATIVE(0.01), n)
    return _decided(test, _outcomes(*_models(np.random.default_rng(seed), n, decline)))


@pytest.mark.parametrize(("decline", "right"), [(0.0, "pass"), (0.04, "fail")])
def test_clear_cases_are_decided_rightly_on_less_than_half(decline: float, right: str) -> None:
    runs = [_run(decline, seed, N) for seed in range(40)]
    assert sum(decision != right for decision, _ in runs) <= 2
    assert np.mean([seen for _, seen in runs]) < 0.5 * N


@pytest.mark.parametrize("decline", [0.0, 0.008, 0.01, 0.012, 0.03])
def test_of_all_images_it_says_what_all_images_say(decline: float) -> None:
    """Drawn without replacement: decided at the last image, and seldom otherwise before it."""
    wrong = 0
    for seed in range(60):
        first, second = _models(np.random.default_rng(seed), 2000, decline)
        truth = "pass" if second.sum() >= 0.99 * first.sum() - 1e-9 else "fail"
        found, _ = _run(decline, seed, 2000)
        assert found is not None
        wrong += found != truth
    assert wrong <= 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_image_decides_exactly(kind: DeclineKind) -> None:
    lost = np.where(np.arange(200) < 2, 1, 0)
    for allowed, expected in ((0.01, "pass"), (0.0099, "fail")):
        test = FiniteTest(decline_values(kind)(allowed), 200, alpha=1e-9)
        assert test.update(lost) == expected


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_do_not_matter(batch: int) -> None:
    outcomes = np.random.default_rng(1).choice(4, 1000, p=[0.7, 0.1, 0.0, 0.2])
    whole, parts = (FiniteTest(RELATIVE(0.01), 1500) for _ in range(2))
    assert whole.update(outcomes) == "fail"
    decided = [parts.update(outcomes[at : at + batch]) for at in range(0, 1000, batch)]
    assert decided[-1] == "fail"
    assert parts.seen == 1000


def test_a_decision_stays() -> None:
    test = FiniteTest(np.array([1.0, -1.0]), 2000)
    assert test.update(np.empty(0, int)) is None
    assert test.update(np.zeros(100, int)) == "fail"
    assert test.update(np.ones(1000, int)) == "fail"
    assert test.seen == 1100


@pytest.mark.filterwarnings("error")
def test_the_stake_never_turns_negative() -> None:
    """The logarithm of one that did would warn."""
    for low, high in ((-1, 0.99), (-0.04, 0.96), (-1e-4, 1), (-1.5, 0.5)):
        test = FiniteTest(np.array([low, high]), 300, alpha=1e-300)
        for outcome in np.random.default_rng(0).choice(2, 299):
            test.update(np.array([outcome]))


def test_more_images_than_announced_are_refused() -> None:
    with pytest.raises(ValueError, match="more than the 10 announced"):
        FiniteTest(RELATIVE(0.01), 10).update(np.zeros(11, int))


@pytest.mark.parametrize(("agreement", "right"), [(0.98, "pass"), (0.93, "fail")])
def test_agreement_is_decided_early(agreement: float, right: str) -> None:
    wrong, seen = 0, 0
    for seed in range(40):
        changed = np.random.default_rng(seed).random(AGREEMENTS) >= agreement
        found, used = _decided(FiniteTest(share_values(0.04), AGREEMENTS), changed.astype(int))
        wrong += found != right
        seen += used
    assert wrong <= 2
    assert seen / 40 < 4000


def test_full_agreement_fails_at_the_first_difference() -> None:
    test = FiniteTest(share_values(0.0), 1000)
    assert test.update(np.zeros(500, int)) is None
    assert test.update(np.ones(1, int)) == "fail"


def test_near_the_limit_draws_from_an_endless_population_mostly_decide_nothing() -> None:
    runs = []
    for seed in range(20):
        outcomes = _outcomes(*_models(np.random.default_rng(seed), N, 0.0095))
        counts = np.bincount(outcomes, minlength=4).astype(np.float64)
        runs.append(decision(counts, RELATIVE, 0.01))
    assert runs.count(None) >= 14
