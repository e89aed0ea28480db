"""All answers of a model by one runner, in this process, without what times and tries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from quantlab.data.crops import Crops
from quantlab.evaluate.evaluator import Progress, collect, everything
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model


def evaluate(
    model: Model,
    crops: Crops,
    runner: Callable[[Any], Any],
    *,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> Predictions:
    """The model's answers on every crop, ``batch_size`` at a time."""
    order, stop = everything(crops)
    pieces = (order[i : i + batch_size] for i in range(0, len(order), batch_size))
    answers = ((rows, runner(crops.inputs(rows, model.input))) for rows in pieces)
    return collect(model, crops, answers, order=order, stop=stop, progress=progress)
