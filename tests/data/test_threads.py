from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantlab.data.threads import ahead, default_workers, ordered_map


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 50), st.integers(1, 4))
def test_order_is_kept(count: int, workers: int) -> None:
    def slow(i: int) -> int:
        time.sleep(0.0005 * (i % 3))
        return i * i

    assert list(ordered_map(slow, count, workers)) == [i * i for i in range(count)]


def test_few_results_are_in_flight() -> None:
    started = []
    lock = threading.Lock()

    def note(i: int) -> int:
        with lock:
            started.append(i)
        return i

    results = ordered_map(note, 1000, workers=2)
    next(results)
    time.sleep(0.05)
    assert len(started) <= 8
    results.close()  # type: ignore[attr-defined]
    assert len(started) <= 8


def test_errors_reach_the_caller() -> None:
    def fail(i: int) -> int:
        if i == 3:
            raise KeyError(i)
        return i

    with pytest.raises(KeyError):
        list(ordered_map(fail, 100, 2))


def test_there_is_a_worker() -> None:
    assert 1 <= default_workers() <= 64


def test_ahead_keeps_the_order_and_is_one_step_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(5):
            made.append(i)
            yield i

    seen = []
    for item in ahead(items()):
        seen.append(item)
        assert len(made) <= len(seen) + 1
    assert seen == made == [0, 1, 2, 3, 4]


def test_ahead_passes_errors_on_and_stops_when_left() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(ahead(items()))
    assert next(ahead(iter([7, 8, 9]))) == 7
