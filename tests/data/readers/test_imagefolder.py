from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantlab.data.readers import open_dataset
from quantlab.errors import DataError
from quantlab.testing import image_folder, photo


def labels(root: Path, **options: int) -> list[int]:
    dataset = open_dataset(root, **options)  # type: ignore[arg-type]
    assert dataset.labels is not None
    return [int(label) for label in dataset.labels]


def test_folders_named_by_index_sort_by_number_through_the_label(tmp_path: Path) -> None:
    root = image_folder(tmp_path, ["0", "2", "10"], per_class=1)
    assert open_dataset(root).names == ("0/000.png", "10/000.png", "2/000.png")
    assert labels(root) == [0, 10, 2]


def test_folders_named_by_wnid(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "set/val", ["n01443537", "n01440764"], per_class=1)
    (tmp_path / "synsets.txt").write_text("n00000001\nn01440764\nn01443537\n")
    assert labels(root) == [1, 2]
    assert labels(root, num_classes=3) == [1, 2]
    with pytest.raises(DataError, match="holds 2 of 4 classes"):
        labels(root, num_classes=4)


def test_folders_named_by_class(tmp_path: Path) -> None:
    root = image_folder(tmp_path, ["zebra", "ant"], per_class=2)
    dataset = open_dataset(root)
    assert labels(root) == [0, 0, 1, 1]
    assert dataset.class_names == ("ant", "zebra")
    synsets = tmp_path / "my.txt"
    synsets.write_text("n00000001 zebra\nn00000002 Ant, pismire\n")
    by_file = open_dataset(root, synsets=synsets)
    assert by_file.labels is not None
    assert by_file.labels.tolist() == [1, 1, 0, 0]
    assert by_file.label_source == "folder names: class names in my.txt"


def test_an_empty_class_keeps_its_place(tmp_path: Path) -> None:
    root = image_folder(tmp_path, ["a", "c"], per_class=1)
    (root / "b").mkdir()
    assert labels(root) == [0, 2]


def test_images_deeper_down_other_files_and_hidden_ones(tmp_path: Path) -> None:
    root = image_folder(tmp_path, ["a", "b"], per_class=1)
    (root / "a/images").mkdir()
    photo().save(root / "a/images/deep.JPEG")
    (root / "a/notes.txt").write_text("")
    (root / "a/._000.png").write_text("resource fork")
    (root / ".cache").mkdir()
    photo().save(root / ".cache/x.png")
    assert open_dataset(root).names == ("a/000.png", "a/images/deep.JPEG", "b/000.png")


def test_broken_links_are_problems_and_loops_end(tmp_path: Path) -> None:
    root = image_folder(tmp_path / "d", ["a", "b"], per_class=1)
    (root / "a/gone.png").symlink_to(tmp_path / "gone.png")
    (root / "a/loop").symlink_to(root / "a")
    os.mkfifo(root / "b/pipe.png")
    dataset = open_dataset(root)
    assert dataset.names == ("a/000.png", "b/000.png")
    assert [p.name for p in dataset.problems] == ["a/gone.png", "b/pipe.png"]
    assert "not a regular file" in dataset.problems[0].reason


def test_linked_class_folders_count(tmp_path: Path) -> None:
    image_folder(tmp_path / "store", ["a", "b"], per_class=1)
    root = tmp_path / "d"
    root.mkdir()
    for name in ("a", "b"):
        (root / name).symlink_to(tmp_path / "store" / name)
    assert open_dataset(root).names == ("a/000.png", "b/000.png")
