"""Cache of a model's outputs on all images of a dataset, in the cache folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.cache import Store, key_of
from quantlab.data.crops import CROPS_FORMAT, Crops, decoder
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline
from quantlab.evaluate.execution import ALL_CORES, Execution
from quantlab.evaluate.predictions import Predictions
from quantlab.model.kinds import ONNX_RUNTIME
from quantlab.model.model import Model
from quantlab.runtime.environment import environment, versions
from quantlab.runtime.providers import CPU

_FORMAT = 1  # raised whenever the same model and crops would give other outputs or another file


def answers_key(
    model: Model,
    digests: Sequence[str],
    pipeline: Pipeline,
    *,
    providers: Sequence[str] = CPU,
    fold: bool = False,
) -> str:
    """Changes whenever the outputs may: with the model, each image (its content's digest) and their
    order, the pipeline, the runtime and how it runs, and the CPU's int8 instructions."""
    facts = environment()
    inputs = [digests, pipeline.digest, CROPS_FORMAT, *decoder(pipeline), model.input.layout]
    runtime = [facts["onnxruntime"], list(providers), "all", facts["isa"]]
    if model.runtime != ONNX_RUNTIME:
        runtime = [model.runtime, *versions([model.runtime]).values(), facts["isa"]]
    judged = [] if model.output_name is None else [["output", model.output_name]]
    parts = [_FORMAT, model.sha256, inputs, runtime, *(["folded"] if fold else []), *judged]
    return key_of(*parts)


def recall_outputs(
    model: Model, crops: Crops, folder: Path, execution: Execution = ALL_CORES
) -> NDArray[np.float32] | None:
    """The cached outputs on all crops, or None where ``folder`` holds no usable ones."""

    def read(path: Path, _: object) -> NDArray[np.float32] | None:
        known = Predictions.load(path)
        same = (known.model_sha256, known.digests) == (model.sha256, crops.digests)
        return known.outputs if same and known.outputs.shape[1] == model.num_classes else None

    return _store(folder).find(_key(model, crops.digests, crops.pipeline, execution), read)


def keep_outputs(
    answers: Predictions, model: Model, crops: Crops, folder: Path, execution: Execution = ALL_CORES
) -> None:
    """Write the outputs on all crops to the cache. A folder that cannot be written is no error."""
    subject = f"{model.name} on {len(crops)} images of {crops.root} ({crops.pipeline.name})"
    key = _key(model, crops.digests, crops.pipeline, execution)
    _store(folder).keep(key, subject, answers.save)


def is_known(
    model: Model,
    dataset: Dataset,
    pipeline: Pipeline,
    folder: Path,
    execution: Execution = ALL_CORES,
) -> bool:
    """Whether ``recall_outputs`` will find outputs once all images are decoded."""
    key = _key(model, dataset.content_digests, pipeline, execution)
    return _store(folder).path(key).is_file()


def _store(folder: Path) -> Store:
    return Store(folder, ".npz")


def _key(model: Model, digests: Sequence[str], pipeline: Pipeline, execution: Execution) -> str:
    return answers_key(model, digests, pipeline, providers=execution.providers, fold=execution.fold)
