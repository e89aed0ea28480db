"""Classes and probabilities of one image."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from quantlab.evaluate.guesses import image_answer, probabilities

OUTPUTS = np.array([0.5, 3.0, 1.0, 3.0], np.float32)


def test_logits_are_softmaxed_once_and_probabilities_never() -> None:
    found = probabilities(OUTPUTS[None], "logits")
    np.testing.assert_allclose(found, softmax(OUTPUTS[None].astype(np.float64), axis=1), rtol=1e-12)
    np.testing.assert_array_equal(probabilities(found.astype(np.float32), "probabilities"),
                                  found.astype(np.float32))  # fmt: skip


def test_the_best_come_first_and_of_equals_the_lower_index() -> None:
    found = image_answer("a.png", OUTPUTS, "logits", ["w", "x", "y", "z"], top=3)
    assert [(g.index, g.name) for g in found.guesses] == [(1, "x"), (3, "z"), (2, "y")]
    assert found.guesses[0].probability == pytest.approx(float(softmax(OUTPUTS)[1]))
    assert found.image == "a.png"


def test_without_names_a_class_is_called_by_its_index_and_top_is_bounded() -> None:
    found = image_answer("a.png", OUTPUTS, "logits", top=9)
    assert [g.name for g in found.guesses] == ["1", "3", "2", "0"]


def test_a_nan_is_no_answer() -> None:
    outputs = np.array([np.nan, 1.0], np.float32)
    assert image_answer("a.png", outputs, "logits").guesses == ()
