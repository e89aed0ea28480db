from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.data import crops as crops_module
from quantlab.data.crops import Crops, cache_key, load_crops
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError, OutputError
from quantlab.model.model import InputSpec
from quantlab.testing import image_folder, listed_folder, npz_file, photo, truncate

PIPELINE = get_pipeline("torchvision", 32)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "images", 4, per_class=3, size=(50, 40))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def files(cache: Path) -> list[str]:
    return sorted(p.suffix for p in cache.iterdir())


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(crops_module, "_planes_or_reason", fail)


def test_crops_are_those_of_the_pipeline_in_order(images: Path, cache: Path) -> None:
    dataset = open_dataset(images)
    crops = load_crops(dataset, PIPELINE, cache_dir=cache, workers=3)
    assert crops.array.shape == (12, 32, 32, 3)
    assert crops.array.dtype == np.uint8
    for i in range(12):
        assert np.array_equal(crops.array[i], PIPELINE.crop_image(dataset[i].image))
    assert crops.names == dataset.names
    assert crops.labels is not None
    assert crops.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert crops.digests == dataset.content_digests
    assert (crops.dataset_digest, crops.pipeline) == (dataset.digest, PIPELINE)
    assert crops.problems == ()
    assert len(crops) == 12
    assert not crops.array.flags.writeable


@pytest.mark.parametrize("rows", [slice(2, 7), np.array([11, 0, 3])])
def test_a_batch_is_the_same_however_pixels_lie_in_memory(
    images: Path, cache: Path, rows: Any
) -> None:
    crops = load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    taken = crops.pixels(rows)
    assert taken.transpose(0, 3, 1, 2).flags.c_contiguous
    assert not np.shares_memory(taken, crops.planes)
    assert np.array_equal(taken, crops.array[rows])
    spec = InputSpec("input", "NCHW", "float32", 32, 32, None)
    made = PIPELINE.to_input(np.ascontiguousarray(taken), spec)
    assert crops.inputs(rows, spec).tobytes() == made.tobytes()


