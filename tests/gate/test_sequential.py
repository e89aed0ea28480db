from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantlab.compare.compare import compare
from quantlab.errors import DataError, RecipeError
from quantlab.gate.notation import parse_criterion
from quantlab.gate.sequential import early_stop, watch
from quantlab.gate.verdict import judge
from quantlab.testing.predictions import fake_predictions


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
