"""Dataset: an ordered, indexable source of images with their labels and names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from quantlab.data.images import MAX_PIXELS, decode
from quantlab.data.threads import ordered_map
from quantlab.errors import DataError

Content = bytes | NDArray[Any]
"""One image as stored: an encoded file, pixels uint8 [h, w, 3], or of a ready dataset a model's
input."""


NO_LABEL = "no class index in a .cls of the same key"
"""Why an image without a label among labelled ones cannot be used."""


class Source(Protocol):
    """Where a dataset's images come from."""

    def read(self, index: int) -> Content:
        """The image as stored. Raises DataError when it cannot be read."""
        ...


@dataclass(frozen=True)
class Opening:
    """How a dataset was opened, so that another process can open it again (``readers.reopen``).

    ``path`` is absolute, as the other files are, or a URL.
    """

    path: str
    list_file: Path | None = None
    synsets: Path | None = None
    num_classes: int | None = None
    labelled: bool = True


@dataclass(frozen=True)
class ImageProblem:
    """An image that cannot be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Sample:
    """One image: RGB, upright. ``label`` is None in unlabelled datasets."""

    image: Image.Image
    label: int | None
    name: str


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images in a fixed order. Nothing is decoded before it is asked for.

    ``labels`` is int64 [n], or None for unlabelled images; ``label_source`` says in words how the
    labels were found; ``problems`` are images that the reader already found missing;
    ``class_names`` are in index order; ``ready``: its contents are models' inputs already, see
    ``Pipeline.from_input``; ``opening`` is that of the dataset that this one is (a part of), whose
    rows are ``opened_rows``.

    Examples:
        >>> from quantlab import open_dataset
        >>> from quantlab.testing import image_folder
        >>> from pathlib import Path
        >>> dataset = open_dataset(image_folder(Path("photos"), classes=3, per_class=2))
        >>> len(dataset), dataset.labels.tolist(), dataset.subset([0, 5]).names
        (6, [0, 0, 1, 1, 2, 2], ('0/000.png', '2/001.png'))
    """

    root: str
    names: tuple[str, ...]
    labels: NDArray[np.int64] | None
    source: Source
    problems: tuple[ImageProblem, ...] = ()
    class_names: tuple[str, ...] | None = None
    label_source: str = "none"
    max_pixels: int = MAX_PIXELS
    ready: bool = False
    opening: Opening | None = None

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """The decoded image. Raises DataError when it cannot be read, or is a model's input."""
        name = self.names[index]
        index = range(len(self))[index]
        label = None if self.labels is None else int(self.labels[index])
        return Sample(self._decoded(index), label, name)

    def _decoded(self, index: int) -> Image.Image:
        content = self.source.read(index)
        if isinstance(content, bytes):
            return decode(content, self.names[index], self.max_pixels)
        if self.ready:
            raise DataError(f"{self.names[index]}: an input of a model, no image any more.")
        return Image.fromarray(content)

    def content_digest(self, index: int) -> str:
        """The sha256 of the image as stored, in hex. Raises DataError when it cannot be read."""
        return digest_of(self.source.read(index), self.ready)

    @cached_property
    def content_digests(self) -> tuple[str, ...]:
        """All content digests; empty strings for images that cannot be read."""
        return tuple(ordered_map(self.digest_or_empty, len(self)))

    def digest_or_empty(self, index: int) -> str:
        """The content digest, or ``""`` for an image that cannot be read."""
        try:
            return self.content_digest(index)
        except DataError:
            return ""

    @cached_property
    def digest(self) -> str:
        """The sha256, in hex, over all names, labels and contents in order."""
        whole = hashlib.sha256()
        labels = self.labels if self.labels is not None else [None] * len(self)
        for row in zip(self.names, labels, self.content_digests, strict=True):
            whole.update(repr([str(part) for part in row]).encode())
        return whole.hexdigest()

    def subset(self, indices: ArrayLike) -> Dataset:
        """The images at these indices, in this order, without the reader's problems."""
        rows = [int(i) for i in np.asarray(indices, np.int64)]
        taken = replace(
            self,
            names=tuple(self.names[i] for i in rows),
            labels=None if self.labels is None else self.labels[rows],
            source=_Selection(self.source, tuple(rows)),
            problems=(),
        )
        if (known := self.__dict__.get("content_digests")) is not None:
            return taken.knowing([known[i] for i in rows])
        return taken

    def knowing(self, digests: Sequence[str]) -> Dataset:
        """The same dataset with known content digests: no file is read to compute them."""
        known = replace(self)
        known.__dict__["content_digests"] = tuple(digests)
        return known

    @cached_property
    def opened_rows(self) -> NDArray[np.int64]:
        """Where its images are in the dataset as it was opened, int64 [n]."""
        rows, source = np.arange(len(self)), self.source
        while isinstance(source, _Selection):
            rows, source = np.asarray(source.rows, np.int64)[rows], source.source
        return rows


@dataclass(frozen=True)
class _Selection:
    source: Source
    rows: tuple[int, ...]

    def read(self, index: int) -> Content:
        return self.source.read(self.rows[index])


def digest_of(content: Content, ready: bool = False) -> str:
    """The sha256 of an image as stored, in hex."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    header = repr((content.shape, content.dtype.str) if ready else content.shape).encode()
    return hashlib.sha256(header + content.tobytes()).hexdigest()


def describe(problems: Sequence[ImageProblem], limit: int = 10) -> str:
    """Name the first problems and count the others."""
    named = "; ".join(f"{p.name}: {p.reason}" for p in problems[:limit])
    more = len(problems) - limit
    return f"{named}; and {more} more" if more > 0 else named
