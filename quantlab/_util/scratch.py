"""Temporary folders that are removed even when their process was killed."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from quantlab.errors import OutputError, disk_is_full

_PLACE: ContextVar[Path | None] = ContextVar("place", default=None)


def owner_of(folder: Path) -> str:
    """Hex digits that identify this folder on this machine."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """Within the block, create temporary folders in one place that belongs to ``folder``, and
    remove what killed processes have left there. Only for a caller that is alone in ``folder``.

    Raises OutputError.
    """
    place = Path(tempfile.gettempdir()) / f"quantlab-{owner_of(folder)}"
    shutil.rmtree(place, ignore_errors=True)
    try:
        place.mkdir(mode=0o700)
    except OSError as error:
        reason = "the disk is full" if disk_is_full(error) else str(error.strerror).lower()
        raise OutputError(
            f"cannot write {place}: {reason}.", "Set TMPDIR to another folder."
        ) from error
    token = _PLACE.set(place)
    try:
        yield
    finally:
        _PLACE.reset(token)
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is removed when the block ends."""
    with tempfile.TemporaryDirectory(
        prefix="quantlab-", dir=_PLACE.get(), ignore_cleanup_errors=True
    ) as name:
        yield Path(name)
