"""The width of the terminal that results are printed to, and of the tables among them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

TABLE_WIDTH: ContextVar[int | None] = ContextVar("TABLE_WIDTH", default=None)
"""The columns that tables are folded to; None: they are as wide as they are."""


def terminal_width() -> int | None:
    """The columns of stdout's terminal; None where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


@contextmanager
def table_width(columns: int | None) -> Iterator[None]:
    """Within the block tables are folded to so many columns; None: they are not."""
    token = TABLE_WIDTH.set(columns)
    try:
        yield
    finally:
        TABLE_WIDTH.reset(token)
