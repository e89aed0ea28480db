"""Check what a command would write against what it reads and what exists already.

Two paths are one file when the system says so: links and other spellings are seen through. Nothing
is written here, and what an input consists of is only looked for when an output exists.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from quantlab.errors import OutputError

_Known = dict[tuple[int, int], list[tuple["Input", Path]]]
_OTHER = "Name another place: an input is never written, not even with --force."


@dataclass(frozen=True)
class FileKind:
    """The kind of file that an option writes, described by ``words`` such as "JUnit XML of quantlab
    gate". ``owns`` tells whether quantlab wrote an existing file as this kind: then it may be
    replaced."""

    words: str
    owns: Callable[[Path], bool]


@dataclass(frozen=True)
class Output:
    """A file or folder that will be written, and the ``option`` that names it. Without a ``kind``
    what is there is kept, and added to."""

    path: Path
    option: str
    kind: FileKind | None = None


@dataclass(frozen=True)
class Input:
    """A file or folder that will be read, and the ``option`` that names it; ``parts`` gives the
    files that are read with it: those of a folder, a model's external data."""

    path: Path
    option: str
    parts: Callable[[Path], Iterable[Path]] = field(default=lambda path: ())


def check(outputs: Sequence[Output], inputs: Sequence[Input], *, force: bool = False) -> None:
    """Raises OutputError for an output that is an input, for two outputs in one place, and unless
    ``force`` for one that would replace what quantlab did not write."""
    _check_apart(outputs)
    there = [output for output in outputs if os.path.lexists(output.path)]
    known = _identities(inputs, whole=any(not output.path.is_dir() for output in there))
    for output in there:
        _check_no_input(output, known)
    for output in there:
        if output.kind is not None and not force and not output.path.is_dir():
            _check_own(output, output.kind)


def _check_no_input(output: Output, known: _Known) -> None:
    read = known.get(identity(output.path) or (0, 0), [])
    found = next((pair for pair in read if pair[0].option != output.option), None)
    if found is None:
        return
    source, part = found
    place = f" ({part})" if str(part) != str(output.path) else ""
    raise OutputError(
        f"{output.option} {output.path} would write what {source.option} reads{place}.", _OTHER
    )


def _check_own(output: Output, kind: FileKind) -> None:
    if output.path.is_file() and kind.owns(output.path):
        return
    raise OutputError(
        f"{output.option} {output.path}: it is there already, and no {kind.words}.",
        "Name another file, or replace it: --force",
    )


def _check_apart(outputs: Sequence[Output]) -> None:
    """Raises OutputError for two in one place."""
    seen: dict[object, Output] = {}
    for output in outputs:
        place = identity(output.path) or os.path.realpath(output.path)
        other = seen.setdefault(place, output)
        if other is not output:
            raise OutputError(
                f"{other.option} and {output.option} would both write {output.path}.",
                "Give each a place of its own.",
            )


def _identities(inputs: Sequence[Input], *, whole: bool) -> _Known:
    """Every file and folder that is read, what was named before what it consists of (if
    ``whole``: that is files, which no folder can be)."""
    found: _Known = {}
    for source in inputs:
        if (key := identity(source.path)) is not None:
            found.setdefault(key, []).append((source, source.path))
    for source in inputs if whole else ():
        for path in source.parts(source.path):
            if (key := identity(path)) is not None:
                found.setdefault(key, []).append((source, path))
    return found


def identity(path: Path) -> tuple[int, int] | None:
    """The device and inode of what lies at the path, through links; None where nothing does."""
    try:
        seen = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return seen.st_dev, seen.st_ino
