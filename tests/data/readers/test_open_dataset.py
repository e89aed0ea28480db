from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from quantlab.data.readers import open_dataset, reopen
from quantlab.errors import DataError, LabelError
from quantlab.testing import image_folder, listed_folder, npz_file, photo, pixels
from quantlab.testing.formats import (
    lmdb_folder,
    pairs,
    parquet_file,
    raw_datum,
    record_file,
    tar_shard,
)


def test_what_lies_there_decides(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "folder", ["cat", "dog"])
    listed = listed_folder(tmp_path / "listed", [1, 0])
    npz = npz_file(tmp_path / "a.npz", [1, 0])
    flat = tmp_path / "flat"
    flat.mkdir()
    photo().save(flat / "x.png")
    sources = [open_dataset(p).label_source for p in (folder, listed, npz, str(flat))]
    assert sources == [
        "folder names: sorted order of 2 class names",
        "val.txt: class indices",
        "the array 'labels'",
        "none",
    ]


def test_every_other_format_gives_the_same_images(tmp_path: Path) -> None:
    labels = [3, 0, 2]
    raw = [raw_datum(label, i) for i, label in enumerate(labels)]
    (tmp_path / "shards").mkdir()
    places = [
        record_file(tmp_path / "a.rec", labels),
        tar_shard(tmp_path / "a.tar", pairs(labels)),
        tar_shard(tmp_path / "shards" / "a.tar", pairs(labels)).parent,
        tmp_path / "a-{0..0}.tar",
    ]
    tar_shard(tmp_path / "a-0.tar", pairs(labels))
    if find_spec("lmdb"):
        places.append(lmdb_folder(tmp_path / "lmdb", raw))
    if find_spec("pyarrow"):
        places.append(parquet_file(tmp_path / "a.parquet", labels))
    for place in places:
        dataset = open_dataset(place, num_classes=4)
        assert dataset.root == str(place)
        assert [sample.label for sample in map(dataset.__getitem__, range(3))] == labels
        for i, label in enumerate(labels):
            assert np.array_equal(np.asarray(dataset[i].image), pixels(label, i, 64))
        assert dataset.digest == open_dataset(place).digest


def test_a_folder_with_images_is_one_of_images(tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "images", ["cat", "dog"])
    tar_shard(folder / "backup.tar", pairs([1]))
    assert open_dataset(folder).names[0] == "cat/000.png"
    (folder / "data.parquet").write_bytes(b"")
    assert len(open_dataset(folder)) == 4


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty/n01440764").mkdir(parents=True)
    with pytest.raises(DataError, match="no such folder or file"):
        open_dataset(tmp_path / "none")
    with pytest.raises(DataError, match="empty holds no images"):
        open_dataset(tmp_path / "empty", labelled=False)
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(tmp_path / "empty", num_classes=1)
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match=r"bare holds no images.\nGive a folder with images"):
        open_dataset(tmp_path / "bare")


def test_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    (tmp_path / "val.txt").write_text("a.png 0\n")
    with pytest.raises(DataError, match=r"is an archive.\nUnpack it"):
        open_dataset(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r"val\.txt is not a data set"):
        open_dataset(tmp_path / "val.txt")


def test_splits_are_not_classes(tmp_path: Path) -> None:
    for name in ("train", "val"):
        image_folder(tmp_path / name, ["n01440764", "n01443537"])
    with pytest.raises(DataError, match=r"train, val, which are splits.*\nGive one of them.*val"):
        open_dataset(tmp_path)


def test_labels_must_fit_the_model(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, [1, 2, 3])
    assert len(open_dataset(root, num_classes=4)) == 3
    with pytest.raises(DataError, match=r"002\.png has 3.*\n.*subtract 1"):
        open_dataset(root, num_classes=3)


def test_labels_can_be_ignored(tmp_path: Path) -> None:
    root = image_folder(tmp_path, ["b", "a"])
    dataset = open_dataset(root, labelled=False, num_classes=1)
    assert dataset.labels is None
    assert dataset.names == ("a/000.png", "a/001.png", "b/000.png", "b/001.png")


def test_a_list_names_images_where_labels_are_left_aside(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, [0, 1, 2, 1])
    images = sorted(path.name for path in root.rglob("*.png"))
    (root / "val.txt").unlink()
    lines = [f"{images[0]} cat", images[1], "", f"{images[3]} 99"]
    (tmp_path / "some.txt").write_text("\n".join(lines) + "\n")
    with pytest.raises(LabelError, match="cannot be read as name and label"):
        open_dataset(root, list_file=tmp_path / "some.txt", num_classes=3)
    dataset = open_dataset(root, list_file=tmp_path / "some.txt", num_classes=3, labelled=False)
    assert dataset.labels is None
    assert dataset.names == (images[0], images[1], images[3])
    assert dataset.opening is not None
    assert reopen(dataset.opening).names == dataset.names


FORMATS: dict[str, Callable[[Path, list[int]], Path]] = {
    "npz": lambda path, labels: npz_file(path / "a.npz", labels),
    "recordio": lambda path, labels: record_file(path / "a.rec", labels),
    "webdataset": lambda path, labels: tar_shard(path / "a.tar", pairs(labels)),
    **(
        {"lmdb": lambda path, labels: lmdb_folder(path / "lmdb", [raw_datum(x) for x in labels])}
        if find_spec("lmdb")
        else {}
    ),
    **(
        {"parquet": lambda path, labels: parquet_file(path / "a.parquet", labels)}
        if find_spec("pyarrow")
        else {}
    ),
}


@pytest.mark.parametrize("kind", sorted(FORMATS))
def test_a_file_can_be_read_without_its_labels(tmp_path: Path, kind: str) -> None:
    path = FORMATS[kind](tmp_path, [0, 99, 1])
    assert open_dataset(path).labels is not None
    with pytest.raises(LabelError, match="Labels out of range"):
        open_dataset(path, num_classes=5)
    dataset = open_dataset(path, num_classes=5, labelled=False)
    assert (dataset.labels, dataset.label_source, len(dataset)) == (None, "none", 3)
    assert dataset.names == open_dataset(path).names
    assert dataset[1].label is None


@pytest.mark.data
def test_the_real_folders(data_root: Path) -> None:
    root = data_root / "imagenet"
    calibration = open_dataset(root / "calib1000", num_classes=1000)
    assert calibration.label_source == "folder names: wnids in synset_words.txt"
    assert calibration.labels is not None
    assert calibration.labels.tolist() == list(range(1000))
    assert calibration.class_names is not None
    assert calibration.class_names[0] == "tench, Tinca tinca"
    validation = open_dataset(root / "val1300", num_classes=1000)
    assert (len(validation), validation.problems) == (1300, ())
    assert validation.names[0] == "ILSVRC2012_val_00000347.JPEG"
    assert validation[0].label == 472
    few = open_dataset(root / "imagenette500/val", list_file=root / "imagenette500/val.txt")
    assert few.labels is not None
    assert np.unique(few.labels).size == 10
    with pytest.raises(DataError, match=r"names 50000 images, but none of them is in"):
        open_dataset(root)
