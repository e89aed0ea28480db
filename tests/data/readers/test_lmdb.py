from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from quantlab.data.readers import open_dataset
from quantlab.errors import DataError, MissingExtraError
from quantlab.testing import pixels, truncate
from quantlab.testing.formats import datum, encoded, lmdb_folder, raw_datum

pytest.importorskip("lmdb")


def folder(path: Path) -> Path:
    """Two raw pictures and an encoded one, with the labels 4, 0 and 2."""
    image = datum(2, data=encoded(2, 2), encoded=1)
    return lmdb_folder(path, [raw_datum(4, 0), raw_datum(0, 1), image])


@pytest.mark.parametrize("file", ["", "data.mdb"])
def test_images_labels_and_names(tmp_path: Path, file: str) -> None:
    dataset = open_dataset(folder(tmp_path / "db") / file, num_classes=5)
    assert dataset.labels is not None
    assert (dataset.labels.dtype, dataset.labels.tolist()) == (np.dtype(np.int64), [4, 0, 2])
    assert dataset.names == ("00000000_0.png", "00000001_1.png", "00000002_2.png")
    for i, label in enumerate((4, 0, 2)):
        assert np.array_equal(np.asarray(dataset[i].image), pixels(label, i, 64))
    assert len(set(dataset.content_digests)) == 3


def test_nothing_is_written(tmp_path: Path) -> None:
    path = folder(tmp_path / "db")
    before = (path / "data.mdb").read_bytes()
    path.chmod(0o555)
    (path / "data.mdb").chmod(0o444)
    first, second = open_dataset(path), open_dataset(path)
    assert np.array_equal(np.asarray(first[1].image), np.asarray(second[1].image))
    assert [p.name for p in path.iterdir()] == ["data.mdb"]
    assert (path / "data.mdb").read_bytes() == before
    path.chmod(0o755)


def test_what_is_no_datum_is_a_problem(tmp_path: Path) -> None:
    dataset = open_dataset(lmdb_folder(tmp_path / "db", [b"hello", raw_datum(1), b"\x22\x05a"]))
    assert dataset.names == ("00000001_1.png",)
    assert [(p.name, p.reason) for p in dataset.problems] == [
        ("00000000_0.png", "not a Datum"),
        ("00000002_2.png", "the Datum is cut off"),
    ]


def test_a_bad_image_is_named(tmp_path: Path) -> None:
    dataset = open_dataset(lmdb_folder(tmp_path / "db", [datum(1, data=b"abc", channels=3)]))
    with pytest.raises(DataError, match=r"^00000000_0.png: the Datum's size \[3, 0, 0\] is not"):
        dataset[0]


def test_labels_are_all_or_none(tmp_path: Path) -> None:
    bare = datum(data=encoded(1), encoded=1)
    unlabelled = open_dataset(lmdb_folder(tmp_path / "a", [bare, bare]))
    assert (unlabelled.labels, unlabelled.label_source) == (None, "none")
    with pytest.raises(DataError, match=r"1 of 2 images have no label"):
        open_dataset(lmdb_folder(tmp_path / "b", [bare, raw_datum(1)]))


def test_damaged_databases(tmp_path: Path) -> None:
    path = folder(tmp_path / "db")
    truncate(path / "data.mdb", 0.6)
    with pytest.raises(DataError, match=r"data\.mdb is cut off"):
        open_dataset(path)
    (path / "data.mdb").write_bytes(b"hello" * 5000)
    with pytest.raises(DataError, match=r"db is not a readable LMDB: .*\nCopy it again"):
        open_dataset(path)
    (path / "data.mdb").write_bytes(b"")
    with pytest.raises(DataError, match="db is not a readable LMDB"):
        open_dataset(path)


def test_an_empty_database(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(lmdb_folder(tmp_path / "db", []))


def test_an_image_that_went_away(tmp_path: Path) -> None:
    dataset = open_dataset(folder(tmp_path / "db"))
    (tmp_path / "db/data.mdb").unlink()
    lmdb_folder(tmp_path / "new", [raw_datum(1)])
    (tmp_path / "new/data.mdb").rename(tmp_path / "db/data.mdb")
    with pytest.raises(DataError, match=r"00000002_2\.png: no longer in"):
        dataset[2]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder(tmp_path / "db")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(MissingExtraError, match=r"needs the package lmdb.*\n.*quantlab\[lmdb\]"):
        open_dataset(path)
