"""Ctrl-C (SIGINT) and child processes: delay it while one starts, tell whether it is ignored."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Block SIGINT (Ctrl-C) until the block ends. A process started in it inherits the block, also
    where it was set to ignore the signal, until it calls ``accept_interrupts``."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def accept_interrupts() -> None:
    """Let SIGINT (Ctrl-C) raise KeyboardInterrupt in this process from now on; one that is pending
    raises it at once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def ignored() -> bool:
    """Whether this process was started with SIGINT ignored, as shells do with background jobs."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
