"""Memory that is freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

import psutil

MUCH = 768 * 2**20
"""Bytes from which on a process is large."""


def release() -> None:
    """Gives the system back what the C library keeps of memory that is free, in a process that is
    large (glibc; nothing elsewhere).

    Large arrays that come and go otherwise leave it twice as large as what is in use.
    """
    trim = _trim()
    if trim is not None and psutil.Process().memory_info().rss > MUCH:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
