"""A Dask cluster of this machine's processes, and an Executor without any."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

R = TypeVar("R")
_START_SECONDS = 600.0
_IDLE = {
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "1s",
    "DASK_DISTRIBUTED__ADMIN__SYSTEM_MONITOR__INTERVAL": "10s",
}
"""What Dask's processes watch of themselves takes a twentieth of a CPU, work or none."""


@dataclass
class FakeExecutor:
    """Computes each shard when it is submitted, in this thread, from what pickle makes of it.

    ``near`` keeps the numbers by which shards wished for a worker.
    """

    losses: ClassVar[tuple[type[Exception], ...]] = (BrokenExecutor,)
    workers: int = 2
    near: list[int] = field(default_factory=list)

    def share(self, content: Path | bytes) -> Path | bytes:
        """Return the content itself."""
        return content

    def submit(self, function: Callable[..., R], /, *args: Any, near: int) -> Future[R]:
        """Compute at once."""
        self.near.append(near)
        future: Future[R] = Future()
        try:
            again, sent = pickle.loads(pickle.dumps((function, args)))
            future.set_result(pickle.loads(pickle.dumps(again(*sent))))
        except Exception as error:
            future.set_exception(pickle.loads(pickle.dumps(error)))
        return future

    def renew(self) -> None:
        """Do nothing: this executor does not break."""


@dataclass(frozen=True)
class DaskCluster:
    """``address`` is HOST:PORT; ``workers`` are processes of one thread, each with a cache folder
    of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]
    join: Callable[[], None]
    """Starts one more worker."""


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[DaskCluster]:
    """A scheduler and workers on the loopback interface, killed when the block ends.

    ``folder`` takes their files. Raises RuntimeError when they do not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts, log = folder / "scheduler.json", (folder / "log.txt").open("wb")
    plain = ["--no-dashboard", "--scheduler-file", str(facts)]
    running: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **more: str) -> None:
        command = [sys.executable, "-m", "distributed.cli." + words[0], *plain, *words[1:]]
        running.append(
            subprocess.Popen(command, env={**os.environ, **_IDLE, **more}, stdout=log, stderr=log)
        )

    try:
        end = ("--idle-timeout", "15m")  # where this process is killed
        start("dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-show", *end)
        _wait(lambda: _address(facts) != "", folder)
        address = _address(facts)
        members: list[subprocess.Popen[bytes]] = []

        def join() -> None:
            place = folder / f"worker-{len(members)}"
            start(
                *("dask_worker", "--nthreads", "1", "--no-nanny", "--memory-limit", "0"),
                *("--local-directory", str(place / "dask"), "--host", "127.0.0.1"),
                *("--death-timeout", str(_START_SECONDS)),
                QUANTLAB_CACHE=str(place / "cache"),
            )
            members.append(running[-1])

        for _ in range(workers):
            join()
        _wait(lambda: _joined(address) == workers, folder)
        yield DaskCluster(address, running[0], members, join)
    finally:
        for process in reversed(running):
            process.kill()
            process.wait()
        log.close()


def _address(facts: Path) -> str:
    """What the scheduler's file says, "" until it is whole."""
    try:
        return str(json.loads(facts.read_bytes())["address"]).removeprefix("tcp://")
    except (OSError, ValueError):
        return ""


def _joined(address: str) -> int:
    from distributed import Client

    opened: Any = Client
    with opened(f"tcp://{address}", set_as_default=False, timeout=_START_SECONDS) as client:
        return len(client.nthreads())


def _wait(done: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while not done():
        if time.monotonic() > end:
            raise RuntimeError(f"no cluster: {(folder / 'log.txt').read_text(errors='replace')}")
        time.sleep(0.05)
