"""An ``.npz`` of ``images`` (uint8 RGB [n, h, w, 3]) and, if there are any, ``labels``.

And ``.npz`` files of one image each, holding the ready ``input`` of a model.
"""

from __future__ import annotations

import io
import math
import threading
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from quantlab.data.dataset import Dataset
from quantlab.data.images import MAX_PIXELS
from quantlab.data.readers.files import FileSource, cannot_read
from quantlab.errors import DataError, LabelError, shown

_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, ValueError, EOFError, KeyError),
    *(NotImplementedError, RuntimeError),
)
MAX_BYTES = 4 * 1024**3
MAX_INPUT_BYTES = 256 * 1024**2
T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """Shape, type and order that an array in the archive declares."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """The size of the array in memory."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass
class NpzSource:
    """The images of an archive, loaded together when the first is asked for."""

    path: Path
    _images: NDArray[np.uint8] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, index: int) -> NDArray[np.uint8]:
        """The pixels [h, w, 3]. Raises DataError."""
        with self._lock:
            if self._images is None:
                self._images = _load(self.path, "images")
        pixels: NDArray[np.uint8] = self._images[index]
        return pixels


@dataclass(frozen=True)
class InputSource:
    """Files that hold one ready input each, read when asked for."""

    files: FileSource

    def read(self, index: int) -> NDArray[Any]:
        """The array ``input``. Raises DataError ``"<name>: <reason>."``."""
        name, data = self.files.names[index], self.files.read(index)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                header = _check_declared(archive.getinfo("input.npy"), archive)
                if header.nbytes > MAX_INPUT_BYTES:
                    raise ValueError("too large")
                with archive.open("input.npy") as file:
                    array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
                    return array
        except _DAMAGES as error:
            raise DataError(f"{name}: not a readable .npz with an array 'input'.") from error


def read(path: Path, *, labelled: bool = True) -> Dataset:
    """The archive's index; names are ``<file>[<i>]``; ``labelled=False`` leaves labels aside.

    Raises DataError, for pickles too.
    """
    headers = _headers(path)
    images = headers.get("images")
    if images is None:
        raise DataError(
            f"{path} has no array 'images'.",
            "Save it with np.savez(path, images=uint8 [n, h, w, 3], labels=integers [n]).",
        )
    _check_images(path, images)
    labels = None
    if labelled and "labels" in headers:
        _check_labels(path, headers["labels"], images.shape[0])
        labels = _load(path, "labels").astype(np.int64)
    return Dataset(
        root=str(path),
        names=tuple(f"{path.name}[{i}]" for i in range(images.shape[0])),
        labels=labels,
        source=NpzSource(path),
        label_source="none" if labels is None else "the array 'labels'",
    )


def _check_images(path: Path, header: Header) -> None:
    shape = header.shape
    if header.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or min(shape[1:]) < 1:
        raise DataError(
            f"{path}: 'images' is {header.dtype} {list(shape)}, not uint8 [n, h, w, 3].",
            "Save RGB pixels from 0 to 255, not normalized ones.",
        )
    if header.nbytes > MAX_BYTES or shape[1] * shape[2] > MAX_PIXELS:
        raise DataError(
            f"{path}: 'images' {list(shape)} is over the bound of {MAX_BYTES >> 30} GiB in all and "
            f"{MAX_PIXELS} pixels an image.",
            "Save the images as files in a folder.",
        )


def _check_labels(path: Path, header: Header, count: int) -> None:
    if header.dtype.kind not in "iu" or header.shape != (count,):
        raise LabelError(
            f"{path}: 'labels' is {header.dtype} {list(header.shape)}, not integers [{count}].",
            "Save one class index an image.",
        )


def _headers(path: Path) -> dict[str, Header]:
    return _guarded(path, lambda: _read_headers(path))


def _read_headers(path: Path) -> dict[str, Header]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.filename not in ("images.npy", "labels.npy"):
                continue
            found[info.filename.removesuffix(".npy")] = _check_declared(info, archive)
    return found


def _check_declared(info: zipfile.ZipInfo, archive: zipfile.ZipFile) -> Header:
    """The array's header. Raises ValueError where it promises more than there is."""
    with archive.open(info) as file:
        header = _header(file)
    if header.dtype.hasobject or header.nbytes > info.file_size:
        raise ValueError(f"{info.filename} holds objects or less than it declares")
    return header


def _header(file: Any) -> Header:
    version = npy.read_magic(file)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read_header(file)
    return Header(tuple(shape), dtype)


def _load(path: Path, name: str) -> NDArray[Any]:
    """Reads one array, no more of it than its header declared."""

    def load() -> NDArray[Any]:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
            return array

    return _guarded(path, load)


def _guarded(path: Path, action: Callable[[], T]) -> T:
    try:
        return action()
    except _DAMAGES as error:
        raise DataError(
            f"{path} is not a readable .npz: {shown(error)}.", "Save it again with np.savez."
        ) from error
    except OSError as error:
        raise cannot_read(path, error) from error
