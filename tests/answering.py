"""All answers of a model by one runner, in this process, without what times and tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.crops import Crops
from quantlab.evaluate.evaluator import (
    AnswerStream,
    OutputsProgress,
    check_classes,
    drive,
    predictions_of,
)
from quantlab.evaluate.outputs import new_outputs
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model


def evaluate(
    model: Model,
    crops: Crops,
    runner: Callable[[Any], Any],
    *,
    batch_size: int = 8,
    progress: OutputsProgress | None = None,
) -> Predictions:
    """The model's answers on every crop, ``batch_size`` at a time."""

    def ask(order: NDArray[np.int64]) -> AnswerStream:
        pieces = (order[i : i + batch_size] for i in range(0, len(order), batch_size))
        return ((rows, runner(crops.inputs(rows, model.input))) for rows in pieces)

    check_classes(model, crops)
    outputs = new_outputs(len(crops), model.num_classes)
    drive([ask], np.arange(len(crops)), [outputs], progress=progress)
    return predictions_of(model, crops, outputs)
