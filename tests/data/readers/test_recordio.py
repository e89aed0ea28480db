from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from quantlab.data.readers import open_dataset, recordio
from quantlab.errors import DataError
from quantlab.testing import pixels
from quantlab.testing.formats import record, record_file

STORED = Path(__file__).parents[2] / "stored" / "mxnet-1.9.1.rec"
"""Written by libmxnet 1.9.1: labels 2, 0, 1; the second image holds the magic number, the third has
its label behind the header."""
LABELS = [4, 0, 2]


def one(tmp_path: Path, payload: bytes) -> Path:
    path = tmp_path / "one.rec"
    path.write_bytes(record(payload))
    return path


@pytest.mark.parametrize("index", [True, False])
def test_images_labels_and_names(tmp_path: Path, index: bool) -> None:
    dataset = open_dataset(record_file(tmp_path / "a.rec", LABELS, index=index), num_classes=5)
    assert dataset.labels is not None
    assert (dataset.labels.dtype, dataset.labels.tolist()) == (np.dtype(np.int64), LABELS)
    assert dataset.names == ("a.rec[0]", "a.rec[1]", "a.rec[2]")
    assert dataset.label_source == "the records' headers"
    for i, label in enumerate(LABELS):
        assert np.array_equal(np.asarray(dataset[i].image), pixels(label, i, 64))


def test_the_index_gives_the_order(tmp_path: Path) -> None:
    path = record_file(tmp_path / "a.rec", LABELS)
    lines = path.with_suffix(".idx").read_text().splitlines()
    path.with_suffix(".idx").write_text("\n".join([lines[2], "", lines[0]]))
    dataset = open_dataset(path)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [2, 4]
    assert np.array_equal(np.asarray(dataset[0].image), pixels(2, 2, 64))


def test_a_file_that_mxnet_wrote(tmp_path: Path) -> None:
    copy = tmp_path / "copy.rec"
    copy.write_bytes(STORED.read_bytes())
    for path in (STORED, copy):
        dataset = open_dataset(path)
        assert dataset.labels is not None
        assert dataset.labels.tolist() == [2, 0, 1]
        for i, label in enumerate((2, 0, 1)):
            assert np.array_equal(np.asarray(dataset[i].image), pixels(label, i, 8))
    tail = dataset.source.read(1)
    assert isinstance(tail, bytes)
    assert tail.endswith(recordio.MAGIC + b"tail")


@pytest.mark.parametrize("before", [0, 1, 3, 4])
def test_the_magic_number_inside_a_record(tmp_path: Path, before: int) -> None:
    image = bytes(before) + recordio.MAGIC * 3 + b"end" + recordio.MAGIC
    dataset = open_dataset(one(tmp_path, recordio.HEADER.pack(0, 1, 0, 0) + image))
    assert dataset.source.read(0) == image


def test_the_magic_number_as_the_label(tmp_path: Path) -> None:
    (value,) = struct.unpack("<f", recordio.MAGIC)
    path = one(tmp_path, recordio.HEADER.pack(0, value, 0, 0) + b"image")
    with pytest.raises(DataError, match="the record at byte 0 has the label -1804698880"):
        open_dataset(path)
    path = one(tmp_path, struct.pack("<If", 0, 3.0) + recordio.MAGIC * 4 + b"image")
    dataset = open_dataset(path)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [3]
    assert dataset.source.read(0) == b"image"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (recordio.HEADER.pack(0, 1.5, 0, 0), r"byte 0 has the label 1\.5, which is no class"),
        (recordio.HEADER.pack(0, float("nan"), 0, 0), "has the label nan"),
        (recordio.HEADER.pack(0, float("inf"), 0, 0), "has the label inf"),
        (recordio.HEADER.pack(3, 0, 0, 0) + bytes(12), "has 3 labels.\nGive a file of class"),
        (recordio.HEADER.pack(1, 0, 0, 0), "too short to hold its label"),
        (b"short", "too short to hold a header"),
        (b"", "too short to hold a header"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, payload: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(one(tmp_path, payload))


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"\0\0\0\0" + bytes(4), "does not begin with RecordIO's magic number"),
        (recordio.MAGIC + b"\0", "is cut off"),
        (recordio.MAGIC + struct.pack("<I", 999), "declares 999 bytes, more than the file has"),
        (recordio.MAGIC + struct.pack("<I", 2 << 29), "is marked 2, which cannot be there"),
        (recordio.MAGIC + struct.pack("<I", 7 << 29), "is marked 7, which cannot be there"),
        (recordio.MAGIC + struct.pack("<I", 1 << 29), "is cut off"),
        (2 * (recordio.MAGIC + struct.pack("<I", 1 << 29)), "is marked 1, which cannot be there"),
    ],
)
def test_damage_is_named_by_its_byte(tmp_path: Path, head: bytes, message: str) -> None:
    sound = record_file(tmp_path / "a.rec", [1], index=False).read_bytes()
    (tmp_path / "b.rec").write_bytes(sound + head)
    place = len(sound) + (8 if recordio.MAGIC + struct.pack("<I", 1 << 29) in head else 0)
    with pytest.raises(DataError, match=rf"b.rec: the record at byte {place} {message}.\nMake"):
        open_dataset(tmp_path / "b.rec")


