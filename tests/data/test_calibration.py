"""Calibration images as batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab.data.calibration import BATCH_SIZE, CalibrationImages
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import InputSpec
from quantlab.testing import image_folder

SPEC = InputSpec("input", "NCHW", "float32", 32, 32, None)
PIPELINE = {
    "resizer": "pillow-bilinear",
    "resize": 36,
    "crop": 32,
    "mean": [100, 110, 120],
    "std": [50, 60, 70],
}


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    folder = image_folder(tmp_path / "images", 10, per_class=2, size=40)
    return load_crops(open_dataset(folder), get_pipeline(PIPELINE), cache_dir=tmp_path / "crops")


def test_every_image_once_and_always_in_the_same_order(crops: Crops) -> None:
    images = CalibrationImages(crops, SPEC)
    batches = list(images)
    assert len(images) == 20
    assert [len(b) for b in batches] == [BATCH_SIZE, 20 - BATCH_SIZE]
    whole = np.concatenate(batches)
    np.testing.assert_array_equal(whole, crops.pipeline.to_input(crops.array, SPEC))
    np.testing.assert_array_equal(whole, np.concatenate(list(images)))


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * 20), (8, [8, 8, 8]), (32, [32])])
def test_a_fixed_batch_is_filled_up_with_the_last_image(
    crops: Crops, batch: int, sizes: list[int]
) -> None:
    batches = list(CalibrationImages(crops, replace(SPEC, batch=batch)))
    assert [len(b) for b in batches] == sizes
    whole = np.concatenate(batches)
    plain = np.concatenate(list(CalibrationImages(crops, SPEC)))
    np.testing.assert_array_equal(whole[:20], plain)
    assert all(np.array_equal(extra, plain[-1]) for extra in whole[20:])


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize(("layout", "shape"), [("NCHW", (3, 32, 32)), ("NHWC", (32, 32, 3))])
def test_batches_are_shaped_like_the_models_input(
    crops: Crops, layout: str, shape: tuple[int, ...], dtype: str
) -> None:
    spec = replace(SPEC, layout=layout, dtype=dtype)
    first = next(iter(CalibrationImages(crops, spec)))
    assert (first.shape[1:], str(first.dtype)) == (shape, dtype)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_images_seen_do_not_stay_in_memory(tmp_path: Path) -> None:
    """200 crops of 150 KB, 30 MB in all, through a memory map."""
    np.save(tmp_path / "crops.npy", np.ones((200, 3, 224, 224), np.uint8))
    planes = np.load(tmp_path / "crops.npy", mmap_mode="r")
    names = tuple("" for _ in range(200))
    pipeline = get_pipeline({**PIPELINE, "crop": 224, "resize": 256})
    spec = replace(SPEC, height=224, width=224)
    images = CalibrationImages(Crops(planes, names, None, names, "", pipeline, ()), spec)
    before = _mapped_kib()
    for _ in images:
        assert _mapped_kib() - before < 5_000


def _mapped_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "RssFile" in line)
