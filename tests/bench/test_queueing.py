"""The figures of a load against queues simulated in a few lines, and against theory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from quantlab.bench.measurement import Conditions
from quantlab.bench.queueing import Load, window_of
from quantlab.bench.schedule import poisson_arrivals

Served = list[tuple[int, float, float]]


def simulated(
    due_ms: np.ndarray, service_ms: Callable[[int], float], servers: int, end_ms: float = np.inf
) -> Served:
    """First come, first served, by the first server that is free."""
    free, served = [0.0] * servers, []
    for number, came in enumerate(due_ms):
        i = int(np.argmin(free))
        begun = max(came, free[i])
        if begun > end_ms:
            break
        free[i] = begun + service_ms(number)
        served.append((number, float(begun), float(free[i])))
    return served


def load(
    rate: float,
    service_ms: Callable[[int], float],
    *,
    seconds: float = 100.0,
    servers: int = 1,
    batch: int = 1,
) -> Load:
    seeds = [(7, n) for n in range(2)]
    windows = []
    for seed in seeds:
        due = 1000 * poisson_arrivals(rate / batch, seconds, seed)
        served = simulated(due, service_ms, servers, end_ms=1500 * seconds)
        shuffled = served[::-1]
        windows.append(window_of(shuffled, rate / batch, seconds, seed))
    conditions = Conditions(threads=1, batch_size=batch, rounds=2, runs=0)
    return Load("m", "ab", rate, servers, tuple(windows), conditions)


def test_latency_counts_from_the_arrival() -> None:
    windows = window_of([(1, 150.0, 250.0), (0, 50.0, 150.0)], rate=2, seconds=1, seed=(0,))
    due = 1000 * poisson_arrivals(2, 1, (0,))
    assert windows.due == tuple(due)
    assert windows.done == (150.0, 250.0)
    assert windows.came == 2


def test_the_mean_is_that_of_theory() -> None:
    """M/D/1: service plus rho / (2 (1 - rho)) services of waiting (Pollaczek and Khinchine)."""
    found = load(50, lambda n: 10.0, seconds=2000)
    assert found.utilization == pytest.approx(0.5)
    assert found.latencies.mean() == pytest.approx(10 + 10 * 0.5 / (2 * 0.5), rel=0.03)
    assert found.keeps_up
    assert found.achieved == pytest.approx(50, rel=0.01)
    assert found.percentile(50) <= found.percentile(90) <= found.percentile(99)


def test_one_slow_answer_delays_who_came_meanwhile() -> None:
    """Coordinated omission would see one slow request; here a second's worth of them are."""
    found = load(50, lambda n: 1000.0 if n == 100 else 1.0, seconds=20)
    assert (found.latencies > 100).sum() > 40


def test_a_load_that_is_too_much_is_named() -> None:
    found = load(200, lambda n: 10.0)
    assert found.utilization == pytest.approx(2)
    assert not found.keeps_up
    assert found.unserved > 1000
    assert found.achieved == pytest.approx(100, rel=0.01)


def test_two_servers_take_from_one_queue() -> None:
    assert load(150, lambda n: 10.0, servers=2).keeps_up
    assert load(150, lambda n: 10.0, servers=2).utilization == pytest.approx(0.75)


def test_requests_of_whole_batches() -> None:
    found = load(400, lambda n: 10.0, batch=8)
    assert found.utilization == pytest.approx(0.5)
    assert found.achieved == pytest.approx(400, rel=0.01)
    assert found.keeps_up
