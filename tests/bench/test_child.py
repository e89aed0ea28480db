from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.bench import child
from quantlab.bench.task import Subject, Task
from quantlab.testing.models import tiny_classifier


@pytest.fixture
def task(tmp_path: Path) -> Task:
    path = tiny_classifier(tmp_path / "tiny.onnx", size=8)
    return Task(
        kind="latency",
        subjects=(Subject(str(path), "input", "float32", (3, 8, 8)),) * 3,
        batch_sizes=(1, 2),
        rounds=4,
        runs=5,
        seconds=1,
        warmup=3,
        threads=1,
        cpus=(),
        seed=0,
        providers=("CPUExecutionProvider",),
        optimization="all",
    )


def test_latency_keeps_every_run(task: Task) -> None:
    said: list[dict[str, Any]] = []
    result = child.latency(task, said.append)
    assert [b["runs"] for b in result["batches"]] == [5, 5]
    for batch in result["batches"]:
        assert np.array(batch["samples"]).shape == (3, 4, 5)
        assert np.array(batch["samples"]).min() > 0
        assert 2 <= batch["warmup"] <= 3
    assert [m["done"] for m in said] == [0, 1, 2, 3, 4, 4, 5, 6, 7, 8]
    assert gc.isenabled()


def test_runs_are_chosen_when_not_given(task: Task) -> None:
    few = child.latency(replace(task, runs=None, seconds=0), lambda m: None)
    many = child.latency(replace(task, runs=None, seconds=600), lambda m: None)
    assert [b["runs"] for b in few["batches"]] == [3, 3]
    assert all(b["runs"] > 3 for b in many["batches"])


def test_sessions_alternate_in_blocks_with_one_run_uncounted() -> None:
    calls: list[str] = []
    runs: list[child.Run] = [lambda: calls.append("A"), lambda: calls.append("B")]
    timing: Any = type("T", (), {"warmup": 2, "runs": 2, "rounds": 2, "seconds": 1.0})
    child._one_batch_size(timing, runs, lambda done, samples: None)  # type: ignore[arg-type]
    assert "".join(calls) == "AABB" + "AAA" + "BBB" + "BBB" + "AAA"


def test_cost_rises_with_the_batch(task: Task) -> None:
    one = replace(task, kind="cost", subjects=task.subjects[:1], batch_sizes=(64, 1))
    found = child.cost(one)
    assert found["session_ms"] > 0
    assert found["peak_rss_bytes"][0] >= found["peak_rss_bytes"][1] > 0


def test_random_batches_repeat_and_fit() -> None:
    floats = Subject("", "", "float32", (3, 4, 5))
    pixels = Subject("", "", "uint8", (4, 5, 3))
    a, b = child.random_batch(floats, 2, seed=1), child.random_batch(floats, 2, seed=1)
    np.testing.assert_array_equal(a, b)
    assert (a.shape, a.dtype) == ((2, 3, 4, 5), np.float32)
    u8 = child.random_batch(pixels, 8, seed=1)
    assert (u8.shape, u8.dtype) == ((8, 4, 5, 3), np.uint8)
    assert u8.max() > 200
