from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from quantlab.bench import child
from quantlab.bench.child import INDEX_BYTES, Sessions
from quantlab.bench.schedule import poisson_arrivals
from quantlab.bench.task import BenchTask, TimedModel
from quantlab.errors import ModelError
from quantlab.testing.models import tiny_classifier


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    path = tiny_classifier(tmp_path / "tiny.onnx", size=8)
    task = BenchTask(
        models=(TimedModel(str(path), "input", "float32", (3, 8, 8)),) * 2,
        threads=1,
        cpus=(),
        seed=0,
        providers=("CPUExecutionProvider",),
    )
    made = Sessions(task)
    assert len(made.open()) == 2
    return made


def test_warm_up_ends_when_stable_or_late(sessions: Sessions) -> None:
    stable = sessions.warm(0, batch=1, seconds=60)
    assert stable["runs"] >= 10
    assert stable["median_ms"] > 0
    assert sessions.warm(0, batch=1, seconds=0)["runs"] == 1


def test_memory_rises_with_the_batch(sessions: Sessions) -> None:
    small = sessions.warm(0, batch=1, seconds=0)["peak_rss_bytes"]
    assert sessions.warm(0, batch=64, seconds=0)["peak_rss_bytes"] >= small > 0


def test_uncounted_runs_are_made_and_not_told(sessions: Sessions) -> None:
    calls: list[str] = []
    sessions._runs = {0: lambda: calls.append("A"), 1: lambda: calls.append("B")}
    assert len(sessions.run(0, count=2, uncounted=1)) == 2
    assert len(sessions.run(1, count=1)) == 1
    assert "".join(calls) == "AAAB"


def test_spinning_lasts_as_long_as_asked(sessions: Sessions) -> None:
    sessions.warm(1, batch=2, seconds=0)
    start = time.monotonic_ns() + 20_000_000
    times = sessions.spin(1, start_ns=start, seconds=0.1)
    assert time.monotonic_ns() >= start + 1e8
    assert 0 < sum(times) < 1000 * (time.monotonic_ns() - start)
    assert sessions.spin(1, start_ns=time.monotonic_ns() - 10**9, seconds=0.1)


def test_requests_are_served_in_order_and_not_before_they_come(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "OVERTIME", 1000)  # none is given up
    sessions.warm(0, batch=1, seconds=0)
    served = sessions.serve(
        0, start_ns=time.monotonic_ns(), rate=200, seconds=0.2, seed=[1], queue=-1
    )
    due = 1000 * poisson_arrivals(200, 0.2, [1])
    numbers, begun, done = zip(*served, strict=True)
    assert numbers == tuple(range(len(due)))
    assert (np.array(begun) >= due - 1e-3).all()
    assert (np.array(done) > begun).all()
    assert (np.array(begun[1:]) >= done[:-1]).all()


def test_a_hopeless_queue_is_given_up(sessions: Sessions) -> None:
    sessions._runs = {0: lambda: time.sleep(0.05)}
    served = sessions.serve(
        0, start_ns=time.monotonic_ns(), rate=1000, seconds=0.1, seed=[1], queue=-1
    )
    assert 1 <= len(served) < 20


def test_a_queue_is_shared_by_its_place_in_the_file(sessions: Sessions, tmp_path: Path) -> None:
    words = b"".join(n.to_bytes(INDEX_BYTES, "little") for n in range(10))
    (tmp_path / "queue").write_bytes(words)
    with (tmp_path / "queue").open("rb", buffering=0) as queue:
        first, second = (child._taken(queue.fileno(), 10) for _ in range(2))
        assert [next(first), next(second), next(second), next(first)] == [0, 1, 2, 3]
        assert [*first, *second] == [4, 5, 6, 7, 8, 9]


def test_a_provider_that_is_listed_but_absent(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fallen:
        def get_providers(self) -> list[str]:
            return ["OtherExecutionProvider"]

    monkeypatch.setattr("quantlab.runtime.session.create_session", lambda *_, **__: Fallen())
    with pytest.raises(ModelError, match="lists CPUExecutionProvider, but cannot use it"):
        sessions.open()


def test_random_batches_repeat_and_fit() -> None:
    floats = TimedModel("", "", "float32", (3, 4, 5))
    pixels = TimedModel("", "", "uint8", (4, 5, 3))
    a, b = child.random_batch(floats, 2, seed=1), child.random_batch(floats, 2, seed=1)
    np.testing.assert_array_equal(a, b)
    assert (a.shape, a.dtype) == ((2, 3, 4, 5), np.float32)
    u8 = child.random_batch(pixels, 8, seed=1)
    assert (u8.shape, u8.dtype) == ((8, 4, 5, 3), np.uint8)
    assert u8.max() > 200
