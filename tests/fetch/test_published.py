"""The real wheels, from the package index: each is fetched once a session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from PIL import Image

from quantlab.fetch import fetch
from quantlab.model.model import Model

Fetched = Callable[[str], Path]
Floats = NDArray[np.float32]
IMAGENET_MEAN = np.array([123.675, 116.28, 103.53], np.float32)
IMAGENET_STD = np.array([58.395, 57.12, 57.375], np.float32)


def crop(path: Path, resample: Image.Resampling) -> Floats:
    """Shorter side 256, centre 224, restated here so that it owes nothing to quantlab's own."""
    with Image.open(path) as image:
        width, height = image.size
        scale = 256 / min(width, height)
        size = (int(width * scale), int(height * scale))
        small = image.convert("RGB").resize(size, resample)
    left, top = (size[0] - 224) // 2, (size[1] - 224) // 2
    return np.asarray(small.crop((left, top, left + 224, top + 224)), np.float32)


def torchvision(paths: Sequence[Path]) -> Floats:
    images = np.stack([crop(p, Image.Resampling.BILINEAR) for p in paths])
    return ((images - IMAGENET_MEAN) / IMAGENET_STD).transpose(0, 3, 1, 2).copy()


def lite(paths: Sequence[Path]) -> Floats:
    images = np.stack([crop(p, Image.Resampling.BICUBIC) for p in paths])
    return ((images - np.float32(127)) / np.float32(128)).transpose(0, 3, 1, 2).copy()


def logits(model: Path, images: Floats) -> Floats:
    session = ort.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    result: Floats = session.run(["output"], {"input": images})[0]
    return result


def labelled(list_file: Path, folder: Path) -> tuple[list[Path], NDArray[np.int64]]:
    rows = [line.split() for line in list_file.read_text().splitlines()]
    return [folder / name for name, _ in rows], np.array([int(label) for _, label in rows])


def test_the_photos_are_whole(published_file: Fetched) -> None:
    folder = published_file("photos")
    paths, labels = labelled(folder / "val.txt", folder)
    assert len(paths) == len(set(paths)) == 20
    assert labels.min() >= 0
    assert labels.max() < 1000
    assert all(p.is_file() for p in paths)


@pytest.mark.parametrize(
    ("name", "prepare", "opset"),
    [("mobilenetv2-12", torchvision, 12), ("efficientnet-lite0", lite, 13)],
)
def test_models_from_wheels_know_the_photos(
    name: str, prepare: Callable[[Sequence[Path]], Floats], opset: int, published_file: Fetched
) -> None:
    folder, path = published_file("photos"), published_file(name)
    paths, labels = labelled(folder / "val.txt", folder)
    right = logits(path, prepare(paths)).argmax(axis=1) == labels
    assert right.sum() >= 17
    model = Model.load(path).check_classifier()
    assert (model.opset, model.num_classes, model.output_kind) == (opset, 1000, "logits")
    assert model.input.batch is None
    assert set(model.op_census) == {"Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"}


def test_class_names(published_file: Fetched) -> None:
    lines = published_file("imagenet-classes").read_text().splitlines()
    assert len(lines) == 1000
    assert lines[0] == "n01440764 tench, Tinca tinca"


@pytest.mark.data
def test_mobilenet_gives_the_zoos_logits(published_file: Fetched, data_root: Path) -> None:
    zoo = data_root / "models" / "mobilenetv2-12.onnx"
    paths = sorted((data_root / "imagenet" / "val1300" / "val").iterdir())[:32]
    images = torchvision(paths)
    difference = np.abs(logits(published_file("mobilenetv2-12"), images) - logits(zoo, images))
    assert difference.max() < 1e-4


@pytest.mark.data
def test_the_zoos_own_file_is_taken_where_it_is(data_root: Path, tmp_path: Path) -> None:
    for name in ("mobilenetv2-12", "mobilenetv2-12-int8"):
        path = fetch(name, cache_dir=tmp_path, from_dir=data_root / "models")
        assert path.read_bytes() == (data_root / "models" / f"{name}.onnx").read_bytes()


@pytest.mark.data
def test_efficientnet_scores_as_published(published_file: Fetched, data_root: Path) -> None:
    """Published 75.1 on all 50,000 images; these 1,300 are easier: 83.2, of which every fifth."""
    folder = data_root / "imagenet" / "val1300"
    paths, labels = labelled(folder / "val.txt", folder / "val")
    outputs = logits(published_file("efficientnet-lite0"), lite(paths[::5]))
    assert (outputs.argmax(axis=1) == labels[::5]).mean() > 0.8


@pytest.mark.data
def test_class_names_are_imagenets(published_file: Fetched, data_root: Path) -> None:
    expected = (data_root / "imagenet" / "synset_words.txt").read_bytes()
    assert published_file("imagenet-classes").read_bytes() == expected
