"""Top-1 and top-5 with their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import top_k_accuracy_score

from quantlab.evaluate.accuracy import (
    accuracy_of,
    is_guessing,
    is_implausible,
    share_of,
)
from quantlab.stats.paired import wilson
from quantlab.testing import fake_predictions


def test_agrees_with_scikit_learn() -> None:
    predictions = fake_predictions(500, 20, 0, 3)
    found = predictions.accuracy
    assert found is not None
    for share, k in ((found.top1, 1), (found.top5, 5)):
        oracle = top_k_accuracy_score(
            predictions.labels, predictions.outputs, k=k, labels=np.arange(20)
        )
        assert share.value == pytest.approx(oracle)
        assert (share.count, share.n) == (round(oracle * 500), 500)
        assert share.interval == wilson(share.count, 500)
        assert share.value in share.interval


def test_without_labels_there_is_none() -> None:
    assert fake_predictions(10, 5, 0, 1, labelled=False).accuracy is None


def test_fewer_than_five_classes() -> None:
    found = fake_predictions(50, 3, 0, 1).accuracy
    assert found is not None
    assert found.top5.value == 1


def test_nan_is_never_right() -> None:
    predictions = fake_predictions(4, 6, 0, 1, accuracy=1.0)
    outputs = predictions.outputs.copy()
    outputs[0] = np.nan
    found = replace(predictions, outputs=outputs).accuracy
    assert found is not None
    assert (found.top1.count, found.top5.count) == (3, 3)


def test_best_classes_alone() -> None:
    top = np.array([[3, 1], [2, -1], [0, 4]])
    found = accuracy_of(top, np.array([3, 2, 4]), has_five=False)
    assert (found.top1.count, found.top1.n, found.top5) == (2, 3, None)
    whole = accuracy_of(top, np.array([3, 2, 4]))
    assert whole.top5 is not None
    assert whole.top5.count == 3


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("n", [5, 20, 100, 1300])
def test_guessing_is_not_surely_above_chance_and_surely_of_no_use(classes: int, n: int) -> None:
    useful = 1 / classes + 0.2 * (1 - 1 / classes)
    for count in range(n + 1):
        above = binomtest(count, n, 1 / classes, alternative="greater").pvalue
        below = binomtest(count, n, useful, alternative="less").pvalue
        assert is_guessing(share_of(count, n), classes) == (above > 0.025 and below < 0.025)


@pytest.mark.parametrize(
    ("right", "n", "classes", "guesses", "implausible"),
    [
        (0, 300, 1000, True, True),  # another preprocessing
        (2, 300, 1000, True, True),
        (0, 20, 1000, True, True),
        (18, 20, 1000, False, False),
        (0, 5, 1000, False, True),
        (0, 3, 1000, False, False),
        (1, 5, 10, False, False),
        (4, 4, 2, False, False),
        (55, 100, 2, False, True),
        (500, 1000, 2, True, True),
        (26, 1300, 1000, False, True),  # little, but no chance
    ],
)
def test_what_counts_as_guessing(
    right: int, n: int, classes: int, guesses: bool, implausible: bool
) -> None:
    share = share_of(right, n)
    assert (is_guessing(share, classes), is_implausible(share, classes)) == (guesses, implausible)


@pytest.mark.parametrize(("classes", "truth"), [(2, 0.65), (2, 0.8), (10, 0.4), (1000, 0.3)])
def test_a_classifier_of_use_is_seldom_said_to_guess(classes: int, truth: float) -> None:
    """Whatever the number of images, and however few."""
    for n in (1, 2, 3, 5, 8, 12, 20, 40, 100, 300):
        wrong = sum(
            binom.pmf(count, n, truth)
            for count in range(n + 1)
            if is_guessing(share_of(count, n), classes)
        )
        assert wrong < 0.012


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_guessing_is_found_on_few_hundred_images(classes: int) -> None:
    found = sum(
        binom.pmf(count, 400, 1 / classes)
        for count in range(401)
        if is_guessing(share_of(count, 400), classes)
    )
    assert found > 0.95
