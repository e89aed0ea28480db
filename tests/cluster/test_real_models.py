"""Real models on real images: one machine's bits, whoever computes them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab._util.reporter import NullReporter
from quantlab.cluster.executor import open_executor
from quantlab.cluster.shards import Sharded
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops, load_crops
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.evaluate.execution import ALL_CORES, Execution
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.recipe import Recipe

pytestmark = pytest.mark.data
MODELS = {
    "mobilenetv2-12": "torchvision",
    "mobilenetv2-12-int8": "torchvision",
    "shufflenet-v2-12-int8": "torchvision",
    "squeezenet1.1-caffe": "caffe",
    "st-mobilenetv2-int8-nhwc-uint8": "tf",
}
IMAGES = 32


@pytest.fixture(scope="module")
def dataset(data_root: Path) -> Dataset:
    whole = open_dataset(data_root / "imagenet" / "val1300")
    return whole.subset(np.arange(0, len(whole), len(whole) // IMAGES))


@pytest.fixture(params=["process:2", "dask"])
def executor(request: Any, dask_address: str) -> Any:
    with open_executor(dask_address if request.param == "dask" else request.param) as found:
        yield found


def bits(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def answers(
    dataset: Dataset, data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Model, Crops, str]]:
    """By name each model, its images, and the bits of what it answers in this process."""
    folder, found = tmp_path_factory.mktemp("crops"), {}
    for name, named in MODELS.items():
        model = Model.load(data_root / "models" / f"{name}.onnx")
        pipeline = get_pipeline(named, size=model.input.height)
        crops = load_crops(dataset, pipeline, cache_dir=folder)
        with ParallelRunner(model, ALL_CORES, pipeline=pipeline) as run:
            outputs = [o for _, o in run.answers(np.arange(len(crops)), crops.pixels)]
        found[name] = model, crops, bits(np.concatenate(outputs))
    return found


def test_answers(
    executor: Any, dataset: Dataset, answers: dict[str, tuple[Model, Crops, str]]
) -> None:
    sharded = Sharded(executor)
    for name, (model, crops, expected) in answers.items():
        far = sharded.read(dataset, crops.pipeline, 0.01, lambda done, total: None)
        assert far.digests == crops.digests
        order = np.arange(len(crops))
        for execution in (Execution(), Execution(batch=8)):
            found = np.concatenate([o for _, o in sharded.answers(model, far, execution, order)])
            assert bits(found) == expected, (name, execution)


def quantized(engine: QuantlabEngine, model: Model, images: CalibrationImages) -> str:
    """The bits of the int8 file."""
    recipe = Recipe(rounding="nearest", bias_correction=False, range_search=False)
    made = engine.quantize(model, recipe, images)
    return bits(np.frombuffer(made.SerializeToString(deterministic=True), np.uint8))


@pytest.fixture(scope="module")
def calibrated(
    data_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, CalibrationImages, str]:
    """A model, images, and the bits of the file that this process makes of them."""
    whole = open_dataset(data_root / "imagenet" / "calib1000", num_classes=1000)
    model = Model.load(data_root / "models" / "mobilenetv2-12.onnx")
    some, folder = whole.subset(np.arange(0, 1000, 50)), tmp_path_factory.mktemp("c")
    images = CalibrationImages(
        load_crops(some, get_pipeline("torchvision"), cache_dir=folder), model.input
    )
    return model, images, quantized(QuantlabEngine(), model, images)


def test_a_quantized_file(executor: Any, calibrated: tuple[Model, CalibrationImages, str]) -> None:
    model, images, expected = calibrated
    engine = QuantlabEngine(Sharded(executor).observe(NullReporter()))
    assert quantized(engine, model, images) == expected
