from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from quantlab.quantize.engine import rounding as r

NEIGHBOURS = np.array([1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 10])
PAIRS = r.Bound(127, (NEIGHBOURS,))
CHAINED = r.Bound(127, (NEIGHBOURS, np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9])))
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
    plain = cost(rows - r.nearest(rows, scales, r.Bound(7)) * scales[:, None], H)
    made, scales = r.round_rows(rows, covariance, r.Bound(7), none)
    assert cost(rows - made * scales[:, None], H) < 0.5 * plain


def test_descent_never_makes_it_worse() -> None:
    rows, H = RNG.standard_normal((5, 12)), r.damped(inputs(12))
    scales = r.plain_scales(rows, 7)
    start = r.nearest(rows, scales, r.Bound(7))
    made = r.descend(rows, start, H, scales, r.Bound(7))
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
        made, _ = r.round_rows(RNG.standard_normal((4, 9)), inputs(9), r.Bound(limit), np.zeros(4))
        assert np.abs(made).max() <= limit
        assert (made == np.rint(made)).all()


def test_dead_inputs_and_zero_weights_are_fine() -> None:
    made, scales = r.round_rows(np.zeros((3, 6)), np.zeros((6, 6)), r.Bound(127), np.zeros(3))
    assert not made.any()
    assert np.isfinite(scales).all()


def within(made: np.ndarray, bound: r.Bound) -> bool:
    """Whether inputs of 255 where a weight has the pair's sign, else 0, leave 16 bits, by hand."""
    for row in made:
        for partner in bound.pairs:
            for j, k in enumerate(partner):
                pair = [row[j], row[k]] if j != k else [row[j]]
                high = 255 * sum(w for w in pair if w > 0)
                low = 255 * sum(w for w in pair if w < 0)
                if high > 32767 or low < -32768:
                    return False
    return bool(np.abs(made).max() <= bound.limit)


@pytest.mark.parametrize("bound", [PAIRS, CHAINED])
def test_pairs_stay_within_16_bits(bound: r.Bound) -> None:
    """Rows whose large weights of one sign meet: all ways of rounding keep the bound."""
    rows = np.abs(RNG.standard_normal((40, 11))) * RNG.choice((-1, 1), (40, 1))
    scales, H = r.plain_scales(rows, 127), r.damped(inputs(11))
    free = np.rint(rows / scales[:, None])
    assert not within(free, bound)
    assert bound.breached(free).any()
    for made in (
        r.nearest(rows, scales, bound),
        r.gptq(rows, H, scales, bound),
        r.descend(rows, r.nearest(rows, scales, bound), H, scales, bound),
        r.round_rows(rows, inputs(11), bound, np.zeros(40))[0],
    ):
        assert within(made, bound)
        assert not bound.breached(made).any()
        assert (made == np.rint(made)).all()


def test_pairs_cost_less_than_seven_bits() -> None:
    rows, covariance = RNG.standard_normal((40, 11)), inputs(11)
    H = r.damped(covariance)
    costs = []
    for bound in (r.Bound(127), PAIRS, r.Bound(63)):
        made, scales = r.round_rows(rows, covariance, bound, np.zeros(40))
        costs.append(cost(rows - made * scales[:, None], H))
    free, paired, seven_bits = costs
    assert free <= paired < seven_bits


def test_rows_within_the_bound_are_left_alone() -> None:
    rows = np.zeros((2, 11))
    rows[:, ::2] = RNG.standard_normal((2, 6))
    assert not PAIRS.breached(np.rint(rows / r.plain_scales(rows, 127)[:, None])).any()
    for weights in (None, inputs(11)):
        H = None if weights is None else r.damped(weights)
        paired = r.search_scales(rows, H, PAIRS, np.zeros(2))
        assert (paired == r.search_scales(rows, H, r.Bound(127), np.zeros(2))).all()


def test_too_much_is_taken_from_the_weight_that_counts_less() -> None:
    bound = r.Bound(127, (np.array([1, 0]),))
    made = bound.fitted(np.array([[100.0, 100.0], [-100.0, -100.0], [100.0, -100.0]]))
    assert made.tolist() == [[64, 64], [-64, -64], [100, -100]]
    made = bound.fitted(np.array([[100.0, 100.0]]), np.array([1.0, 8.0]))
    assert made.tolist() == [[36, 92]]


@pytest.mark.parametrize("pairs", [(), (np.arange(96) ^ 1,)], ids=["free", "pairs"])
def test_the_scale_that_is_found_is_nearly_the_best_of_all(pairs: tuple[np.ndarray, ...]) -> None:
    """Few candidates are tried: they cost little more than the best of many."""
    rng, bound = np.random.default_rng(0), r.Bound(127 if pairs else 7, pairs)
    rows = rng.standard_normal((64, 96))
    mixed = rng.standard_normal((96, 96))
    H = r.damped(mixed @ mixed.T)

    def costs(scales: np.ndarray) -> np.ndarray:
        error = rows - r.nearest(rows, scales, bound) * scales[:, None]
        return np.asarray(((error @ H) * error).sum(1))

    plain = r.plain_scales(rows, bound.limit)
    shares = (*r.SHRINK, *(np.linspace(1.05, 2, 20) if pairs else ()))
    best = np.min([costs(plain * share) for share in shares], axis=0)
    found = costs(r.search_scales(rows, H, bound, np.zeros(64)))
    assert (found <= costs(plain) * (1 + 1e-5)).all()
    assert found.sum() < 1.15 * best.sum()
    assert best.sum() < 0.8 * costs(plain).sum()
