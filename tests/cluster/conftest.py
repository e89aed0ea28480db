"""One small evaluation, and a cluster that all tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from waiting import HANGS

from quantlab.data.crops import Crops, load_crops
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing import image_folder, tiny_classifier
from quantlab.testing.cluster import dask_cluster

PIPELINE = get_pipeline(
    {
        "resizer": "pillow-bilinear",
        "resize": 36,
        "crop": 32,
        "mean": [127, 127, 127],
        "std": [64, 64, 64],
    }
)


@dataclass(frozen=True)
class Scene:
    """Images, a model, and what it answers on each image alone."""

    dataset: Dataset
    pipeline: Pipeline
    model: Model
    crops: Crops

    @property
    def answers(self) -> NDArray[np.float32]:
        """Of all images, float32 [n, classes]."""
        inputs = self.crops.inputs(slice(None), self.model.input)
        with Runner(self.model, threads=1) as run:
            return np.concatenate([run(inputs[i : i + 1]) for i in range(len(inputs))])


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    folder = image_folder(tmp_path / "images", 10, per_class=7, size=40)
    dataset = open_dataset(folder)
    crops = load_crops(dataset, PIPELINE, cache_dir=tmp_path / "expected")
    return Scene(dataset, PIPELINE, Model.load(tiny_classifier(tmp_path / "tiny.onnx")), crops)


@pytest.fixture(scope="session")
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The scheduler of two workers."""
    pytest.importorskip("distributed", reason="quantlab[cluster] is not installed")
    with dask_cluster(tmp_path_factory.mktemp("dask"), 2) as cluster:
        yield f"dask://{cluster.address}"


@pytest.fixture
def dask_address(one_cluster: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The scheduler of two workers, who may take long to answer."""
    monkeypatch.setattr("quantlab.cluster.scheduler.OPEN_SECONDS", HANGS)
    return one_cluster
