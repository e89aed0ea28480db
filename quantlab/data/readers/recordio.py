"""MXNet's RecordIO of images (``.rec``, perhaps an ``.idx`` of the same name beside it).

A record is the magic number, a uint32 whose three upper bits say how it goes on and whose others
are a length, then that many bytes, padded to four. A payload that holds the magic number itself, on
a multiple of four, is written as several records with the number left out between them: the first
is marked 1, those between 2, the last 3, and one that is whole 0. The payload is an IRHeader (flag
uint32, label float32, id and id2 uint64), ``flag`` more float32 labels that replace the first, and
the encoded image. All numbers are little-endian. Source of the format: dmlc-core's
``include/dmlc/recordio.h`` and MXNet's ``python/mxnet/recordio.py``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from quantlab.data.dataset import Dataset
from quantlab.data.readers.files import MAX_FILE_BYTES, cannot_read, read_text
from quantlab.errors import DataError, LabelError

MAGIC = struct.pack("<I", 0xCED7230A)
WHOLE, FIRST, BETWEEN, LAST = range(4)
HEADER = struct.Struct("<IfQQ")
_LENGTH_BITS = 29
_REMEDY = "Make the file again, or copy it again from where it came from."


@dataclass(frozen=True)
class Part:
    """Where a record, or a part of one, has its bytes in the file, and where the next begins."""

    start: int
    length: int
    goes_on: bool

    @property
    def end(self) -> int:
        """The byte after it and its padding."""
        return self.start + self.length + -self.length % 4


@dataclass(frozen=True)
class RecordSource:
    """The images of a file, each read when asked for, from the ``offsets`` [n] of its records."""

    path: Path
    offsets: NDArray[np.int64]

    def read(self, index: int) -> bytes:
        """The encoded image. Raises DataError."""
        try:
            with self.path.open("rb") as file:
                parts = _parts(file, self.path, int(self.offsets[index]))
                payload = _payload(file, self.path, parts)
        except OSError as error:
            raise cannot_read(self.path, error) from error
        flag = HEADER.unpack_from(payload)[0]
        return payload[HEADER.size + 4 * flag :]


def read(path: Path, *, labelled: bool = True) -> Dataset:
    """The file's images in the order of its ``.idx``, without one in their own; names are
    ``<file>[<i>]``; ``labelled=False`` leaves labels aside. Raises DataError, naming the byte
    where a damaged file cannot be read on."""
    index = path.with_suffix(".idx")
    offsets: list[int] = []
    labels: list[int] = []
    try:
        with path.open("rb") as file:
            known = iter(_offsets(index)) if index.is_file() else None
            for offset, parts in _records(file, path, known):
                offsets.append(offset)
                header = _payload(file, path, parts, HEADER.size + 4)
                if labelled:
                    labels.append(_label(header, path, offset))
    except OSError as error:
        raise cannot_read(path, error) from error
    return Dataset(
        root=str(path),
        names=tuple(f"{path.name}[{i}]" for i in range(len(offsets))),
        labels=np.array(labels, np.int64) if labelled else None,
        source=RecordSource(path, np.array(offsets, np.int64)),
        label_source="the records' headers" if labelled else "none",
    )


def _records(
    file: BinaryIO, path: Path, known: Iterator[int] | None
) -> Iterator[tuple[int, list[Part]]]:
    """Each record's offset and parts: at the known offsets, or one after the other."""
    if known is not None:
        yield from ((offset, _parts(file, path, offset)) for offset in known)
        return
    offset, size = 0, path.stat().st_size
    while offset < size:
        parts = _parts(file, path, offset)
        yield offset, parts
        offset = parts[-1].end


def _offsets(index: Path) -> list[int]:
    """The second column of lines ``key offset``."""
    offsets = []
    for number, line in enumerate(read_text(index).splitlines(), 1):
        words = line.split()
        if len(words) == 2 and words[1].isascii() and words[1].isdigit() and len(words[1]) < 19:
            offsets.append(int(words[1]))
        elif words:
            raise DataError(
                f"{index}, line {number}: {line[:60]!r} is not a key and an offset.",
                "Remove the .idx: the .rec is then read from its beginning.",
            )
    return offsets


def _parts(file: BinaryIO, path: Path, offset: int) -> list[Part]:
    """The parts of the record that begins here, none of their bytes read."""
    parts = [_part(file, path, offset, (WHOLE, FIRST))]
    size = parts[0].length
    while parts[-1].goes_on:
        parts.append(_part(file, path, parts[-1].end, (BETWEEN, LAST)))
        size += parts[-1].length
        if size > MAX_FILE_BYTES:
            raise _damaged(path, offset, f"is larger than {MAX_FILE_BYTES >> 20} MiB")
    return parts


def _part(file: BinaryIO, path: Path, offset: int, kinds: tuple[int, int]) -> Part:
    file.seek(offset)
    head = file.read(8)
    if len(head) < 8:
        raise _damaged(path, offset, "is cut off")
    if head[:4] != MAGIC:
        raise _damaged(path, offset, "does not begin with RecordIO's magic number")
    kind, length = divmod(struct.unpack("<I", head[4:])[0], 1 << _LENGTH_BITS)
    if kind not in kinds:
        raise _damaged(path, offset, f"is marked {kind}, which cannot be there")
    if offset + 8 + length > path.stat().st_size:
        raise _damaged(path, offset, f"declares {length} bytes, more than the file has")
    return Part(offset + 8, length, kind in (FIRST, BETWEEN))


def _payload(file: BinaryIO, path: Path, parts: list[Part], most: int | None = None) -> bytes:
    """The record's bytes with the magic number put back between its parts; the first ``most``."""
    pieces: list[bytes] = []
    for part in parts if most is None else parts[:most]:
        file.seek(part.start)
        pieces.append(file.read(part.length if most is None else min(part.length, most)))
    joined = MAGIC.join(pieces)
    if len(joined) < HEADER.size:
        raise _damaged(path, parts[0].start - 8, "is too short to hold a header")
    return joined


def _label(payload: bytes, path: Path, offset: int) -> int:
    flag, label, _, _ = HEADER.unpack_from(payload)
    if flag > 1:
        raise LabelError(
            f"{path}: the record at byte {offset} has {flag} labels.",
            "Give a file of classification: one label an image.",
        )
    if flag == 1:
        if len(payload) < HEADER.size + 4:
            raise _damaged(path, offset, "is too short to hold its label")
        (label,) = struct.unpack_from("<f", payload, HEADER.size)
    if not float(label).is_integer() or abs(label) > 1 << 24:
        raise LabelError(
            f"{path}: the record at byte {offset} has the label {label}, which is no class index.",
            _REMEDY,
        )
    return int(label)


def _damaged(path: Path, offset: int, what: str) -> DataError:
    return DataError(f"{path}: the record at byte {offset} {what}.", _REMEDY)
