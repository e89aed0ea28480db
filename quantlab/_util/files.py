"""Write files completely or not at all, and check beforehand that they can be written."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from quantlab.errors import OutputError, disk_is_full

_PART = ".part"


@contextmanager
def atomic_path(path: Path, owner: str = "") -> Iterator[Path]:
    """A temporary file beside ``path`` that takes its place when the block ends without an error.

    ``owner`` is part of its name: see ``remove_parts``.

    Raises OutputError when the folder cannot be written or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.{owner}", suffix=_PART
        )
        os.close(handle)
    except OSError as error:
        raise output_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes | str, owner: str = "") -> None:
    """Write a file whole or not at all. Raises OutputError."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(path, owner) as temporary:
        temporary.write_bytes(data)


def write_together(contents: Mapping[Path, bytes]) -> None:
    """Write files that belong together, all or none. Raises OutputError."""
    for path in contents:
        check_writable(path)
    with ExitStack() as stack:
        for path, content in contents.items():
            stack.enter_context(atomic_path(path)).write_bytes(content)


def remove_parts(folder: Path, beginning: str = "") -> None:
    """Remove the temporary files that killed writers have left in the folder: those that begin with
    ``.NAME.OWNER``, or all. Only for a caller that is the only writer of these names there."""
    for path in folder.glob(f".{glob.escape(beginning)}*{_PART}"):
        path.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raises OutputError when ``path`` could not be written later: asked before hours of work."""
    if path.is_dir():
        raise OutputError(f"cannot write {path}: it is a folder.", "Give a file name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise output_error(path, error) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def output_error(path: Path, error: OSError) -> OutputError:
    if disk_is_full(error):
        return OutputError(
            f"cannot write {path}: the disk is full.", "Free some space and run again."
        )
    reason = (error.strerror or str(error)).lower()
    return OutputError(f"cannot write {path}: {reason}.", "Choose a place you may write to.")
