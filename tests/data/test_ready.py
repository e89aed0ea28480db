"""Inputs written, listed and read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.data.crops import Crops, cache_key, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import npz, open_dataset
from quantlab.data.ready import file_names, write_inputs
from quantlab.errors import DataError
from quantlab.model.model import InputSpec, Model
from quantlab.testing import image_folder, tiny_classifier

PIPELINE = get_pipeline("torchvision", 32)


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    dataset = open_dataset(image_folder(tmp_path / "images", 3, size=(50, 40)))
    return load_crops(dataset, PIPELINE, cache_dir=tmp_path / "cache")


def spec(tmp_path: Path, **parts: Any) -> InputSpec:
    return Model.load(tiny_classifier(tmp_path / "m.onnx", **parts)).input


def written(crops: Crops, spec: InputSpec, folder: Path) -> Path:
    write_inputs(crops, spec, folder, lambda done, total: None)
    return folder


@pytest.mark.parametrize("parts", [{}, {"layout": "NHWC"}, {"dtype": "uint8"}])
def test_files_hold_a_models_input_and_label(
    crops: Crops, tmp_path: Path, parts: dict[str, Any]
) -> None:
    made = spec(tmp_path, **parts)
    folder = written(crops, made, tmp_path / "out")
    lines = (folder / "npz_datalist.txt").read_text().splitlines()
    assert lines[:3] == ["0/000.npz 0", "0/001.npz 0", "1/000.npz 1"]
    with np.load(folder / "1" / "000.npz") as archive:
        assert (archive["label"].dtype, int(archive["label"])) == (np.dtype(np.int64), 1)
        expected = crops.inputs(slice(2, 3), made)
        assert archive["input"].dtype == expected.dtype
        assert np.array_equal(archive["input"], expected)


@pytest.mark.parametrize("place", ["", "npz_datalist.txt"])
def test_read_again_they_are_the_same_crops(crops: Crops, tmp_path: Path, place: str) -> None:
    folder = written(crops, spec(tmp_path), tmp_path / "out")
    dataset = open_dataset(folder / place)
    again = load_crops(dataset, PIPELINE, cache_dir=tmp_path / "cache")
    assert dataset.label_source == "npz_datalist.txt: class indices"
    assert again.names[:3] == ("0/000.npz", "0/001.npz", "1/000.npz")
    assert again.labels is not None
    assert crops.labels is not None
    assert np.array_equal(again.labels, crops.labels)
    assert np.array_equal(again.array, crops.array)


def test_another_pipeline_is_noticed_and_spoils_nothing(crops: Crops, tmp_path: Path) -> None:
    dataset = open_dataset(written(crops, spec(tmp_path), tmp_path / "out"))
    cache = tmp_path / "cache"
    other = get_pipeline("tf", 32)
    with pytest.raises(DataError, match=r"6 of 6 .*the pipeline tf gives \(--pipeline names"):
        load_crops(dataset, other, cache_dir=cache)
    assert len(load_crops(dataset, PIPELINE, cache_dir=cache)) == 6
    assert cache_key(dataset, other) != cache_key(dataset, PIPELINE)


def test_inputs_are_no_images(crops: Crops, tmp_path: Path) -> None:
    dataset = open_dataset(written(crops, spec(tmp_path, dtype="uint8"), tmp_path / "out"))
    with pytest.raises(DataError, match=r"0/000\.npz: an input of a model, no image any more"):
        dataset[0]
    image = replace(dataset, ready=False)
    assert image.content_digest(0) != dataset.content_digest(0)
    assert dataset.subset([1]).ready


def test_labels_are_needed(crops: Crops, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no labels, .*npz_datalist\.txt needs one"):
        written(replace(crops, labels=None), spec(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_files_are_bad_images(
    crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written(crops, spec(tmp_path), tmp_path / "out")
    (folder / "0" / "000.npz").write_bytes(b"hello")
    np.savez(folder / "0" / "001.npz", data=np.zeros(3))
    np.savez(folder / "1" / "000.npz", input=np.array([{}]))
    (folder / "1" / "001.npz").unlink()
    dataset = open_dataset(folder)
    found = load_crops(dataset, PIPELINE, cache_dir=tmp_path / "cache", max_bad=0.9)
    bad = "not a readable .npz with an array 'input'"
    assert [(p.name, p.reason) for p in found.problems] == [
        ("1/001.npz", "in the list, but there is no such file"),
        *((name, bad) for name in ("0/000.npz", "0/001.npz", "1/000.npz")),
    ]
    monkeypatch.setattr(npz, "MAX_INPUT_BYTES", 100)
    with pytest.raises(DataError, match=r"2/000\.npz: not a readable"):
        dataset.source.read(3)


def test_names_stay_inside_and_apart() -> None:
    names = [
        "a/b.JPEG",
        "c.png",
        "c.jpg",
        "../../etc/x",
        "/abs.png",
        "v.rec[0]",
        "a\\b\n:*.png",
        "..",
    ]
    assert file_names(names) == [
        "a/b.npz",
        "00000001_c.png.npz",
        "00000002_c.jpg.npz",
        "etc/x.npz",
        "abs.npz",
        "v.rec[0].npz",
        "a_b___.npz",
        "image.npz",
    ]
