from __future__ import annotations

from pathlib import Path

from quantlab.data.readers import open_dataset
from quantlab.testing import photo


def put(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        photo(0, i).save(root / name)


def test_images_anywhere_below_in_sorted_order(tmp_path: Path) -> None:
    put(tmp_path, "b.png", "a.JPG", "z/c.png", "m/n/d.webp")
    dataset = open_dataset(tmp_path)
    assert dataset.labels is None
    assert dataset.names == ("a.JPG", "b.png", "m/n/d.webp", "z/c.png")
    assert dataset.label_source == "none"
    assert dataset[2].label is None


def test_images_only_deep_down_have_no_class_folders(tmp_path: Path) -> None:
    put(tmp_path, "2024/may/a.png", "2025/june/b.png")
    (tmp_path / "notes").mkdir()
    assert open_dataset(tmp_path).names == ("2024/may/a.png", "2025/june/b.png")


def test_undecodable_formats_are_kept_to_be_reported(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    (tmp_path / "b.heic").write_bytes(b"....ftypheic")
    assert open_dataset(tmp_path).names == ("a.png", "b.heic")
