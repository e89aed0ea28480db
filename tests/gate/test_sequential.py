from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.compare.compare import compare
from quantlab.errors import DataError, RecipeError
from quantlab.gate.notation import parse_criterion
from quantlab.gate.sequential import (
    AgreementSequential,
    Decision,
    PairedSequential,
    SequentialMean,
    early_stop,
    watch,
)
from quantlab.gate.verdict import judge
from quantlab.testing.predictions import fake_predictions

N = 50_000
ACCURACY, DISCORDANT = 0.72, 0.08
Bools = NDArray[np.bool_]


def _models(
    rng: np.random.Generator, n: int, decline: float, discordant: float = DISCORDANT
) -> tuple[Bools, Bools]:
    """Which of ``n`` images each model gets right, at this true relative decline."""
    net = decline * ACCURACY
    lost, gained = (discordant + net) / 2, (discordant - net) / 2
    u = rng.random(n)
    return u < ACCURACY, (u < ACCURACY - lost) | ((u >= ACCURACY) & (u < ACCURACY + gained))


def _run(
    decline: float, seed: int, *, n: int = N, total: int | None = None, limit: float = 0.01
) -> tuple[Decision | None, int]:
    """The decision and how many images it took, in batches of 50."""
    test = PairedSequential(limit, "relative", total=total)
    first, second = _models(np.random.default_rng(seed), n, decline)
    for at in range(0, n, 50):
        if test.update(first[at : at + 50], second[at : at + 50]):
            return test.mean.decision, test.mean.seen
    return None, n


@pytest.mark.parametrize("total", [None, N])
@pytest.mark.parametrize(("decline", "right"), [(0.0, "pass"), (0.04, "fail")])
def test_clear_cases_are_decided_rightly_on_less_than_half(
    decline: float, right: str, total: int | None
) -> None:
    runs = [_run(decline, seed, total=total) for seed in range(40)]
    assert sum(decision != right for decision, _ in runs) <= 2
    assert np.mean([seen for _, seen in runs]) < 0.5 * N


def test_on_the_limit_neither_error_is_likelier_than_alpha() -> None:
    """Here both are errors in the end; each may happen 5 times in 100, however often one looks."""
    decisions = [_run(0.01, seed, n=5000)[0] for seed in range(200)]
    assert max(decisions.count("pass"), decisions.count("fail")) <= 15


def test_near_the_limit_it_mostly_runs_to_the_end() -> None:
    runs = [_run(0.0095, seed) for seed in range(20)]
    assert sum(seen == N for _, seen in runs) >= 14


@pytest.mark.parametrize("decline", [0.0, 0.008, 0.01, 0.012, 0.03])
def test_of_all_images_it_says_what_all_images_say(decline: float) -> None:
    """Drawn without replacement: decided at the last image, and seldom otherwise before it."""
    wrong = 0
    for seed in range(60):
        first, second = _models(np.random.default_rng(seed), 2000, decline)
        truth = "pass" if second.sum() >= 0.99 * first.sum() - 1e-9 else "fail"
        decision, _ = _run(decline, seed, n=2000, total=2000)
        assert decision is not None
        wrong += decision != truth
    assert wrong <= 3


def test_the_last_image_decides_exactly() -> None:
    lost = np.arange(200) < 2
    for allowed, decision in ((0.01, "pass"), (0.0099, "fail")):
        for kind in ("relative", "absolute"):
            test = PairedSequential(allowed, kind, alpha=1e-9, total=200)  # type: ignore[arg-type]
            assert test.update(np.ones(200, np.bool_), ~lost) == decision


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_batches_do_not_matter(batch: int) -> None:
    values = np.random.default_rng(1).choice([-0.01, 0.99, -1.0, 0.0], 1000, p=[0.7, 0.1, 0.0, 0.2])
    whole, parts = (SequentialMean(-1, 0.99, total=1500) for _ in range(2))
    assert whole.update(values) == "fail"
    decided = [parts.update(values[at : at + batch]) for at in range(0, 1000, batch)]
    assert decided[-1] == "fail"
    assert parts.seen == 1000


def test_a_decision_stays() -> None:
    test = SequentialMean(-1, 1)
    assert test.update(np.empty(0)) is None
    assert test.update(np.ones(100)) == "fail"
    assert test.update(-np.ones(1000)) == "fail"
    assert test.seen == 1100


def test_the_stake_never_turns_negative() -> None:
    for low, high in ((-1, 0.99), (-0.04, 0.96), (-1e-4, 1), (-1.5, 0.5)):
        for total in (None, 300):
            test = SequentialMean(low, high, alpha=1e-300, total=total)
            values = np.random.default_rng(0).choice([low, high], 299)
            test.update(values)
            assert np.isfinite(test._above.log_stakes).all()
            assert np.isfinite(test._below.log_stakes).all()


def test_more_images_than_announced_are_refused() -> None:
    with pytest.raises(ValueError, match="more than the 10 announced"):
        SequentialMean(-1, 1, total=10).update(np.zeros(11))


@pytest.mark.parametrize("total", [None, 20_000])
@pytest.mark.parametrize(("agreement", "right"), [(0.98, "pass"), (0.93, "fail")])
def test_agreement_is_decided_early(agreement: float, right: str, total: int | None) -> None:
    wrong, seen = 0, 0
    for seed in range(40):
        test = AgreementSequential(0.96, total=total)
        same = np.random.default_rng(seed).random(20_000) < agreement
        for at in range(0, 20_000, 50):
            if test.update(same[at : at + 50]):
                break
        wrong += test.mean.decision != right
        seen += test.mean.seen
    assert wrong <= 2
    assert seen / 40 < 4000


