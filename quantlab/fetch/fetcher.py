"""``fetch(name)``: the cached file, or a download from the first source with the expected sha256.

Order: the folder or mirror the user named, then the sources in the order of the YAML file. A file
that differs from its promise is never used; the next source is tried. Only when every source
failed does the user hear of each.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from quantlab._util.paths import cache_dir as user_cache_dir
from quantlab._util.reporter import Counted
from quantlab.errors import FetchError, OutputError, disk_is_full
from quantlab.fetch.catalog import PublishedModel, published
from quantlab.fetch.sources import SourceAttempt, attempts, is_genuine, wanted_files


def fetch(
    name: str,
    *,
    cache_dir: Path | None = None,
    mirror: str | None = None,
    from_dir: Path | None = None,
    progress: Counted | None = None,
) -> Path:
    """The published file (or folder, for a dataset) of that name, in the cache folder.

    ``from_dir`` and ``mirror`` (default: QUANTLAB_MIRROR; a folder or a base address) are asked
    first, for the file by its name or for the wheel. Raises RecipeError for an unknown name,
    FetchError when there is no source or none gave the file, OutputError when the cache cannot be
    written.
    """
    entry = published(name)
    if entry.same_as:
        entry = published(entry.same_as)
    if not entry.sources:
        raise FetchError(f"{entry.name}: model not available here.", f"To make it: {entry.way}")
    target = cached_path(entry, cache_dir)
    given = (str(from_dir) if from_dir else None, mirror or os.environ.get("QUANTLAB_MIRROR"))
    tries = attempts(entry, [place for place in given if place], progress)
    try:
        if is_genuine(entry, target):
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as work:
            _move_in(entry, _first_success(entry, tries, Path(work)), target, Path(work))
    except OSError as error:
        raise _unwritable(target, error) from error
    return target


def cached_path(entry: PublishedModel, cache_dir: Path | None = None) -> Path:
    """Where the entry's file lies once it is fetched."""
    return (cache_dir or user_cache_dir()) / "published" / entry.file


def _first_success(entry: PublishedModel, tries: list[SourceAttempt], work: Path) -> Path:
    failures = []
    for number, attempt in enumerate(tries):
        folder = work / str(number)
        folder.mkdir()
        try:
            return attempt.get(folder)
        except FetchError as error:
            failures.append(f"  {attempt.label}: {error.problem}")
    raise FetchError(
        "\n".join([f"cannot fetch {entry.name}: every source failed.", *failures]),
        f"Get {' or '.join(wanted_files(entry))} by other means, then: "
        f"quantlab fetch {entry.name} --from FOLDER (or set QUANTLAB_MIRROR).",
    )


def _move_in(entry: PublishedModel, got: Path, target: Path, work: Path) -> None:
    """Into the cache in one step; what lay there damaged goes out with the work folder."""
    if target.is_dir():
        target.rename(work / "old")
    try:
        got.replace(target)
    except OSError:
        # Another process may have brought the same folder in the meantime.
        if not is_genuine(entry, target):
            raise


def _unwritable(target: Path, error: OSError) -> OutputError:
    if disk_is_full(error):
        return OutputError(
            f"cannot write {target}: the disk is full.",
            "Free some space, or name another cache folder in QUANTLAB_CACHE.",
        )
    reason = (error.strerror or str(error)).lower()
    return OutputError(
        f"cannot write {target}: {reason}.", "Name another cache folder in QUANTLAB_CACHE."
    )
