"""Executors: names, order, what is under way, and what becomes of lost work."""

from __future__ import annotations

import math
import operator
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest
from waiting import HANGS, until

from quantlab.cluster.executor import AHEAD, LOSSES, in_order, open_executor, parse_executor
from quantlab.errors import ClusterError, MissingExtraError, QuantlabError
from quantlab.testing.cluster import FakeExecutor


@pytest.mark.parametrize(
    "text", ["inline", "process", "process:1", "process:12", "dask://host:8786", "dask://[::1]:1"]
)
def test_names_of_executors(text: str) -> None:
    assert parse_executor(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "threads", "process:0", "process:-1", "process:257", "dask://host", "dask:host:1", "dask"],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(QuantlabError) as found, open_executor(text):
        pass
    assert "process:N" in found.value.remedy


def test_inline_is_nobody() -> None:
    with open_executor("inline") as executor:
        assert executor is None


class Late(FakeExecutor):
    """The first shard is done at once, the others never."""

    def __init__(self) -> None:
        super().__init__(workers=2)
        self.waiting: list[Future[Any]] = []

    def submit(self, function: Any, /, *args: Any, near: int) -> Future[Any]:
        if near == 0:
            return super().submit(function, *args, near=near)
        self.waiting.append(Future())
        return self.waiting[-1]


def test_results_come_in_order_and_a_few_ahead() -> None:
    executor = FakeExecutor(workers=3)
    results = in_order(executor, divmod, [(i, 7) for i in range(40)])
    assert next(results) == (0, 0)
    assert len(executor.near) == 3 * AHEAD
    assert list(results) == [divmod(i, 7) for i in range(1, 40)]
    assert executor.near == list(range(40))


def test_who_leaves_gives_up_what_has_not_begun() -> None:
    executor = Late()
    results = in_order(executor, abs, [(i,) for i in range(20)])
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert len(executor.waiting) == 2 * AHEAD - 1
    assert all(future.cancelled() for future in executor.waiting)


def test_errors_reach_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(FakeExecutor(), divmod, [(1, 1), (1, 0)]))


def test_errors_of_the_project_survive_the_way() -> None:
    sent = MissingExtraError("lmdb", "lmdb", "an LMDB folder")
    found = pickle.loads(pickle.dumps(sent))
    assert type(found) is MissingExtraError
    assert (str(found), found.problem, found.remedy) == (str(sent), sent.problem, sent.remedy)


class Breaking(FakeExecutor):
    """Its pool breaks at the first shard, so many times; ``computed`` counts every shard."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.renewed, self.computed = times, 0, 0

    def submit(self, function: Any, /, *args: Any, near: int) -> Future[Any]:
        if self.renewed < self.times and near in (1, 3):
            future: Future[Any] = Future()
            future.set_exception(BrokenProcessPool())
            return future
        self.computed += 1
        return super().submit(function, *args, near=near)

    def renew(self) -> None:
        self.renewed += 1


def test_only_what_was_lost_is_computed_again() -> None:
    executor = Breaking(1)
    assert list(in_order(executor, abs, [(-i,) for i in range(6)])) == list(range(6))
    assert (executor.renewed, executor.computed) == (1, 6)


def test_workers_that_are_lost_again_and_again_are_an_error() -> None:
    executor = Breaking(LOSSES + 1)
    with pytest.raises(ClusterError, match="ended 4 times on") as found:
        list(in_order(executor, abs, [(-i,) for i in range(6)]))
    assert "process:N" in found.value.remedy


def test_work_that_the_scheduler_gave_up_is_an_error() -> None:
    class ObjectMissingError(FakeExecutor):
        def submit(self, function: Any, /, *args: Any, near: int) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(CancelledError())
            return future

    with pytest.raises(ClusterError, match="scheduler went away"):
        list(in_order(ObjectMissingError(), abs, [(1,)]))


def test_processes_compute_and_end() -> None:
    with open_executor("process:2") as executor:
        assert executor is not None
        assert executor.workers == 2
        pids = set(in_order(executor, os.getpid, [()] * 8))
        assert os.getpid() not in pids
        path = executor.share(b"some bytes")
        assert path.read_bytes() == b"some bytes"
        assert executor.share(b"some bytes") == path
        here = Path("file")
        assert executor.share(here) == here.absolute()
    assert not path.exists()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_ends_changes_nothing() -> None:
    with open_executor("process:2") as executor:
        assert executor is not None
        tasks = [(time.sleep, 0.05)] * 6 + [(math.sqrt, float(i)) for i in range(30)]
        results = in_order(executor, operator.call, tasks)
        assert next(results) is None
        victim = next(iter(executor._pool._processes))  # type: ignore[attr-defined]
        os.kill(victim, signal.SIGKILL)
        assert list(results) == [None] * 5 + [math.sqrt(i) for i in range(30)]


INTERRUPTED = """
import sys, time
from quantlab.cluster.executor import in_order, open_executor

if __name__ == "__main__":
    with open_executor("process:2") as executor:
        print("started", flush=True)
        list(in_order(executor, time.sleep, [(300,)] * 8))
"""


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_ends_all_of_it_promptly(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "started\n"
            time.sleep(0.5)
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=HANGS)
        finally:
            process.kill()
    assert process.returncode != 0
    assert err.count("Traceback") == 1
    until(lambda: ended(process.pid))


def ended(group: int) -> bool:
    """Whether nothing is left of a group of processes."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
