"""Running a model over a dataset's crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from quantlab._util.pages import release_pages
from quantlab.data.crops import Crops
from quantlab.data.labels import check_labels
from quantlab.evaluate.outputs import ROWS, new_outputs
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model

Progress = Callable[[int, NDArray[np.float32]], None]
Stop = Callable[[NDArray[np.int64], NDArray[np.float32]], bool]
Answers = Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]
BLOCK = 8
"""Images between two looks of a sequential test."""


def replay(
    model: Model,
    crops: Crops,
    outputs: NDArray[np.float32],
    *,
    order: NDArray[np.int64],
    stop: Stop,
) -> Predictions:
    """What ``collect`` gives, from the outputs that are known of all crops."""
    return collect(model, crops, iter([(order, outputs[order])]), order=order, stop=stop)


def everything(crops: Crops) -> tuple[NDArray[np.int64], Stop]:
    """The order and the stop of an evaluation of all crops."""
    return np.arange(len(crops)), lambda rows, outputs: False


def collect(
    model: Model,
    crops: Crops,
    answers: Answers,
    *,
    order: NDArray[np.int64],
    stop: Stop,
    progress: Progress | None = None,
) -> Predictions:
    """Predictions from ``answers``, rows and their outputs in ``order``, until ``stop`` is true.

    ``order`` holds indices, each at most once; for a sequential test it must be random.
    ``progress`` is called with the number of images done and the last outputs. ``stop`` hears of
    BLOCK images at a time, however many come together, so that an evaluation ends at the same image
    whatever the batch size. Raises DataError when a label is outside the model's classes.
    """
    if crops.labels is not None:
        check_labels(crops.labels, model.num_classes, crops.names)
    outputs = new_outputs(len(crops), model.num_classes)
    come = told = 0
    stopped = False
    for rows, made in answers:
        outputs[rows] = made
        come += len(rows)
        if come % ROWS < len(rows):
            release_pages(outputs)
        if progress is not None:
            progress(come, made)
        while not stopped and (come - told >= BLOCK or (come == len(order) > told)):
            block = order[told : told + BLOCK]
            told += len(block)
            stopped = stop(block, outputs[block])
        if stopped:
            break
    whole = predictions_of(model, crops, outputs)
    return whole if told == len(crops) else whole.subset(np.sort(order[:told]))


def predictions_of(model: Model, crops: Crops, outputs: NDArray[np.float32]) -> Predictions:
    """The Predictions that these outputs of all crops are. Raises DataError as ``collect``."""
    if crops.labels is not None:
        check_labels(crops.labels, model.num_classes, crops.names)
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
