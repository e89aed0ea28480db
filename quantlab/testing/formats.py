"""Writers of the formats that other frameworks keep images in, for small sets of images."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quantlab.data.readers import recordio
from quantlab.testing.images import photo, pixels


def encoded(label: int, seed: int = 0, size: int | tuple[int, int] = 64) -> bytes:
    """A picture as a PNG file's bytes."""
    buffer = io.BytesIO()
    photo(label, seed, size).save(buffer, "PNG")
    return buffer.getvalue()


def record(payload: bytes) -> bytes:
    """A payload as MXNet's RecordIO writes it, split where it holds the magic number itself."""
    pieces = [b""]
    for start in range(0, len(payload), 4):
        word = payload[start : start + 4]
        if word == recordio.MAGIC:
            pieces.append(b"")
        else:
            pieces[-1] += word
    last = len(pieces) - 1
    kinds = [recordio.BETWEEN] * len(pieces)
    kinds[0], kinds[-1] = recordio.FIRST, recordio.LAST
    if last == 0:
        kinds = [recordio.WHOLE]
    return b"".join(
        recordio.MAGIC + struct.pack("<I", kind << 29 | len(piece)) + piece + bytes(-len(piece) % 4)
        for kind, piece in zip(kinds, pieces, strict=True)
    )


def record_file(
    path: Path,
    labels: Sequence[int],
    size: int | tuple[int, int] = 64,
    seed: int = 0,
    *,
    index: bool = True,
) -> Path:
    """A ``.rec`` of pictures with these labels, and its ``.idx``."""
    records = [
        record(recordio.HEADER.pack(0, label, i, 0) + encoded(label, seed * 1000 + i, size))
        for i, label in enumerate(labels)
    ]
    path.write_bytes(b"".join(records))
    if index:
        offsets = np.cumsum([0, *map(len, records)])[:-1].tolist()
        lines = [f"{key}\t{offset}\n" for key, offset in enumerate(offsets)]
        path.with_suffix(".idx").write_text("".join(lines))
    return path


def datum(label: int | None = None, *, data: bytes = b"", **numbers: int) -> bytes:
    """Caffe's Datum; ``numbers`` are channels, height, width, encoded."""
    fields = {"channels": 1, "height": 2, "width": 3, "label": 5, "encoded": 7}
    given = numbers if label is None else {**numbers, "label": label}
    pairs = b"".join(
        _varint(fields[name] << 3) + _varint(value % (1 << 64)) for name, value in given.items()
    )
    return pairs + (_varint(4 << 3 | 2) + _varint(len(data)) + data if data else b"")


def raw_datum(label: int, seed: int = 0, size: int | tuple[int, int] = 64) -> bytes:
    """A picture's pixels as ``convert_imageset`` writes them: [3, h, w], blue first."""
    picture = pixels(label, seed, size)
    planes = np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1))
    height, width, _ = picture.shape
    return datum(label, data=planes.tobytes(), channels=3, height=height, width=width)


def lmdb_folder(path: Path, values: Sequence[bytes]) -> Path:
    """A database of these values, with keys such as ``00000002_2.png``."""
    import lmdb

    with (
        lmdb.open(str(path), map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for i, value in enumerate(values):
            transaction.put(f"{i:08d}_{i}.png".encode(), value)
    (path / "lock.mdb").unlink()
    return path


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def tar_shard(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar of these names and contents."""
    with tarfile.open(path, "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def pairs(labels: Sequence[int], seed: int = 0) -> list[tuple[str, bytes]]:
    """A WebDataset's members: a picture and its class, one after the other."""
    members: list[tuple[str, bytes]] = []
    for i, label in enumerate(labels):
        members.append((f"d/{i:03d}.png", encoded(label, seed * 1000 + i)))
        members.append((f"d/{i:03d}.cls", str(label).encode()))
    return members


def parquet_file(
    path: Path, classes: Sequence[int], seed: int = 0, rows_per_group: int = 2, **columns: Any
) -> Path:
    """Rows of ``image`` (struct of bytes and path) and ``label``; ``columns`` replace or add."""
    import pyarrow
    from pyarrow import parquet

    images = [
        {"bytes": encoded(label, seed * 1000 + i), "path": f"{i:03d}.png"}
        for i, label in enumerate(classes)
    ]
    given = {"image": images, "label": list(classes), **columns}
    table = pyarrow.table({name: rows for name, rows in given.items() if rows is not None})
    parquet.write_table(table, path, row_group_size=rows_per_group)
    return path
