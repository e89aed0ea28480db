from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from quantlab.bench.schedule import (
    LEAST_ROUNDS,
    MOST_RUNS,
    MOST_TURNS,
    ROUNDS,
    is_warm,
    plan,
    poisson_arrivals,
    turn_orders,
)


def test_the_plan_fills_the_time() -> None:
    made = plan([9.0, 9.0, 4.5], overhead=1.0, seconds=25)
    assert (made.rounds, made.runs, made.uncounted) == (ROUNDS, 1, 1)
    taken = made.rounds * (1.0 + made.turns * 2 * 22.5 / 1000)
    assert 23 <= taken <= 26


def test_tiny_models_run_more_often_in_a_turn() -> None:
    assert plan([0.05, 0.05], overhead=0.5, seconds=25).runs == 60
    assert plan([0.001, 0.001], overhead=0.5, seconds=25).runs == MOST_RUNS


def test_slow_runs_have_fewer_rounds_and_nothing_uncounted() -> None:
    made = plan([2300.0, 2300.0, 1100.0], overhead=6.0, seconds=25)
    assert (made.rounds, made.turns, made.runs, made.uncounted) == (LEAST_ROUNDS, 1, 1, 0)


def test_a_slow_start_is_outweighed() -> None:
    made = plan([10.0, 10.0], overhead=4.0, seconds=25)
    assert made.turns * 40 / 1000 >= 1.9


def test_what_is_given_is_kept_to() -> None:
    made = plan([5.0, 5.0], overhead=0.5, seconds=1, rounds=3, turns=7)
    assert (made.rounds, made.turns) == (3, 7)


@given(
    st.lists(st.floats(0, 1e5), min_size=1, max_size=5),
    st.floats(0, 100),
    st.floats(0, 1000),
    st.one_of(st.none(), st.integers(2, 100)),
)
def test_a_plan_stays_within_bounds(
    medians: list[float], overhead: float, seconds: float, rounds: int | None
) -> None:
    made = plan(medians, overhead=overhead, seconds=seconds, rounds=rounds)
    assert made.rounds == rounds if rounds else LEAST_ROUNDS <= made.rounds <= ROUNDS
    assert 1 <= made.runs <= MOST_RUNS
    assert 1 <= made.turns <= MOST_TURNS


def test_every_order_is_followed_by_its_reverse() -> None:
    orders = turn_orders(4, 9, (1, 2))
    assert len(orders) == 9
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert all(a == b[::-1] for a, b in zip(orders[::2], orders[1::2], strict=False))
    assert orders == turn_orders(4, 9, (1, 2))
    assert orders != turn_orders(4, 9, (1, 3))


def test_no_session_has_a_place_or_a_predecessor_of_its_own() -> None:
    orders = [order for seed in range(300) for order in turn_orders(3, 10, (seed,))]
    line = [i for order in orders for i in order]
    first = Counter(order[0] for order in orders)
    after = Counter(pairwise(line))
    assert all(abs(first[i] / len(orders) - 1 / 3) < 0.03 for i in range(3))
    own = [after[i, i] / len(orders) for i in range(3)]
    assert max(own) - min(own) < 0.03


def test_warm_is_when_two_windows_agree() -> None:
    assert not is_warm([10.0] * 9)
    assert is_warm([10.0] * 10)
    assert is_warm([99.0, 50.0, *[10.0] * 5, *[10.4] * 5])
    assert not is_warm([*[11.0] * 5, *[10.0] * 5])
    assert not is_warm([1.0] * 39)
    assert is_warm([1.0] * 40)
    assert is_warm([0.0] * 400)


def test_arrivals_are_poissons() -> None:
    found = poisson_arrivals(200.0, 50.0, (3, 4))
    assert len(found) == 10_000
    assert (np.diff(found) >= 0).all()
    assert 0 <= found[0] < found[-1] <= 50
    assert kstest(np.diff(found), "expon", args=(0, 1 / 200)).pvalue > 0.001
    np.testing.assert_array_equal(found, poisson_arrivals(200.0, 50.0, (3, 4)))
    assert len(poisson_arrivals(0.001, 1.0, (0,))) == 1


@pytest.mark.parametrize("count", [0, 1, 5])
def test_as_many_orders_as_asked(count: int) -> None:
    assert len(turn_orders(2, count, (0,))) == count