def test_a_cut_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    data = record_file(tmp_path / "a.rec", [4, 0], size=8, index=False).read_bytes()
    first = len(record_file(tmp_path / "b.rec", [4], size=8, index=False).read_bytes())
    padding = {*range(first - 3, first + 1), *range(len(data) - 3, len(data))}
    for size in {*range(1, len(data), 7), 7, 9, first + 1, first + 9} - padding:
        (tmp_path / "a.rec").write_bytes(data[:size])
        with pytest.raises(DataError, match=f"the record at byte {first if size > first else 0} "):
            open_dataset(tmp_path / "a.rec")


def test_flipped_bytes_never_raise_anything_else(tmp_path: Path) -> None:
    data = record_file(tmp_path / "a.rec", LABELS, size=8, index=False).read_bytes()
    draw = np.random.default_rng(0)
    for _ in range(300):
        flipped = bytearray(data)
        for place in draw.integers(0, len(data), 3):
            flipped[place] ^= int(draw.integers(1, 256))
        (tmp_path / "a.rec").write_bytes(flipped)
        with suppress(DataError):
            dataset = open_dataset(tmp_path / "a.rec")
            for i in range(len(dataset)):
                dataset.source.read(i)


@pytest.mark.parametrize("line", ["0", "0 x", "0 -1", "0 1 2", f"0 {10**20}", "0 ²"])
def test_an_index_that_is_none(tmp_path: Path, line: str) -> None:
    path = record_file(tmp_path / "a.rec", LABELS)
    path.with_suffix(".idx").write_text(f"0\t0\n{line}\n")
    with pytest.raises(DataError, match=r"a\.idx, line 2: .* is not a key.*\nRemove the \.idx"):
        open_dataset(path)


def test_an_index_of_another_file(tmp_path: Path) -> None:
    path = record_file(tmp_path / "a.rec", LABELS)
    path.with_suffix(".idx").write_text("0\t4\n")
    with pytest.raises(DataError, match="the record at byte 4 does not begin with"):
        open_dataset(path)
    path.with_suffix(".idx").write_text(f"0\t{10**12}\n")
    with pytest.raises(DataError, match="the record at byte 1000000000000 is cut off"):
        open_dataset(path)


def test_the_bound_holds_over_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordio, "MAX_FILE_BYTES", 40)
    path = one(tmp_path, recordio.HEADER.pack(0, 1, 0, 0) + recordio.MAGIC + bytes(40))
    with pytest.raises(DataError, match="the record at byte 0 is larger than"):
        open_dataset(path)


def test_an_empty_file_and_one_that_goes_away(tmp_path: Path) -> None:
    (tmp_path / "empty.rec").touch()
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(tmp_path / "empty.rec")
    path = record_file(tmp_path / "a.rec", LABELS)
    dataset = open_dataset(path)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.rec cannot be read: no such file"):
        dataset[0]
