"""A tiny model and a few images for examples: made in code, in no file of the reader's."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from quantlab.model.model import Model
from quantlab.testing.images import image_folder, pixels
from quantlab.testing.models import taught, tiny_classifier

CLASSES = 4
SIZE = 32
SIDE = 40


def example_model() -> Model:
    """A classifier of four classes that takes images of 32 x 32, and tells those of
    ``example_images`` apart."""
    with TemporaryDirectory() as folder:
        return Model.of(example_file(Path(folder) / "tiny.onnx").read_bytes(), name="tiny")


def example_file(path: Path) -> Path:
    """Writes the same model to ``path`` and returns that."""
    tiny_classifier(path, classes=CLASSES, size=SIZE)
    with TemporaryDirectory() as folder:
        return taught(path, image_folder(Path(folder), CLASSES, 8, SIDE), "torchvision")


def example_images(
    per_class: int = 8, seed: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 [n, 40, 40, 3] and their labels int64 [n]; another ``seed`` gives others."""
    labels = np.repeat(np.arange(CLASSES), per_class)
    made = [pixels(int(label), seed * 1000 + i, SIDE) for i, label in enumerate(labels)]
    return np.stack(made), labels
