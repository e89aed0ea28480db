"""LMDB of Caffe's Datums, as ``convert_imageset`` writes them: the folder with its ``data.mdb``, or
that file. Opened to read, without a lock file: nothing is written."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.data.dataset import Content, Dataset, ImageProblem
from quantlab.data.readers import datum
from quantlab.data.readers.files import cannot_read
from quantlab.errors import DataError, LabelError, MissingExtraError

FILE_NAME = "data.mdb"
_LOCK = threading.Lock()
"""LMDB lets a process open an environment once at a time."""


@dataclass(frozen=True)
class LmdbSource:
    """The images of an LMDB, each read when asked for, by their keys."""

    path: Path
    keys: tuple[bytes, ...]

    def read(self, index: int) -> Content:
        """The encoded image or its pixels. Raises DataError ``"<name>: <reason>."``."""
        key = self.keys[index]
        with _reading(self.path) as transaction:
            value = transaction.get(key)
            if value is None:
                raise DataError(f"{name_of(key)}: no longer in {self.path}.")
            try:
                return datum.parse(value).content()
            except DataError as error:
                raise DataError(f"{name_of(key)}: {error.problem}") from None


def read(path: Path, *, labelled: bool = True) -> Dataset:
    """The database's images in the order of their keys, which are their names. Values that are no
    Datum become problems; ``labelled=False`` leaves labels aside. Raises DataError,
    MissingExtraError."""
    keys: list[bytes] = []
    labels: list[int | None] = []
    problems: list[ImageProblem] = []
    with _reading(path) as transaction:
        for key, value in transaction.cursor():
            try:
                label = datum.parse(value).label
            except DataError as error:
                problems.append(ImageProblem(name_of(bytes(key)), error.problem.removesuffix(".")))
                continue
            keys.append(bytes(key))
            labels.append(label if labelled else None)
    known = [label for label in labels if label is not None]
    if len(known) not in (0, len(labels)):
        raise LabelError(
            f"{path}: {len(labels) - len(known)} of {len(labels)} images have no label.",
            "Give a database in which all images have one, or none has.",
        )
    return Dataset(
        root=str(path),
        names=tuple(map(name_of, keys)),
        labels=np.array(known, np.int64) if known else None,
        source=LmdbSource(path, tuple(keys)),
        problems=tuple(problems),
        label_source="the Datums" if known else "none",
    )


def name_of(key: bytes) -> str:
    """A key as text."""
    return key.decode("utf-8", "backslashreplace")


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """A read transaction whose values are views of the database's memory."""
    lmdb = _lmdb()
    with _LOCK:
        try:
            with (
                lmdb.open(
                    str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
                ) as environment,
                environment.begin(buffers=True) as transaction,
            ):
                _check_whole(path, environment)
                yield transaction
        except lmdb.Error as error:
            raise DataError(
                f"{path} is not a readable LMDB: {error}.", "Copy it again from where it came from."
            ) from error


def _check_whole(path: Path, environment: Any) -> None:
    """To read a page beyond the file's end would end the process. (LMDB checks no more than that: a
    file whose pages are damaged inside may still do so.)"""
    file = path / FILE_NAME if path.is_dir() else path
    pages = environment.info()["last_pgno"] + 1
    try:
        size = file.stat().st_size
    except OSError as error:
        raise cannot_read(file, error) from error
    if pages * environment.stat()["psize"] > size:
        raise DataError(f"{file} is cut off.", "Copy it again from where it came from.")


def _lmdb() -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise MissingExtraError("lmdb", "lmdb", "Reading an LMDB") from error
    return lmdb
