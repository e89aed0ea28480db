"""Processes of this machine: ``concurrent.futures.ProcessPoolExecutor``."""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from quantlab._util.interrupts import held_back
from quantlab.runtime.environment import default_threads

R = TypeVar("R")


class Processes:
    """An Executor. Content is shared by files."""

    losses: tuple[type[Exception], ...] = (BrokenExecutor,)

    def __init__(self, count: int, folder: Path) -> None:
        self.workers, self._folder = count, folder
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        fresh = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=fresh, initializer=_begin)

    def share(self, content: Path | bytes) -> Path:
        """The file, or one that holds the bytes."""
        if isinstance(content, Path):
            return content.absolute()
        path = self._folder / hashlib.sha256(content).hexdigest()
        if not path.is_file():
            path.write_bytes(content)
        return path

    def submit(self, function: Callable[..., R], /, *args: Any, near: int) -> Future[R]:
        """All processes are near. Those that this starts know nothing of Ctrl-C."""
        with held_back():
            return self._pool.submit(function, *args)

    def renew(self) -> None:
        """Another pool."""
        self.stop()
        self._pool = self._new()

    def stop(self) -> None:
        """Ends the processes at once, whatever they are doing."""
        running = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in running:
            process.terminate()
        for process in running:
            process.join()


@contextmanager
def processes(count: int) -> Iterator[Processes]:
    """So many, 0 for one a physical core that this process may use."""
    with tempfile.TemporaryDirectory(prefix="quantlab-", ignore_cleanup_errors=True) as folder:
        made = Processes(count or default_threads(), Path(folder))
        try:
            yield made
        finally:
            made.stop()


def _begin() -> None:
    """Ctrl-C is the caller's affair, who then ends the processes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
