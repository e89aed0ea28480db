"""Cache of a model's outputs on all images of a dataset, in the cache folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.cache import side, touch
from quantlab._util.files import write_whole
from quantlab.data.crops import CROPS_FORMAT, Crops, decoder
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline
from quantlab.errors import OutputError, RecordError
from quantlab.evaluate.execution import ALL_CORES, Execution
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model
from quantlab.runtime.environment import environment
from quantlab.runtime.providers import CPU
from quantlab.runtime.session import Optimization

_FORMAT = 1  # raised whenever the same model and crops would give other outputs or another file


def answers_key(
    model: Model,
    digests: Sequence[str],
    pipeline: Pipeline,
    *,
    providers: Sequence[str] = CPU,
    optimization: Optimization = "all",
    fold: bool = False,
) -> str:
    """Changes whenever the outputs may: with the model, each image (its content's digest) and their
    order, the pipeline, ONNX Runtime and how it runs, and the CPU's int8 instructions."""
    facts = environment()
    inputs = [digests, pipeline.digest, CROPS_FORMAT, *decoder(pipeline), model.input.layout]
    runtime = [facts["onnxruntime"], list(providers), optimization, facts["isa"]]
    parts = [_FORMAT, model.sha256, inputs, runtime, *(["folded"] if fold else [])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def recall(
    model: Model, crops: Crops, folder: Path, execution: Execution = ALL_CORES
) -> NDArray[np.float32] | None:
    """The cached outputs on all crops, or None where ``folder`` holds no usable ones."""
    path = _path(model, crops, folder, execution)
    try:
        known = Predictions.load(path)
    except RecordError:
        return None
    if (known.model_sha256, known.digests) != (model.sha256, crops.digests):
        return None
    touch(path)
    return known.outputs if known.outputs.shape[1] == model.num_classes else None


def keep(
    answers: Predictions, model: Model, crops: Crops, folder: Path, execution: Execution = ALL_CORES
) -> None:
    """Write the outputs on all crops to the cache. A folder that cannot be written is no error."""
    path = _path(model, crops, folder, execution)
    subject = f"{model.name} on {len(crops)} images of {crops.root} ({crops.pipeline.name})"
    with suppress(OutputError):
        write_whole(side(path), json.dumps({"of": subject}))
        answers.save(path)


def is_known(
    model: Model,
    dataset: Dataset,
    pipeline: Pipeline,
    folder: Path,
    execution: Execution = ALL_CORES,
) -> bool:
    """Whether ``recall`` will find outputs once the images are decoded, if all are usable."""
    return _file(model, dataset.content_digests, pipeline, folder, execution).is_file()


def _path(model: Model, crops: Crops, folder: Path, execution: Execution) -> Path:
    return _file(model, crops.digests, crops.pipeline, folder, execution)


def _file(
    model: Model, digests: Sequence[str], pipeline: Pipeline, folder: Path, execution: Execution
) -> Path:
    key = answers_key(model, digests, pipeline, providers=execution.providers, fold=execution.fold)
    return folder / f"{key}.npz"
