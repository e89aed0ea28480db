"""The cache folder: keep results by key, list the entries, hold their total size to a limit.

An entry is the files of one key in the folder of its kind; of a fetched dataset these are a folder
and the JSON beside it. Published models, which lie beside
these folders, are no entries. An entry may be removed while a process reads it: what is open stays
readable, what is not found is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from quantlab._util.files import atomic_path, write_whole
from quantlab._util.paths import cache_dir
from quantlab._util.units import size_bytes
from quantlab.errors import OutputError, QuantlabError, RecordError

EntryKind = Literal["checks", "crops", "datasets", "models", "predictions", "times"]
KINDS: tuple[EntryKind, ...] = get_args(EntryKind)
MADE: tuple[EntryKind, ...] = ("checks", "crops", "models", "predictions", "times")
"""Those that can be made again at any time, and so may go at any time. Datasets are fetched, and
whoever fetches one keeps their own bound (``data.remote``)."""
T = TypeVar("T")
DEFAULT_LIMIT = 10 * 10**9
ABANDONED = 24 * 3600.0
"""Seconds after which a temporary file that nobody wrote to was left by a killed process."""
_FILE = re.compile(r"([0-9a-f]{32})\.(?:json|np[yz]|onnx)")
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.(?:json|np[yz]|onnx)\..+")


def key_of(*parts: object) -> str:
    """A key of 32 hex digits for all that decides a result; the parts must go into JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Store:
    """Results by key in a folder of the cache: a file, whole or not at all, and a JSON file beside
    it with ``of``, a description, and other facts. What cannot be written is no error, and what is
    damaged is not found."""

    folder: Path
    suffix: str = ".json"

    @classmethod
    def of(cls, kind: EntryKind) -> Store:
        """That of the user's cache folder."""
        return cls(cache_dir() / kind)

    def path(self, key: str) -> Path:
        """The file's path, whether or not it exists."""
        return self.folder / f"{key}{self.suffix}"

    def find(self, key: str, read: Callable[[Path, dict[str, Any]], T | None]) -> T | None:
        """What ``read`` makes of the file and the facts, None where they are not usable."""
        path = self.path(key)
        try:
            found = read(path, json.loads(side(path).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, RecordError):
            return None
        touch(path)
        return found

    def keep(
        self,
        key: str,
        subject: str,
        write: Callable[[Path], object] | None = None,
        **facts: object,
    ) -> None:
        """Write the facts and, by ``write``, the file; remove what is then over the limit."""
        path = self.path(key)
        with suppress(OutputError):
            write_whole(side(path), json.dumps({"of": subject, **facts}))
            if write is not None:
                with atomic_path(path) as temporary:
                    write(temporary)
        trim(self.folder.parent, cache_limit())


@dataclass(frozen=True)
class CacheEntry:
    """The files of one key, their bytes together, and when they were last used (a time stamp)."""

    kind: EntryKind
    files: tuple[Path, ...]
    size: int
    used: float


def surplus(entries: Iterable[CacheEntry], limit: int) -> list[CacheEntry]:
    """The entries to remove so that the rest fits into the limit: those larger than the limit by
    themselves, then the least recently used."""
    found = sorted(entries, key=lambda entry: (entry.size <= limit, entry.used))
    gone, over = [], sum(entry.size for entry in found) - limit
    for entry in found:
        if over > 0:
            gone.append(entry)
            over -= entry.size
    return gone


def cache_limit() -> int:
    """QUANTLAB_CACHE_SIZE in bytes, else DEFAULT_LIMIT. Raises QuantlabError."""
    text = os.environ.get("QUANTLAB_CACHE_SIZE")
    try:
        return size_bytes(text) if text else DEFAULT_LIMIT
    except ValueError as error:
        raise QuantlabError(f"QUANTLAB_CACHE_SIZE: {error}.") from error


def entries(root: Path, kinds: Sequence[EntryKind] = KINDS) -> list[CacheEntry]:
    """The entries in the cache folder ``root``, the most recently used first."""
    found = [entry for kind in kinds for entry in _entries(root / kind, kind)]
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def side(path: Path) -> Path:
    """The path of the JSON file beside an entry's array; its ``of`` describes the entry."""
    return path.with_suffix(".json")


def subject(entry: CacheEntry) -> str:
    """A description of what the entry holds, ``""`` if unknown."""
    try:
        return str(json.loads(side(entry.files[0]).read_bytes())["of"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def touch(path: Path) -> None:
    """Mark the entry as used now."""
    with suppress(OSError):
        os.utime(path)


def trim(root: Path, limit: int) -> None:
    """Remove surplus entries and the temporary files of killed processes."""
    remove(surplus(entries(root, MADE), limit))
    sweep(root)


def remove(gone: Iterable[CacheEntry]) -> list[CacheEntry]:
    """Remove these entries; returns those that could be removed."""
    return [entry for entry in gone if {_removed(file) for file in entry.files} == {True}]


def sweep(root: Path) -> None:
    """Remove the temporary files that killed processes left."""
    now = time.time()
    for kind in KINDS:
        for file, facts in _files(root / kind):
            if _TEMPORARY.fullmatch(file.name) and facts.st_mtime < now - ABANDONED:
                _removed(file)


def _entries(folder: Path, kind: EntryKind) -> Iterator[CacheEntry]:
    if kind == "datasets":
        yield from _datasets(folder)
        return
    keys: dict[str, list[tuple[Path, os.stat_result]]] = {}
    for file, facts in _files(folder):
        if match := _FILE.fullmatch(file.name):
            keys.setdefault(match[1], []).append((file, facts))
    for rows in keys.values():
        yield CacheEntry(
            kind=kind,
            files=tuple(sorted(file for file, _ in rows)),
            size=sum(facts.st_size for _, facts in rows),
            used=max(facts.st_mtime for _, facts in rows),
        )


def _datasets(folder: Path) -> Iterator[CacheEntry]:
    """Fetched datasets that are complete: their JSON file is written last and holds the size."""
    for file, facts in _files(folder):
        if (match := _FILE.fullmatch(file.name)) and file.suffix == ".json":
            with suppress(OSError, ValueError, KeyError, TypeError):
                size = int(json.loads(file.read_bytes())["bytes"])
                yield CacheEntry("datasets", (file, folder / match[1]), size, facts.st_mtime)


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """The regular files of the folder; links are not followed, files that vanish meanwhile are
    skipped."""
    if folder.is_symlink():
        return
    with suppress(OSError), os.scandir(folder) as found:
        for file in found:
            with suppress(FileNotFoundError):
                if file.is_file(follow_symlinks=False):
                    yield Path(file.path), file.stat(follow_symlinks=False)


def _removed(file: Path) -> bool:
    try:
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
    except OSError:
        return False
    return True
