"""Coming: crops that are used while they are decoded."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.data import crops as crops_module
from quantlab.data.crops import DecodedRow, crops_path, load_crops
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.data.streaming import StreamingCrops, streaming_crops
from quantlab.errors import OutputError
from quantlab.testing import image_folder

PIPELINE: Pipeline = get_pipeline("tf", 32)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    folder = image_folder(tmp_path / "images", 4, per_class=3, size=40)
    sorted(folder.rglob("*.*"))[5].write_bytes(b"no image")
    return open_dataset(folder)


@pytest.fixture
def path(dataset: Dataset, tmp_path: Path) -> Path:
    (tmp_path / "crops").mkdir()
    return crops_path(dataset, PIPELINE, tmp_path / "crops")


def test_rows_are_those_of_the_cache_it_leaves(dataset: Dataset, path: Path) -> None:
    with streaming_crops(path, dataset, PIPELINE) as coming:
        late = coming.pixels(np.array([11, 0]))
        taken = coming.pixels(np.arange(12))
    crops = load_crops(dataset, PIPELINE, cache_dir=path.parent, max_bad=0.2)
    assert coming.usable.sum() == len(crops) == 11
    np.testing.assert_array_equal(taken[coming.usable], crops.array)
    np.testing.assert_array_equal(late, taken[[11, 0]])
    assert not taken[~coming.usable].any()


def test_a_reader_waits_for_its_row(
    dataset: Dataset, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, crop = threading.Event(), crops_module._planes_or_reason

    def held(dataset: Dataset, pipeline: Pipeline, index: int) -> Any:
        assert go.wait(10)
        return crop(dataset, pipeline, index)

    monkeypatch.setattr(crops_module, "_planes_or_reason", held)
    with streaming_crops(path, dataset, PIPELINE) as coming:
        assert len(coming.usable) == 0
        threading.Timer(0.05, go.set).start()
        assert coming.pixels(np.array([0])).any()


def test_leaving_early_leaves_nothing(
    dataset: Dataset, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, note, leave = threading.Event(), StreamingCrops.note, StreamingCrops.leave
    before = set(threading.enumerate())

    def held(self: StreamingCrops, row: DecodedRow) -> None:
        assert row.path.stat().st_size < 4000 or left.wait(10)
        note(self, row)

    monkeypatch.setattr(StreamingCrops, "note", held)
    monkeypatch.setattr(StreamingCrops, "leave", lambda self: (leave(self), left.set()))
    block = streaming_crops(path, dataset, PIPELINE)
    block.__enter__().pixels(np.array([0]))
    error = KeyboardInterrupt()
    assert not block.__exit__(KeyboardInterrupt, error, None)
    assert list(path.parent.iterdir()) == []
    assert set(threading.enumerate()) <= before


def test_what_ends_decoding_ends_the_reader(
    dataset: Dataset, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(dataset: Dataset, pipeline: Pipeline, index: int) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crops_module, "_planes_or_reason", full)
    with (
        pytest.raises(OutputError, match="the disk is full"),
        streaming_crops(path, dataset, PIPELINE) as coming,
    ):
        coming.pixels(np.array([3]))
    assert list(path.parent.iterdir()) == []
