from __future__ import annotations

from pathlib import Path

import pytest

from quantlab.data.readers import LIST_NAMES, open_dataset
from quantlab.data.readers.listed import labels_of, parse_list
from quantlab.errors import DataError
from quantlab.testing import listed_folder, photo


def write_list(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "val.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("list_name", LIST_NAMES)
@pytest.mark.parametrize("subfolder", ["", "val"])
def test_lists_of_every_name(tmp_path: Path, list_name: str, subfolder: str) -> None:
    root = listed_folder(tmp_path, [7, 3, 5], list_name=list_name, subfolder=subfolder)
    dataset = open_dataset(root)
    assert dataset.names == ("000.png", "001.png", "002.png")
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [7, 3, 5]
    assert dataset.label_source == f"{list_name}: class indices"
    assert dataset[2].label == 5


def test_the_lists_order_counts(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, [0, 1, 2])
    (root / "val.txt").write_text("002.png 2\n\n000.png\t0\n")
    assert open_dataset(root).names == ("002.png", "000.png")


def test_an_explicit_list_wins(tmp_path: Path) -> None:
    root = listed_folder(tmp_path / "d", [0, 1, 2])
    other = tmp_path / "other.txt"
    other.write_text("\ufeff001.png 9\n", encoding="utf-8")
    dataset = open_dataset(root, list_file=other)
    assert dataset.names == ("001.png",)
    assert dataset[0].label == 9
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        open_dataset(root, list_file=tmp_path / "none.txt")


def test_wnids_as_labels(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, ["n01443537", "n01440764"])
    with pytest.raises(DataError, match=r"val\.txt holds 2 of 1000 classes.*\n.*--synsets"):
        open_dataset(root)
    (tmp_path / "synset_words.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    dataset = open_dataset(root)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [1, 0]
    assert dataset.label_source == "val.txt: wnids in synset_words.txt"
    assert dataset.class_names == ("tench", "goldfish")


def test_wnids_must_all_be_in_given_synsets(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, ["n01443537", "n01440764", "n00000001"])
    synsets = tmp_path / "mine.txt"
    synsets.write_text("n01440764\n")
    with pytest.raises(DataError, match="2 of 3 classes are not in"):
        open_dataset(root, synsets=synsets)


def test_kinds_of_labels_do_not_mix(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="some labels are wnids, some are indices"):
        open_dataset(listed_folder(tmp_path, ["n01443537", 3]))


def test_names_may_hold_spaces_and_folders(tmp_path: Path) -> None:
    (tmp_path / "my pictures").mkdir()
    photo().save(tmp_path / "my pictures/a b.png")
    write_list(tmp_path, "my pictures/a b.png 4\n")
    assert open_dataset(tmp_path).names == ("my pictures/a b.png",)


def test_missing_files_are_problems(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, [0, 1, 2])
    (root / "001.png").unlink()
    dataset = open_dataset(root)
    assert dataset.names == ("000.png", "002.png")
    assert [(p.name, p.reason) for p in dataset.problems] == [
        ("001.png", "in the list, but there is no such file")
    ]


def test_only_missing_files_is_an_error(tmp_path: Path) -> None:
    write_list(tmp_path, "a.png 0\nb.png 1\nc.png 2\nd.png 3\n")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert "names 4 images, but none of them is in" in caught.value.problem
    assert "(first: a.png, b.png, c.png and 1 more)" in caught.value.problem
    assert "Give the folder that holds them" in caught.value.remedy


def test_names_listed_twice(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, [0, 1])
    with (root / "val.txt").open("a") as file:
        file.write("000.png 0\n")
    dataset = open_dataset(root)
    assert len(dataset) == 2
    assert dataset.problems[0].reason == "listed again in line 3"
    with (root / "val.txt").open("a") as file:
        file.write("001.png 5\n")
    with pytest.raises(DataError, match=r"001\.png has the label 1 in line 2 and 5 in line 4"):
        open_dataset(root)


@pytest.mark.parametrize(
    "name",
    ["../x.png", "/etc/x.png", "a/../../x.png", r"..\x.png", r"C:\x.png", r"\\host\share\x.png"],
)
def test_names_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = write_list(tmp_path, f"a.png 0\n{name} 1\n")
    with pytest.raises(DataError, match=r"line 2: .* is outside the image folder"):
        parse_list(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\nb.png 1\n", r"line 1 \('a\.png'\) cannot be read as name and label"),
        ("a.png cat\n", "line 1"),
        ("a.png,1\n", "line 1"),
        ("a.png 1.5\n", "line 1"),
        ("a.png 99999999999999999999\n", "line 1"),
        ("x\nx\nx\nx\n", r"line 1 .*line 3 \('x'\) and 1 more cannot be read"),
        ("", r"val\.txt is empty.\nEach line is"),
    ],
)
def test_unreadable_lines_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_list(write_list(tmp_path, text))


def test_binary_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not text in UTF-8"):
        open_dataset(tmp_path)


def test_class_names_of_indices_need_a_model_of_that_size(tmp_path: Path) -> None:
    root = listed_folder(tmp_path, [0, 1])
    (tmp_path / "synset_words.txt").write_text("n01440764 tench\nn01443537 goldfish\n")
    assert open_dataset(root, num_classes=2).class_names == ("tench", "goldfish")
    assert open_dataset(root, num_classes=10).class_names is None


def test_labels_without_their_images(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("a b.png 3\nc 0\na b.png 3\n")
    names, labels = labels_of(path)
    assert (names, labels.tolist()) == (["a b.png", "c"], [3, 0])
    path.write_text("a n00000002\nb n00000001\n")
    (tmp_path / "synset_words.txt").write_text("n00000001 x\nn00000002 y\n")
    assert labels_of(path)[1].tolist() == [1, 0]
    other = tmp_path / "other.txt"
    other.write_text("n00000002 y\nn00000001 x\n")
    assert labels_of(path, synsets=other)[1].tolist() == [0, 1]
