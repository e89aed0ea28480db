from __future__ import annotations

from pathlib import Path

import numpy as np

from quantlab.testing import image_folder, listed_folder, photo, pixels


def test_images_are_deterministic_and_different() -> None:
    assert np.array_equal(pixels(1, 2, 30), pixels(1, 2, 30))
    assert not np.array_equal(pixels(1, 2, 30), pixels(1, 3, 30))
    assert not np.array_equal(pixels(1, 2, 30), pixels(2, 2, 30))
    assert photo(size=(30, 20)).size == (30, 20)


def test_folders_are_what_they_say(tmp_path: Path) -> None:
    image_folder(tmp_path / "a", ["x", "y"], per_class=3)
    assert len(list((tmp_path / "a/y").glob("*.png"))) == 3
    listed_folder(tmp_path / "b", [5, 6])
    assert (tmp_path / "b/val.txt").read_text() == "000.png 5\n001.png 6\n"
