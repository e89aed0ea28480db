"""Memory that is freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def release() -> None:
    """Gives the system back what the C library keeps of memory that is free (glibc; nothing
    elsewhere). Large arrays that come and go otherwise leave it several times as large as what is
    in use."""
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)
