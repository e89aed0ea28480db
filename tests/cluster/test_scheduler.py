"""Dask's workers: found, refused, lost."""

from __future__ import annotations

import builtins
import operator
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import HANGS

from quantlab._util.reporter import NullReporter
from quantlab.cluster.executor import in_order, open_executor
from quantlab.cluster.scheduler import Scheduler, dask_failures
from quantlab.cluster.shards import Sharded
from quantlab.errors import ClusterError, MissingExtraError
from quantlab.evaluate.execution import Execution
from quantlab.testing.cluster import dask_cluster
from quantlab.verbs.inputs import sharded

ONE = Execution(threads=1)


def silent(done: int, total: int) -> None:
    """No progress."""


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.cluster.scheduler.OPEN_SECONDS", 0.5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (
        pytest.raises(ClusterError, match=f"no Dask scheduler answers at 127.0.0.1:{port}"),
        open_executor(f"dask://127.0.0.1:{port}"),
    ):
        pass


def test_without_distributed(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in ("dask", "distributed"):
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with (
        pytest.raises(MissingExtraError, match=r"quantlab\[cluster\]"),
        open_executor("dask://127.0.0.1:1"),
    ):
        pass


def test_workers_that_differ_are_refused(dask_address: str) -> None:
    with open_executor(dask_address) as executor:
        assert isinstance(executor, Scheduler)
        executor._here = {**executor._here, "onnxruntime": "0.1"}
        with pytest.raises(ClusterError, match=r"onnxruntime .* there and 0\.1 here"):
            executor.check()


def test_a_worker_that_joins_later_is_refused_by_itself(dask_address: str) -> None:
    with open_executor(dask_address) as executor:
        assert isinstance(executor, Scheduler)
        executor._here = {**executor._here, "numpy": "0.1"}
        with pytest.raises(ClusterError, match=r"numpy .* there and 0\.1 here"):
            list(in_order(executor, abs, [(-1,)]))


def test_shards_go_to_all_workers(dask_address: str) -> None:
    with open_executor(dask_address) as executor:
        assert executor is not None
        assert len(set(in_order(executor, os.getpid, [()] * 8))) == 2
        content = executor.share(b"four")
        assert list(in_order(executor, len, [(content,)] * 3)) == [4, 4, 4]


def test_a_worker_killed_in_the_middle_changes_nothing(scene: Any, tmp_path: Path) -> None:
    with (
        dask_cluster(tmp_path / "dask", 2) as cluster,
        open_executor(f"dask://{cluster.address}") as executor,
    ):
        assert executor is not None
        sharded = Sharded(executor)
        crops = sharded.read(scene.dataset, scene.pipeline, 0.01, silent)
        order = np.tile(np.arange(len(crops)), 20)
        found = []
        for rows, outputs in sharded.answers(scene.model, crops, ONE, order):
            if not found:
                cluster.workers[0].kill()
            np.testing.assert_array_equal(outputs, scene.answers[rows])
            found.append(len(rows))
        assert sum(found) == len(order)
        assert executor.workers in (1, 2)  # it may not have been asked since


def test_work_that_ends_its_workers_is_an_error(tmp_path: Path) -> None:
    with (
        dask_cluster(tmp_path / "dask", dask_failures() + 1) as cluster,
        open_executor(f"dask://{cluster.address}") as executor,
    ):
        assert executor is not None
        with pytest.raises(ClusterError, match="workers ended 4 times on the same work"):
            list(in_order(executor, os._exit, [(1,)]))


def test_a_scheduler_that_goes_away_is_an_error(tmp_path: Path) -> None:
    with (
        dask_cluster(tmp_path / "dask", 1) as cluster,
        open_executor(f"dask://{cluster.address}") as executor,
    ):
        assert executor is not None
        results = in_order(executor, operator.call, [(time.sleep, 0.05)] * 10_000)
        next(results)
        cluster.scheduler.kill()
        with pytest.raises(ClusterError, match="scheduler"):
            list(results)


def test_work_waits_for_the_first_worker(tmp_path: Path) -> None:
    reporter = NullReporter()
    with (
        dask_cluster(tmp_path / "dask", 0) as cluster,
        sharded(f"dask://{cluster.address}", reporter) as work,
    ):
        assert work is not None
        assert work.executor.workers == 0
        assert "work waits for one" in reporter.warnings[0]
        found: list[int] = []
        waiting = threading.Thread(
            target=lambda: found.extend(work.in_order(abs, [(-1,), (-2,), (-3,)]))
        )
        waiting.start()
        cluster.join()
        waiting.join(HANGS)
        assert found == [1, 2, 3]
