"""Download datasets named by a URL into the local cache, completely or not at all.

fsspec knows the protocols: ``s3://`` (with s3fs), ``gs://``, ``https://``, ``file://`` and more. A
dataset lies at ``datasets/KEY`` of the cache folder, and ``KEY.json`` beside it says that it is
whole. What changes at the URL (a name, a size, a time or an ETag) changes the key.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock

from quantlab._util.cache import ABANDONED, cache_limit, entries, key_of, remove, side, touch
from quantlab._util.files import write_whole
from quantlab._util.paths import cache_dir
from quantlab._util.reporter import Counted
from quantlab.errors import DataError, MissingExtraError, OutputError, QuantlabError

MAX_FILES = 5_000_000
_AT_ONCE = 64
_VERSIONS = ("ETag", "etag", "md5Hash", "checksum", "mtime", "LastModified", "updated", "created")


@dataclass(frozen=True)
class RemoteFile:
    """A file: its address for the file system, its name in the dataset, bytes, and version."""

    address: str
    name: str
    size: int
    version: str


def fetched(url: str, *, progress: Counted | None = None) -> Path:
    """The local copy of the folder or file at ``url``, downloaded if it is not in the cache.

    Processes that want the same wait for the one that fetches it. Raises DataError for a URL that
    cannot be read, or holds more than the cache may; MissingExtraError, OutputError.
    """
    with _plain_errors(url):
        system, root, files = _listed(url)
    total, limit = sum(file.size for file in files), cache_limit()
    if total > limit:
        raise DataError(
            f"{url} holds {total:,} bytes, more than the {limit:,} that the cache may.",
            "Set QUANTLAB_CACHE_SIZE, or mount it and give its path.",
        )
    folder = cache_dir() / "datasets"
    path = folder / key(url, files)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"):
            if not (side(path).is_file() and path.is_dir()):
                _make_room(total, limit)
                _fetch(url, system, files, path, progress)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error
    touch(side(path))
    return path / files[0].name if files[0].address == root else path


def key(url: str, files: Sequence[RemoteFile]) -> str:
    """Changes whenever what is at the URL does."""
    return key_of(url, sorted((file.name, file.size, file.version) for file in files))


def _listed(url: str) -> tuple[Any, str, list[RemoteFile]]:
    """The file system, what it calls the URL, and the files there, at least one."""
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "cluster", "data named by a URL") from error
    system, root = fsspec.core.url_to_fs(url)
    found: dict[str, Any] = system.find(root, detail=True)
    if not found:
        raise DataError(f"{url}: nothing is there.", "Give the URL of a dataset's folder or file.")
    if len(found) > MAX_FILES:
        raise DataError(f"{url} holds {len(found):,} files: not a dataset.")
    return system, root, [_remote(url, root, address, facts) for address, facts in found.items()]


def _remote(url: str, root: str, address: str, facts: dict[str, Any]) -> RemoteFile:
    name = PurePosixPath(address).name if address == root else address.removeprefix(root)
    name = name.lstrip("/")
    if not name or "\\" in name or {"..", ""} & set(name.split("/")):
        raise DataError(f"{url}: the name {address[:100]!r} is outside of the dataset.")
    version = next((str(facts[v]) for v in _VERSIONS if facts.get(v) is not None), "")
    return RemoteFile(address, name, int(facts["size"] or 0), version)


def _fetch(
    url: str, system: Any, files: Sequence[RemoteFile], path: Path, progress: Counted | None
) -> None:
    """Download all files into a folder beside ``path``, then move it there."""
    total, done = sum(file.size for file in files), 0
    with tempfile.TemporaryDirectory(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part", ignore_cleanup_errors=True
    ) as name:
        part = Path(name, "whole")
        for start in range(0, len(files), _AT_ONCE):
            some = files[start : start + _AT_ONCE]
            places = [part / file.name for file in some]
            for place in places:
                place.parent.mkdir(parents=True, exist_ok=True)
            with _plain_errors(url):
                system.get([file.address for file in some], [str(place) for place in places])
            for file, place in zip(some, places, strict=True):
                if not place.is_file() or place.stat().st_size != file.size:
                    raise DataError(
                        f"{url}: {file.name} changed while it was fetched.", "Run again."
                    )
            done += sum(file.size for file in some)
            if progress is not None:
                progress(done, total)
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
    write_whole(side(path), json.dumps({"of": url, "bytes": total, "files": len(files)}))


def _make_room(wanted: int, limit: int) -> None:
    """Other datasets go, the least recently used first, until there is room. Raises DataError when
    those used within a day, which another process may be reading, leave none."""
    folder = cache_dir() / "datasets"
    for left in folder.glob(".*.part"):
        if left.stat().st_mtime < time.time() - ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    kept = entries(cache_dir(), ("datasets",))
    while kept and sum(entry.size for entry in kept) + wanted > limit:
        if kept[-1].used > time.time() - ABANDONED:
            raise DataError(
                f"{folder} has no room for {wanted:,} bytes beside the datasets used today.",
                "quantlab cache clear --kind datasets removes them; QUANTLAB_CACHE_SIZE allows "
                "more.",
            )
        remove([kept.pop()])


_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "gs": "gcsfs", "gcs": "gcsfs"}
"""By protocol, what fsspec needs of others."""


@contextmanager
def _plain_errors(url: str) -> Iterator[None]:
    """Turn any exception of fsspec's file systems into a DataError."""
    try:
        yield
    except QuantlabError:
        raise
    except ImportError as error:
        protocol = url.partition("://")[0]
        if protocol == "s3":
            raise MissingExtraError("s3fs", "s3", "data on s3://") from error
        package = _PACKAGES.get(protocol)
        remedy = f"Install it with: pip install {package}" if package else ""
        raise DataError(f"{url} cannot be read: {error}.", remedy) from error
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].removesuffix(".")
        raise DataError(
            f"{url} cannot be read: {reason}.", "Check the URL and who may read it."
        ) from error
