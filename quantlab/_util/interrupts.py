"""Ctrl-C (SIGINT) and processes: held back from one that cannot hear it yet, and who ignores it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Ctrl-C waits until the block ends. A process that is started in it inherits that it waits,
    also one that was told to ignore it: until it calls ``accept_interrupts``."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def accept_interrupts() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt in this process, one that has come already at
    once."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def ignored() -> bool:
    """Whether who started this process wants it to ignore Ctrl-C, as a shell does for what it puts
    into the background."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN
