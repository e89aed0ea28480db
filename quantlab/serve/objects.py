"""Object store: files by key in a folder or behind an fsspec URL, each complete or absent.

Keys are relative paths with forward slashes: ``models/SHA256``, ``jobs/ID/ATTEMPT/…``. A folder may
be one that several machines share; S3 and its like are reached by fsspec.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from quantlab._util.cache import ABANDONED
from quantlab._util.files import atomic_path
from quantlab.errors import MissingExtraError, OutputError, QuantlabError

PIECE = 1024**2
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]*(/[A-Za-z0-9_][A-Za-z0-9._+=-]*)*")
_EXTRAS = {"s3": ("s3fs", "s3")}
log = logging.getLogger("quantlab._util.files")


@dataclass(frozen=True)
class ObjectFacts:
    """An object's bytes, and when it was written, in seconds since 1970."""

    bytes: int
    written: float


class ObjectMissingError(QuantlabError):
    """There is no object of that key."""


class Objects:
    """The objects under a folder or URL. All methods raise OutputError where it cannot be used."""

    def __init__(self, url: str) -> None:
        import fsspec

        protocol = url.partition("://")[0] if "://" in url else "file"
        try:
            # another machine may write at any time: no listing is kept
            self._files, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            package, extra = _EXTRAS.get(protocol, (f"fsspec's driver of {protocol}", "serve"))
            raise MissingExtraError(package, extra, f"a store at {protocol}://") from error
        except ValueError as error:
            raise QuantlabError(f"{url} is no place for a store: {error}.") from error
        self.url, self._root = url, str(root).rstrip("/")
        self._local = Path(self._root) if protocol in ("file", "local") else None

    def put(self, key: str, source: Path) -> None:
        """Store a file's content under the key, replacing what is there."""
        with self._plain_errors(key):
            if self._local is None:
                self._files.put_file(str(source), self._path(key))
                return
            with atomic_path(self._local / _checked(key)) as temporary:
                shutil.copyfile(source, temporary)

    def get(self, key: str, target: Path) -> None:
        """Copy the content to a file. Raises ObjectMissingError."""
        with (
            self.open(key) as source,
            atomic_path(target) as temporary,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(source, file, PIECE)

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """The content as a stream. Raises ObjectMissingError."""
        with self._plain_errors(key):
            if self._files.info(path := self._path(key))["type"] != "file":
                raise IsADirectoryError(key)  # S3's would open, empty
            file = self._files.open(path, "rb")
        with file:
            yield file

    def local(self, key: str) -> Path | None:
        """Where the object lies on this machine, None in a store that is elsewhere."""
        return None if self._local is None else self._local / _checked(key)

    def has(self, key: str) -> bool:
        """Whether there is such an object."""
        with self._plain_errors(key):
            return bool(self._files.isfile(self._path(key)))

    def sizes(self, folder: str) -> dict[str, int]:
        """Bytes of all objects whose keys begin with ``folder/``, by the rest of the key."""
        base = self._path(folder) + "/"
        try:
            with self._plain_errors(folder):
                found: dict[str, Any] = self._files.find(base, detail=True)
        except ObjectMissingError:
            return {}
        sizes = {name.partition(base)[2]: int(facts["size"]) for name, facts in found.items()}
        return {key: size for key, size in sorted(sizes.items()) if _KEY.fullmatch(key)}

    def listing(self) -> dict[str, ObjectFacts]:
        """Bytes and age of all objects, by key."""
        base = f"{self._root}/"
        try:
            with self._plain_errors(""):
                found: dict[str, Any] = self._files.find(base, detail=True)
        except ObjectMissingError:
            return {}
        stored = {name.partition(base)[2]: _stored(facts) for name, facts in found.items()}
        return {key: facts for key, facts in sorted(stored.items()) if is_key(key)}

    def check(self) -> None:
        """Raises OutputError where the store does not answer."""
        if self._local is not None:
            with self._plain_errors(""):
                self._local.mkdir(parents=True, exist_ok=True)
                if not os.access(self._local, os.R_OK | os.W_OK | os.X_OK):
                    raise PermissionError(str(self._local))
            return
        with self._plain_errors(""), suppress(FileNotFoundError):
            self._files.ls(self._root, detail=False)

    def remove(self, folder: str) -> None:
        """Delete all objects whose keys begin with ``folder/``."""
        if self._local is not None:
            shutil.rmtree(self._local / _checked(folder), ignore_errors=True)
        elif self.sizes(folder):
            with self._plain_errors(folder):
                self._files.rm(self._path(folder), recursive=True)

    def remove_one(self, key: str) -> None:
        """Delete an object, if it is there."""
        with suppress(ObjectMissingError), self._plain_errors(key):
            self._files.rm_file(self._path(key))

    def sweep(self) -> None:
        """Remove half-written files of killed processes; drivers of stores elsewhere leave none."""
        for path in self._local.rglob(".*.part") if self._local is not None else ():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > ABANDONED:
                    path.unlink()

    def _path(self, key: str) -> str:
        return f"{self._root}/{_checked(key)}"

    @contextmanager
    def _plain_errors(self, key: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectMissingError(f"the store has no {key}.") from error
        except Exception as error:  # drivers have errors of their own
            if isinstance(error, QuantlabError) and not isinstance(error, OutputError):
                raise
            log.warning("the store %s: %s", self.url, error)
            raise OutputError("the store cannot be used.", "Try again in a moment.") from error


def _stored(facts: dict[str, Any]) -> ObjectFacts:
    """Drivers say when in their own words: a folder's as a number, S3's as a date."""
    when = facts.get("mtime", facts.get("LastModified", facts.get("last_modified")))
    written = when.timestamp() if isinstance(when, datetime) else float(when or time.time())
    return ObjectFacts(int(facts["size"]), written)


def is_key(key: str) -> bool:
    """Whether a key names something below the store's root and nothing hidden."""
    return _KEY.fullmatch(key) is not None and ".." not in key.split("/")


def _checked(key: str) -> str:
    if not is_key(key):
        raise QuantlabError(f"{key!r} is not the key of an object.")
    return key
