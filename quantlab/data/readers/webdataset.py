"""WebDataset: uncompressed tar files ("shards") in which ``key.jpg`` and ``key.cls`` are one image.

A shard, a folder of shards, or a pattern of them such as ``val-{000..003}.tar``. Nothing is
unpacked: images are read where they lie in the tar. Source of the format:
https://github.com/webdataset/webdataset: the key is the path up to the first dot of the file's
name, a ``.cls`` is the class index as text.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from quantlab.data.dataset import NO_LABEL, Dataset, ImageProblem
from quantlab.data.readers.files import MAX_FILE_BYTES, cannot_read, is_image
from quantlab.errors import DataError

MAX_SHARDS = 10_000
_MAX_LABEL_BYTES = 100
_LABEL = re.compile(rb"\s*([0-9]{1,9})\s*")
_RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")


@dataclass(frozen=True)
class Place:
    """Where an image's bytes are."""

    shard: Path
    start: int
    size: int


@dataclass(frozen=True)
class TarSource:
    """Images inside tar files, each read when asked for."""

    names: Sequence[str]
    places: Sequence[Place]

    def read(self, index: int) -> bytes:
        """The image's bytes. Raises DataError."""
        place, name = self.places[index], self.names[index]
        if place.size > MAX_FILE_BYTES:
            raise DataError(f"{name}: larger than {MAX_FILE_BYTES >> 20} MiB.")
        try:
            with place.shard.open("rb") as file:
                file.seek(place.start)
                data = file.read(place.size)
        except OSError as error:
            raise cannot_read(place.shard, error) from error
        if len(data) < place.size:
            raise DataError(f"{name}: the shard is cut off.")
        return data


def is_pattern(path: Path) -> bool:
    """Whether the name is one of several shards, with a range in braces."""
    return path.suffix.lower() == ".tar" and _RANGE.search(str(path)) is not None


def read(path: Path, *, labelled: bool = True) -> Dataset:
    """The images of the shards in their order; names are ``<shard>/<member>``.

    Images without a readable label become problems, unless there is no label at all, or
    ``labelled`` is false. Raises DataError.
    """
    names: list[str] = []
    places: list[Place] = []
    labels: list[int | None] = []
    any_label = False
    for shard in shards(path):
        images, found = _index(shard)
        any_label = any_label or (labelled and bool(found))
        for member, place in images.items():
            names.append(f"{shard.name}/{member}")
            places.append(place)
            labels.append(found.get(_key(member)))
    kept = [i for i, label in enumerate(labels) if label is not None or not any_label]
    names_kept = [names[i] for i in kept]
    return Dataset(
        root=str(path),
        names=tuple(names_kept),
        labels=np.array([labels[i] for i in kept], np.int64) if any_label else None,
        source=TarSource(names_kept, [places[i] for i in kept]),
        problems=tuple(
            ImageProblem(name, NO_LABEL)
            for name, label in zip(names, labels, strict=True)
            if any_label and label is None
        ),
        label_source="the shards' .cls files" if any_label else "none",
    )


def shards(path: Path) -> list[Path]:
    """The tar file itself, those of a folder sorted by name, or those of a pattern in its order.

    Raises DataError for a pattern of too many.
    """
    if path.is_dir():
        return sorted(p for p in path.iterdir() if p.suffix.lower() == ".tar")
    return [path] if path.is_file() else [Path(name) for name in _expand([str(path)])]


def _expand(names: list[str]) -> list[str]:
    """``{008..010}`` counted, with as many digits as its first number."""
    found = _RANGE.search(names[0])
    if found is None:
        return names
    first, last = int(found[1]), int(found[2])
    if not 0 < (last - first + 1) * len(names) <= MAX_SHARDS:
        raise DataError(
            f"{names[0]}: {found[0]} does not count from 1 to {MAX_SHARDS} shards.",
            "Write {first..last}, such as {000..146}.",
        )
    numbers = [f"{number:0{len(found[1])}d}" for number in range(first, last + 1)]
    return _expand([_RANGE.sub(number, name, count=1) for name in names for number in numbers])


def _index(shard: Path) -> tuple[dict[str, Place], dict[str, int]]:
    """Where each image lies, and the label of each key that has one. Only regular files whose bytes
    lie in one piece count."""
    images: dict[str, Place] = {}
    labels: dict[str, int] = {}
    try:
        with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                if is_image(member.name.rpartition("/")[2]):
                    images[member.name] = Place(shard, member.offset_data, member.size)
                elif member.name.endswith(".cls") and member.size <= _MAX_LABEL_BYTES:
                    content = archive.extractfile(member)
                    found = _LABEL.fullmatch(content.read() if content else b"")
                    if found:
                        labels[_key(member.name)] = int(found[1])
            # tarfile takes a file that stops between two members for a whole one.
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it is cut off")
    except OSError as error:
        raise cannot_read(shard, error) from error
    except (tarfile.TarError, ValueError, EOFError) as error:
        raise DataError(
            f"{shard} is not a readable tar: {error}.",
            "A shard is an uncompressed tar; copy it again, or decompress it.",
        ) from error
    return images, labels


def _key(member: str) -> str:
    folder, slash, name = member.rpartition("/")
    return f"{folder}{slash}{name.partition('.')[0]}"
