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
from quantlab.data.crops import load_crops
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


@pytest.fixture
def dataset(data_root: Path) -> Dataset:
    whole = open_dataset(data_root / "imagenet" / "val1300")
    return whole.subset(np.arange(0, len(whole), len(whole) // IMAGES))


@pytest.fixture(params=["process:2", "dask"])
def executor(request: Any, dask_address: str) -> Any:
    with open_executor(dask_address if request.param == "dask" else request.param) as found:
        yield found


def bits(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def test_answers(executor: Any, dataset: Dataset, data_root: Path, tmp_path: Path) -> None:
    sharded = Sharded(executor)
    for name, named in MODELS.items():
        model = Model.load(data_root / "models" / f"{name}.onnx")
        pipeline = get_pipeline(named, size=model.input.height)
        crops = load_crops(dataset, pipeline, cache_dir=tmp_path / "crops")
        order = np.arange(len(crops))
        with ParallelRunner(model, ALL_CORES, pipeline=pipeline) as run:
            expected = np.concatenate([o for _, o in run.answers(order, crops.pixels)])
        far = sharded.read(dataset, pipeline, 0.01, lambda done, total: None)
        assert far.digests == crops.digests
        for execution in (Execution(), Execution(batch=8)):
            found = np.concatenate([o for _, o in sharded.answers(model, far, execution, order)])
            assert bits(found) == bits(expected), (name, execution)


def test_a_quantized_file(executor: Any, data_root: Path, tmp_path: Path) -> None:
    whole = open_dataset(data_root / "imagenet" / "calib1000", num_classes=1000)
    model = Model.load(data_root / "models" / "mobilenetv2-12.onnx")
    crops = load_crops(
        whole.subset(np.arange(0, 1000, 50)), get_pipeline("torchvision"), cache_dir=tmp_path / "c"
    )
    images = CalibrationImages(crops, model.input)
    recipe = Recipe(rounding="nearest", bias_correction=False, range_search=False)
    expected = QuantlabEngine().quantize(model, recipe, images)
    engine = QuantlabEngine(Sharded(executor).observe(NullReporter()))
    found = engine.quantize(model, recipe, images)
    assert bits(np.frombuffer(found.SerializeToString(deterministic=True), np.uint8)) == bits(
        np.frombuffer(expected.SerializeToString(deterministic=True), np.uint8)
    )
