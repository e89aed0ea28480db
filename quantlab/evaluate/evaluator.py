"""Running a model over a dataset's crops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from quantlab.data.crops import Crops
from quantlab.data.labels import check_labels
from quantlab.evaluate.predictions import Predictions
from quantlab.model import Model

Progress = Callable[[int, NDArray[np.float32]], None]
BATCH_SIZE = 8


class RunsBatches(Protocol):
    """A Runner, or the fake beside it."""

    def __call__(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Outputs [n, classes] of a batch shaped like the model's input."""


def evaluate(
    model: Model,
    crops: Crops,
    runner: RunsBatches,
    *,
    batch_size: int = BATCH_SIZE,
    progress: Progress | None = None,
) -> Predictions:
    """The model's outputs on every crop, in order.

    ``progress`` is called after each batch with the number of images done and that batch's outputs.
    Raises DataError when a label is outside the model's classes.
    """
    if crops.labels is not None:
        check_labels(crops.labels, model.num_classes, crops.names)
    outputs = np.empty((len(crops.names), model.num_classes), np.float32)
    for start in range(0, len(outputs), batch_size):
        batch = crops.pipeline.to_input(crops.array[start : start + batch_size], model.input)
        outputs[start : start + batch_size] = runner(batch)
        if progress is not None:
            done = min(start + batch_size, len(outputs))
            progress(done, outputs[start:done])
    return Predictions(
        names=crops.names,
        digests=crops.digests,
        labels=crops.labels,
        outputs=outputs,
        output_kind=model.output_kind,
        model_sha256=model.sha256,
        model_name=model.name,
        dataset_digest=crops.dataset_digest,
        pipeline=crops.pipeline.model_dump(mode="json"),
        problems=crops.problems,
    )
