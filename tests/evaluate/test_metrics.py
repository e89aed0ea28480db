from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax, rel_entr, softmax
from sklearn.metrics import top_k_accuracy_score

from quantlab.evaluate import metrics


def _logits(n: int = 50, classes: int = 12, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 3, (n, classes)).astype(np.float32)


def test_log_softmax_equals_scipys_and_bears_large_logits() -> None:
    logits = _logits() * 200
    expected = log_softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(metrics.log_softmax(logits), expected, atol=1e-9)


def test_probabilities_are_never_softmaxed_twice() -> None:
    probabilities = softmax(_logits(), axis=1)
    np.testing.assert_allclose(
        np.exp(metrics.log_softmax(metrics.logits_of(probabilities))), probabilities, atol=1e-5
    )


def test_zero_probabilities_stay_finite() -> None:
    logits = metrics.logits_of(np.array([[1.0, 0.0]], np.float32))
    assert np.isfinite(logits).all()
    assert logits[0, 1] == pytest.approx(np.log(1e-7), rel=1e-5)


@given(st.integers(1, 6), st.integers(0, 1000))
def test_top_k_is_a_stable_sort(k: int, seed: int) -> None:
    outputs = np.random.default_rng(seed).integers(0, 4, (20, 6)).astype(np.float32)
    expected = np.argsort(-outputs, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(metrics.top_k(outputs, k), expected)


def test_top_k_ties_take_the_lower_index() -> None:
    assert metrics.top_k(np.zeros((1, 4), np.float32), 3).tolist() == [[0, 1, 2]]
    assert metrics.top_k(np.full((1, 3), -np.inf, np.float32), 5).tolist() == [[0, 1, 2]]


def test_top_k_has_no_answer_where_there_is_a_nan() -> None:
    outputs = np.array([[1.0, np.nan, 0.0], [0.0, np.inf, 1.0]], np.float32)
    assert metrics.top_k(outputs, 2).tolist() == [[-1, -1], [1, 2]]
    assert not np.shares_memory(metrics.top_k(outputs, 1), outputs)
    assert outputs[0, 0] == 1.0


@pytest.mark.parametrize("k", [1, 5])
def test_hits_equal_scikit_learns(k: int) -> None:
    logits = _logits(300)
    labels = np.random.default_rng(1).integers(12, size=300)
    expected = top_k_accuracy_score(labels, logits, k=k, labels=range(12))
    assert metrics.hits(metrics.top_k(logits, k), labels).mean() == pytest.approx(expected)


def test_kl_equals_scipys() -> None:
    a, b = _logits(5000), _logits(5000, seed=1)
    p, q = softmax(a.astype(np.float64), axis=1), softmax(b.astype(np.float64), axis=1)
    np.testing.assert_allclose(metrics.kl_divergence(a, b), rel_entr(p, q).sum(1), atol=1e-9)
    assert metrics.kl_divergence(a, a).max() < 1e-12


def test_sqnr_of_single_images() -> None:
    signal = np.array([[3, 4], [10, 0], [0, 0]], np.float32)
    noise = np.array([[0, 0.5], [0, 0], [0, 0]], np.float32)
    found = metrics.image_sqnr_db(signal, signal + noise)
    assert found == pytest.approx([20.0, metrics.QUIET_DB, metrics.QUIET_DB])


def test_sqnr_of_known_noise() -> None:
    signal = np.full((5000, 4), 10.0, np.float32)
    assert metrics.sqnr_db(signal, signal + np.float32(1)) == pytest.approx(20.0)
    assert metrics.sqnr_db(signal, signal) is None


def test_top_probability() -> None:
    logits = _logits(5000)
    expected = softmax(logits.astype(np.float64), axis=1).max(axis=1)
    np.testing.assert_allclose(metrics.top_probability(logits), expected, atol=1e-9)


def test_tied_first_counts_only_ties_for_the_highest() -> None:
    outputs = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 3.0], [1.0, 1.0, 1.0]], np.float32)
    assert metrics.tied_first(outputs).tolist() == [True, False, True]


def test_rounding_is_told_from_quantization() -> None:
    rng = np.random.default_rng(0)
    weights, inputs = rng.standard_normal((300, 50)), rng.standard_normal((200, 300))
    a, b = inputs.astype(np.float32), weights.astype(np.float32)
    exact = (a.astype(np.float64) @ b).astype(np.float32)
    backwards = sum(a[:, i : i + 1] * b[i] for i in range(299, -1, -1))
    assert not np.array_equal(exact, backwards)
    assert metrics.same_but_rounding(exact, backwards)
    assert not metrics.same_but_rounding(exact, exact.astype(np.float16).astype(np.float32))
    step = np.abs(exact).max() / 32767  # 16-bit integers
    assert not metrics.same_but_rounding(exact, np.round(exact / step) * step)
    odd = exact.copy()
    odd[3, 4], odd[5, 6] = np.nan, -np.inf
    assert metrics.same_but_rounding(odd, odd.copy())
    assert not metrics.same_but_rounding(odd, exact)
    assert not metrics.same_but_rounding(exact, odd)