def test_agreement_on_the_limit_is_seldom_decided() -> None:
    decisions = []
    for seed in range(200):
        test = AgreementSequential(0.96)
        decisions.append(test.update(np.random.default_rng(seed).random(5000) < 0.96))
    assert max(decisions.count("pass"), decisions.count("fail")) <= 15


def test_full_agreement_fails_at_the_first_difference() -> None:
    test = AgreementSequential(1.0)
    assert test.update(np.ones(500, np.bool_)) is None
    assert test.update(np.zeros(1, np.bool_)) == "fail"


@pytest.mark.parametrize("text", ["1%", "1pp", "top5.decline <= 3%", "agreement >= 96%"])
def test_early_stop_feeds_its_test(text: str) -> None:
    fp32 = fake_predictions(6000, 20, 0, 1)
    order = np.random.default_rng(0).permutation(6000)
    for made, decision in ((fp32, "pass"), (replace(fp32, outputs=-fp32.outputs), "fail")):
        stop = early_stop(parse_criterion(text), fp32)
        assert stop is not None
        stopped = [stop(part, made.outputs[part]) for part in np.split(order, 60)]
        assert (stop.decision, stopped[-1]) == (decision, True)
        only = early_stop(parse_criterion(text), fp32, on=("fail",))
        assert only is not None
        assert only(order, made.outputs[order]) is (decision == "fail")


def test_early_stop_allows_the_tolerance() -> None:
    fp32, int8 = fake_predictions(6000, 20, 0, 1), fake_predictions(6000, 20, 0.1, 1)
    order = np.random.default_rng(0).permutation(6000)
    for tolerance, decision in ((0.0, "fail"), (0.1, "pass")):
        stop = early_stop(parse_criterion("agreement >= 96%", tolerance=tolerance), fp32)
        assert stop is not None
        stop(order, int8.outputs[order])
        assert stop.decision == decision


def test_what_has_no_sequential_test() -> None:
    fp32 = fake_predictions(10, 5, 0, 1)
    assert early_stop(parse_criterion("kl <= 0.01"), fp32) is None
    assert early_stop(parse_criterion("m:f.decline <= 1%"), fp32) is None
    assert early_stop(parse_criterion("1%"), replace(fp32, labels=None)) is None
    assert early_stop(parse_criterion("agreement >= 96%"), replace(fp32, labels=None)) is not None


@pytest.mark.parametrize("text", ["1%", "1pp", "top5.decline <= 3%", "agreement >= 96%"])
def test_a_watch_decides_as_the_verdict_on_what_it_saw(text: str) -> None:
    criterion, fp32 = parse_criterion(text), fake_predictions(6000, 20, 0, 1)
    surer = replace(fp32, model_sha256="f" * 64, outputs=2 * fp32.outputs)
    for made in (surer, fake_predictions(6000, 20, 0.3, 1), replace(fp32, outputs=-fp32.outputs)):
        test, order = watch(criterion), np.random.default_rng(0).permutation(6000)
        for at in range(0, 6000, 200):
            rows, seen = order[at : at + 200], np.sort(order[: at + 200])
            assert fp32.labels is not None
            decided = test.update(fp32.outputs[rows], made.outputs[rows], fp32.labels[rows])
            verdict = judge(compare(fp32.subset(seen), made.subset(seen)), criterion, anytime=True)
            assert verdict.status == (decided or "inconclusive")
            assert verdict.anytime
            if decided:
                break


def test_a_watch_allows_the_tolerance() -> None:
    fp32, int8 = fake_predictions(6000, 20, 0, 1), fake_predictions(6000, 20, 0.1, 1)
    for tolerance, decided in ((0.0, "fail"), (0.1, "pass")):
        test = watch(parse_criterion("agreement >= 96%", tolerance=tolerance))
        assert test.update(fp32.outputs, int8.outputs, None) == decided


@pytest.mark.parametrize("text", ["1%", "1pp"])
def test_a_first_model_that_is_never_right_decides_nothing(text: str) -> None:
    """As in the verdict: there is no accuracy to lose."""
    outputs, labels = np.eye(3, dtype=np.float32)[np.zeros(5000, int)], np.ones(5000, np.int64)
    assert watch(parse_criterion(text)).update(outputs, outputs[:, [1, 0, 2]], labels) is None


@pytest.mark.parametrize("text", ["kl <= 0.01", "m:f.decline <= 1%"])
def test_what_cannot_be_watched(text: str) -> None:
    with pytest.raises(RecipeError, match="cannot stop an evaluation early"):
        watch(parse_criterion(text))
    made = fake_predictions(100, 5, 0, 1)
    with pytest.raises(ValueError, match="no interval that is valid whenever one stops"):
        judge(compare(made, made), parse_criterion(text), anytime=True)


def test_accuracy_cannot_be_watched_without_labels() -> None:
    outputs = np.eye(3, dtype=np.float32)
    with pytest.raises(DataError, match="the images have no labels"):
        watch(parse_criterion("1%")).update(outputs, outputs, None)
