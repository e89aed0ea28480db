"""Top-1 and top-5 with their intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import top_k_accuracy_score

from quantlab.evaluate.accuracy import accuracy, accuracy_of
from quantlab.stats import wilson
from quantlab.testing import fake_predictions


def test_agrees_with_scikit_learn() -> None:
    predictions = fake_predictions(500, 20, 0, 3)
    found = accuracy(predictions)
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
    assert accuracy(fake_predictions(10, 5, 0, 1, labelled=False)) is None


def test_fewer_than_five_classes() -> None:
    found = accuracy(fake_predictions(50, 3, 0, 1))
    assert found is not None
    assert found.top5.value == 1


def test_nan_is_never_right() -> None:
    predictions = fake_predictions(4, 6, 0, 1, accuracy=1.0)
    outputs = predictions.outputs.copy()
    outputs[0] = np.nan
    found = accuracy(replace(predictions, outputs=outputs))
    assert found is not None
    assert (found.top1.count, found.top5.count) == (3, 3)


def test_best_classes_alone() -> None:
    top = np.array([[3, 1], [2, -1], [0, 4]])
    found = accuracy_of(top, np.array([3, 2, 4]), has_five=False)
    assert (found.top1.count, found.top1.n, found.top5) == (2, 3, None)
    whole = accuracy_of(top, np.array([3, 2, 4]))
    assert whole.top5 is not None
    assert whole.top5.count == 3
