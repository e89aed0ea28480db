from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.evaluate.fidelity import DECIDING, fidelity
from quantlab.evaluate.metrics import sqnr_db


def logits(images: int = 40, classes: int = 10) -> NDArray[np.float32]:
    """Seeded logits."""
    return np.random.default_rng(7).standard_normal((images, classes)).astype(np.float32)


def noise(like: NDArray[np.float32], size: float) -> NDArray[np.float32]:
    """Seeded noise of that standard deviation."""
    drawn = np.random.default_rng(8).standard_normal(like.shape)
    return np.asarray(size * drawn, np.float32)


def test_the_figures_are_those_of_their_definitions() -> None:
    first = logits() + np.float32(3)
    second = first + noise(first, 0.1)
    found = fidelity(first, second)
    varying = first.astype(np.float64) - first.astype(np.float64).mean(axis=0)
    error = np.square(first.astype(np.float64) - second).sum()
    assert found.images == 40
    assert found.sqnr_db == sqnr_db(first, second)
    assert found.variation_db == pytest.approx(10 * np.log10(np.square(varying).sum() / error))
    same = [a == b for a, b in zip(first.argmax(axis=1), second.argmax(axis=1), strict=True)]
    assert found.agreement == sum(same) / 40
    assert found.constant == np.unique(first.argmax(axis=1), return_counts=True)[1].max() / 40
    assert not found.unrelated


def test_equal_answers_have_no_error() -> None:
    found = fidelity(logits(), logits())
    assert (found.sqnr_db, found.variation_db, found.agreement) == (None, None, 1.0)
    assert not found.unrelated


def test_the_mean_answer_is_at_zero_decibels() -> None:
    first = logits() + np.float32(100)
    mean = np.broadcast_to(first.mean(axis=0), first.shape).astype(np.float32)
    found = fidelity(first, mean)
    assert found.variation_db == pytest.approx(0, abs=1e-3)
    assert found.sqnr_db is not None
    assert found.sqnr_db > 30
    assert found.agreement <= found.constant


@pytest.mark.parametrize("broken", [-1.0, 0.0, 30.0])
def test_answers_of_another_sign_or_none_or_noise_are_unrelated(broken: float) -> None:
    first = logits()
    second = first * np.float32(broken) if broken <= 0 else first + noise(first, broken)
    assert fidelity(first, second - np.float32(1)).unrelated


@pytest.mark.parametrize("size", [0.1, 0.5, 0.9])
def test_noise_below_the_signal_is_related(size: float) -> None:
    first = logits()
    assert not fidelity(first, first + noise(first, size)).unrelated


def test_another_scale_with_the_same_classes_is_related() -> None:
    found = fidelity(logits(), 10 * logits())
    assert found.variation_db is not None
    assert found.variation_db < -15
    assert not found.unrelated


def test_images_of_one_class_are_no_reason_to_refuse() -> None:
    first = logits() * np.float32(0.01)
    first[:, 3] += 5
    found = fidelity(first, first + noise(first, 0.05))
    assert found.variation_db is not None
    assert found.variation_db < 0
    assert (found.constant, found.agreement, found.unrelated) == (1.0, 1.0, False)


def test_few_images_decide_nothing() -> None:
    enough, few = logits(DECIDING), logits(DECIDING - 1)
    assert fidelity(enough, -enough).unrelated
    assert not fidelity(few, -few).unrelated


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_unrelated(value: float) -> None:
    second = logits(2)
    second[1, 3] = value
    found = fidelity(logits(2), second)
    assert (found.finite, found.sqnr_db, found.unrelated) == (False, None, True)


def test_the_figures_survive_json() -> None:
    first = np.zeros((6, 3), np.float32)
    found = fidelity(first, first + noise(first, 1))
    assert found.variation_db is not None
    assert found.variation_db < -100
    assert type(found).model_validate_json(found.model_dump_json()) == found


def test_answers_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        fidelity(logits(4), logits(4)[:, :3])
