"""How tests wait: for what becomes so, never for a time; and how a process is told to end."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil

T = TypeVar("T")
HANGS = 600.0
"""Seconds after which what has not happened hangs. No machine is so slow: a limit like this ends a
hang, and nothing else hangs on it."""


def until(look: Callable[[], T], said: Callable[[], object] = str) -> T:
    """Waits until ``look`` finds something; what it found. ``said`` is told where it hangs."""
    end = time.monotonic() + HANGS
    while not (found := look()):
        assert time.monotonic() < end, said()
        time.sleep(0.02)
    return found


def gone(pid: int) -> bool:
    """Whether there is no such process; a zombie is none."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


HEARD, IGNORED = signal.default_int_handler, signal.SIG_IGN


def pids_in(file: Path) -> list[int]:
    """The numbers that a process has written into a file, none before it has."""
    return list(map(int, file.read_text().split())) if file.exists() else []


@contextmanager
def interrupts(are: Any = HEARD) -> Iterator[None]:
    """Processes that the block starts begin with SIGINT HEARD or IGNORED. Without this they inherit
    what the tests were started with: a shell starts what it puts into the background with SIGINT
    ignored."""
    before = signal.signal(signal.SIGINT, are)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def deadline_from(begun: Callable[[], object]) -> type[subprocess.Popen[bytes]]:
    """A Popen whose deadline begins when something has begun: a process has then come so far,
    however slow the machine is."""

    class Patient(subprocess.Popen[bytes]):
        def wait(self, timeout: float | None = None) -> int:
            if timeout is not None:
                until(begun)
            return super().wait(timeout)

    return Patient
