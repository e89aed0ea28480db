from __future__ import annotations

import pytest

from quantlab.serve.rates import MOST_KEYS, SECONDS_AHEAD, Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def let_in(rates: Rates, clock: Clock, seconds: float, a_second: float) -> int:
    """How many of requests that come at this rate."""
    count = 0
    for _ in range(round(seconds * a_second)):
        count += not rates.take("x")
        clock.now += 1 / a_second
    return count


def test_in_the_long_run_no_more_than_the_rate() -> None:
    clock = Clock()
    rates = Rates(120, clock)
    assert let_in(rates, clock, 600, 50) == pytest.approx(1200 + 2 * SECONDS_AHEAD, abs=2)


def test_whoever_keeps_to_the_rate_is_never_refused() -> None:
    clock = Clock()
    assert let_in(Rates(120, clock), clock, 600, 2) == 1200


def test_the_seconds_to_wait_are_right() -> None:
    clock = Clock()
    rates = Rates(60, clock)
    while not (seconds := rates.take("x")):
        pass
    clock.now += seconds + 1e-6
    assert rates.take("x") == 0
    assert rates.take("x") > 0


def test_keys_do_not_know_of_each_other() -> None:
    rates = Rates(1, Clock())
    assert [rates.take("a") == 0, rates.take("b") == 0, rates.take("a") == 0] == [True, True, False]


def test_memory_is_bounded_and_those_who_wait_are_forgotten_last() -> None:
    clock = Clock()
    rates = Rates(1, clock)
    rates.take("old")
    clock.now += 61
    rates.take("x")
    for i in range(3 * MOST_KEYS // 2):
        rates.take(f"k{i}")
        assert len(rates._due) <= MOST_KEYS
    clock = Clock()
    rates = Rates(1, clock)
    for i in range(MOST_KEYS - 1):
        rates.take(f"k{i}")
    clock.now += 61
    rates.take("x")
    rates.take("new")
    assert rates.take("x") > 0
