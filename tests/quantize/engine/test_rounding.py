from __future__ import annotations

from itertools import product

import numpy as np

from quantlab.quantize.engine import rounding as r

RNG = np.random.default_rng(0)


def cost(error: np.ndarray, H: np.ndarray) -> float:
    return float(np.trace(error @ H @ error.T))


def inputs(k: int) -> np.ndarray:
    mixed = RNG.standard_normal((500, k)) @ RNG.standard_normal((k, k))
    return np.asarray(np.cov(mixed.T))


def test_output_error_rounding_beats_nearest() -> None:
    rows, covariance = RNG.standard_normal((8, 24)), inputs(24)
    H, none = r.damped(covariance), np.zeros(8)
    scales = r.plain_scales(rows, 7)
    plain = cost(rows - r.nearest(rows, scales, 7) * scales[:, None], H)
    made, scales = r.round_rows(rows, covariance, 7, none)
    assert cost(rows - made * scales[:, None], H) < 0.5 * plain


def test_descent_never_makes_it_worse() -> None:
    rows, H = RNG.standard_normal((5, 12)), r.damped(inputs(12))
    scales = r.plain_scales(rows, 7)
    start = r.nearest(rows, scales, 7)
    made = r.descend(rows, start, H, scales, 7)
    assert cost(rows - made * scales[:, None], H) <= cost(rows - start * scales[:, None], H)


def test_depthwise_comes_near_the_best_of_all_roundings() -> None:
    rows, covariance = RNG.standard_normal((1, 4)), inputs(4)[None]
    H = r.damped(covariance)[0]
    made, scales = r.round_depthwise(rows, covariance, 7, np.zeros(1))
    floor = np.floor(rows / scales[:, None])
    best = min(
        cost(rows - np.clip(floor + up, -7, 7) * scales[:, None], H)
        for up in product((0, 1), repeat=4)
    )
    assert cost(rows - made * scales[:, None], H) <= 1.5 * best


def test_integers_stay_within_the_limit() -> None:
    for limit in (7, 63, 127):
        made, _ = r.round_rows(RNG.standard_normal((4, 9)), inputs(9), limit, np.zeros(4))
        assert np.abs(made).max() <= limit
        assert (made == np.rint(made)).all()


def test_dead_inputs_and_zero_weights_are_fine() -> None:
    made, scales = r.round_rows(np.zeros((3, 6)), np.zeros((6, 6)), 127, np.zeros(3))
    assert not made.any()
    assert np.isfinite(scales).all()