def test_the_second_time_nothing_is_decoded(
    images: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    assert files(cache) == [".json", ".npy"]
    forbid_decoding(monkeypatch)
    second = load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    assert np.array_equal(first.array, second.array)
    assert isinstance(second.array, np.memmap)


def test_pipelines_of_one_geometry_share_crops(
    images: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    forbid_decoding(monkeypatch)
    crops = load_crops(open_dataset(images), get_pipeline("tf", 32), cache_dir=cache)
    assert crops.pipeline.name == "tf"


def test_the_key_follows_images_geometry_and_versions(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_dataset(images)
    keys = {cache_key(dataset, get_pipeline(name, 32)) for name in ("tf", "lite", "inc")}
    keys.add(cache_key(dataset.subset(range(11)), PIPELINE))
    monkeypatch.setattr("PIL.__version__", "0.0")
    keys.add(cache_key(dataset, PIPELINE))
    monkeypatch.setattr(crops_module, "opencv_version", lambda: "0.0")
    keys.add(cache_key(dataset, get_pipeline("inc", 32)))
    assert len(keys) == 6


@pytest.fixture
def damaged(tmp_path: Path) -> Dataset:
    root = listed_folder(tmp_path / "listed", list(range(8)))
    truncate(root / "002.png")
    (root / "005.png").write_bytes(b"")
    (root / "007.png").unlink()
    return open_dataset(root)


def test_bad_images_are_left_out_and_named_also_from_the_cache(
    damaged: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(crops: Crops) -> None:
        assert crops.names == ("000.png", "001.png", "003.png", "004.png", "006.png")
        assert crops.labels is not None
        assert crops.labels.tolist() == [0, 1, 3, 4, 6]
        assert [(p.name, p.reason) for p in crops.problems] == [
            ("007.png", "in the list, but there is no such file"),
            ("002.png", "the file is truncated"),
            ("005.png", "the file is empty"),
        ]
        assert crops.digests[2] == damaged.content_digest(3)
        for row, index in enumerate((0, 1, 3, 4, 6)):
            expected = PIPELINE.crop_image(damaged[index].image)
            assert np.array_equal(crops.array[row], expected)

    check(load_crops(damaged, PIPELINE, cache_dir=cache, max_bad=0.5))
    forbid_decoding(monkeypatch)
    check(load_crops(damaged, PIPELINE, cache_dir=cache, max_bad=0.5))


def test_too_many_bad_images_stop_also_from_the_cache(damaged: Dataset, cache: Path) -> None:
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            load_crops(damaged, PIPELINE, cache_dir=cache)
        assert "3 of 8 images cannot be used (37.5%, allowed are 1%)" in caught.value.problem
        assert "002.png: the file is truncated" in caught.value.problem
        assert "--max-bad" in caught.value.remedy
    assert len(load_crops(damaged, PIPELINE, cache_dir=cache, max_bad=0.375)) == 5


def test_no_readable_image_is_an_error_whatever_is_allowed(tmp_path: Path, cache: Path) -> None:
    root = image_folder(tmp_path / "d", 1, per_class=2)
    for path in root.rglob("*.png"):
        path.write_text("no image")
    for _ in range(2):
        with pytest.raises(DataError, match=r"2 of 2 images cannot be used"):
            load_crops(open_dataset(root), PIPELINE, cache_dir=cache, max_bad=1)


def test_a_sliver_is_a_bad_image(tmp_path: Path, cache: Path) -> None:
    root = image_folder(tmp_path / "d", 1, per_class=2)
    photo(size=(1, 60000)).save(root / "0/000.png")
    crops = load_crops(open_dataset(root), PIPELINE, cache_dir=cache, max_bad=0.5)
    assert crops.problems[0].reason == "1 x 60000 is too elongated to be resized"


def test_a_vanished_file_is_a_bad_image(images: Path, cache: Path) -> None:
    dataset = open_dataset(images)
    (images / "0/000.png").unlink()
    crops = load_crops(dataset, PIPELINE, cache_dir=cache, max_bad=0.5)
    assert crops.problems[0].reason == "cannot be read: no such file or directory"


@pytest.mark.parametrize("damage", ["array", "side", "rows", "nonsense"])
def test_a_damaged_cache_is_rebuilt(images: Path, cache: Path, damage: str) -> None:
    first = np.array(load_crops(open_dataset(images), PIPELINE, cache_dir=cache).array)
    array, side = next(cache.glob("*.npy")), next(cache.glob("*.json"))
    if damage == "array":
        truncate(array)
    elif damage == "side":
        side.unlink()
    elif damage == "rows":
        side.write_text(json.dumps({"rows": 11, "bad": [[0, "gone"]]}))
    else:
        side.write_text("[]")
    again = load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    assert np.array_equal(first, again.array)


def test_the_cache_says_what_the_crops_are_of(images: Path, cache: Path) -> None:
    crops = load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    side = json.loads(next(cache.glob("*.json")).read_text())
    assert side["of"] == f"12 images of {images} (pillow-bilinear, 32 pixels)"
    assert crops.root == str(images)


def test_crops_are_touched_when_used(images: Path, cache: Path) -> None:
    crops = load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    (path,) = cache.glob("*.npy")
    for use in (crops.touch, lambda: load_crops(open_dataset(images), PIPELINE, cache_dir=cache)):
        os.utime(path, (0, 0))
        use()
        assert path.stat().st_mtime > 0


def test_crops_stay_readable_when_they_are_evicted(images: Path, cache: Path) -> None:
    crops = load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    before = np.array(crops.array)
    for path in cache.iterdir():
        path.unlink()
    crops.touch()
    assert np.array_equal(crops.array, before)


@pytest.mark.parametrize("times", [1, 2, 3])
def test_crops_evicted_before_they_are_opened_are_made_again(
    times: int, images: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, made = crops_module.decode_to, []

    def evicted(path: Path, *rest: Any, **more: Any) -> None:
        decode(path, *rest, **more)
        made.append(path)
        if len(made) <= times:
            path.unlink()

    monkeypatch.setattr(crops_module, "decode_to", evicted)
    if times < 3:
        assert len(load_crops(open_dataset(images), PIPELINE, cache_dir=cache)) == 12
    else:
        with pytest.raises(OutputError, match="vanished"):
            load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    assert len(made) == min(times + 1, 3)


def test_progress_counts_every_image(images: Path, cache: Path) -> None:
    calls: list[tuple[int, int]] = []
    dataset = open_dataset(images)
    load_crops(dataset, PIPELINE, cache_dir=cache, progress=lambda *c: calls.append(c))
    assert calls == [(i + 1, 12) for i in range(12)]
    load_crops(dataset, PIPELINE, cache_dir=cache, progress=lambda *c: calls.append(c))
    assert len(calls) == 12


def test_an_unwritable_cache_is_an_error(images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        load_crops(open_dataset(images), PIPELINE, cache_dir=tmp_path / "file")


def test_a_full_disk_is_an_error_and_leaves_nothing(
    images: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crops_module, "_write_header", full)
    with pytest.raises(OutputError, match="the disk is full"):
        load_crops(open_dataset(images), PIPELINE, cache_dir=cache)
    assert files(cache) == []


def test_an_interruption_leaves_nothing(images: Path, cache: Path) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_crops(open_dataset(images), PIPELINE, cache_dir=cache, progress=interrupt)
    assert files(cache) == []


def test_concurrent_writers_agree(images: Path, cache: Path) -> None:
    results: list[Crops] = []

    def work() -> None:
        results.append(load_crops(open_dataset(images), PIPELINE, cache_dir=cache, workers=1))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(np.array_equal(r.array, results[0].array) for r in results)
    assert files(cache) == [".json", ".npy"]


def test_npz_and_unlabelled(tmp_path: Path, images: Path, cache: Path) -> None:
    from_npz = load_crops(
        open_dataset(npz_file(tmp_path / "a.npz", [2, 1])), PIPELINE, cache_dir=cache
    )
    assert from_npz.names == ("a.npz[0]", "a.npz[1]")
    unlabelled = load_crops(open_dataset(images, labelled=False), PIPELINE, cache_dir=cache)
    assert unlabelled.labels is None
    assert len(unlabelled) == 12


@pytest.mark.data
def test_all_validation_images(data_root: Path, cache: Path) -> None:
    dataset = open_dataset(data_root / "imagenet/val1300", num_classes=1000)
    crops = load_crops(dataset, get_pipeline("torchvision"), cache_dir=cache)
    assert crops.array.shape == (1300, 224, 224, 3)
    assert crops.problems == ()
