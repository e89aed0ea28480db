"""The benchmarks' images and what models answer to them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.paths import cache_dir
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import Pipeline
from quantlab.data.readers import open_dataset
from quantlab.data.sampler import stratified
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner

BATCH = 8


def crops_of(folder: Path, pipeline: Pipeline, size: int | None = None) -> Crops:
    """The crops of a folder of images, or of a sample of ``size``, balanced over the classes."""
    dataset = open_dataset(folder)
    if size is not None and size < len(dataset) and dataset.labels is not None:
        classes = int(dataset.labels.max()) + 1
        dataset = dataset.subset(stratified(dataset.labels, classes, size=size))
    return load_crops(dataset, pipeline, cache_dir=cache_dir() / "crops")


def labels_of(images: Iterable[Crops]) -> NDArray[np.int64]:
    """The labels of all these images."""
    return np.concatenate([c.labels for c in images if c.labels is not None])


def answers_of(model: Model, fp32: Model, images: Iterable[Crops]) -> NDArray[np.float32]:
    """The model's answers to all these images [n, classes]; ``fp32`` says what goes in."""
    with Runner(model) as run:
        parts = [
            run(c.inputs(slice(i, i + BATCH), fp32.input))
            for c in images
            for i in range(0, len(c), BATCH)
        ]
    return np.concatenate(parts)
