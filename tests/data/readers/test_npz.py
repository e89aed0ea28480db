from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib import format as npy

from quantlab.data.readers import npz, open_dataset
from quantlab.errors import DataError
from quantlab.testing import npz_file, truncate

IMAGES = np.zeros((3, 8, 8, 3), np.uint8)


def save(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "a.npz", **arrays)
    return tmp_path / "a.npz"


def test_images_and_labels(tmp_path: Path) -> None:
    dataset = open_dataset(npz_file(tmp_path / "a.npz", [4, 2]))
    assert dataset.labels is not None
    assert (dataset.labels.dtype, dataset.labels.tolist()) == (np.dtype(np.int64), [4, 2])
    assert dataset.names == ("a.npz[0]", "a.npz[1]")
    assert dataset[1].image.size == (64, 64)


def test_opening_does_not_read_the_images(tmp_path: Path) -> None:
    dataset = open_dataset(npz_file(tmp_path / "a.npz", [4, 2]))
    assert isinstance(dataset.source, npz.NpzSource)
    assert dataset.source._images is None


def test_labels_are_optional_and_compression_is_fine(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "c.npz", images=IMAGES)
    dataset = open_dataset(tmp_path / "c.npz")
    assert dataset.labels is None
    assert len(dataset) == 3
    assert dataset[0].label is None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, "has no array 'images'"),
        ({"images": IMAGES.astype(np.float32)}, r"'images' is float32 \[3, 8, 8, 3\], not uint8"),
        ({"images": IMAGES[..., 0]}, r"'images' is uint8 \[3, 8, 8\]"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"\[3, 3, 8, 8\], not uint8 \[n, h, w, 3\]"),
        ({"images": IMAGES[:, :0]}, r"\[3, 0, 8, 3\]"),
        ({"images": IMAGES[:0]}, "holds no images"),
        ({"images": IMAGES, "labels": np.zeros(2, int)}, r"'labels' is int64 \[2\], not integers"),
        ({"images": IMAGES, "labels": np.zeros(3)}, "'labels' is float64"),
        ({"images": IMAGES, "labels": np.eye(3, dtype=int)}, r"\[3, 3\], not integers \[3\]"),
        ({"images": IMAGES, "labels": np.array([{}, 1, 2])}, "holds objects"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(save(tmp_path, **arrays))


def declare(path: Path, shape: tuple[int, ...], payload: bytes = b"") -> Path:
    buffer = io.BytesIO()
    header = {"shape": shape, "fortran_order": False, "descr": "|u1"}
    npy.write_array_header_1_0(buffer, header)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", buffer.getvalue() + payload)
    return path


@pytest.mark.parametrize("shape", [(10**6, 1000, 1000, 3), (5, 8, 8, 3), (-1, 8, 8, 3)])
def test_a_header_that_lies_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"not a readable .npz: .*less than it declares|no images"):
        open_dataset(declare(tmp_path / "a.npz", shape))


def test_the_bounds_hold_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = npz_file(tmp_path / "a.npz", [1, 2])
    monkeypatch.setattr(npz, "MAX_BYTES", 64 * 64 * 3 * 2 - 1)
    with pytest.raises(DataError, match=r"'images' \[2, 64, 64, 3\] is over the bound"):
        open_dataset(path)


def test_damaged_archives(tmp_path: Path) -> None:
    path = npz_file(tmp_path / "a.npz", [1, 2])
    data = bytearray(path.read_bytes())
    data[3000] ^= 255
    (tmp_path / "flipped.npz").write_bytes(bytes(data))
    flipped = open_dataset(tmp_path / "flipped.npz")
    with pytest.raises(DataError, match=r"not a readable .npz: Bad CRC-32"):
        flipped[0]
    with pytest.raises(DataError, match=r"not a readable .npz"):
        open_dataset(truncate(path))
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"File is not a zip file.\nSave it again"):
        open_dataset(tmp_path / "text.npz")
