"""Running models over a dataset's images: one loop for all evaluations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from quantlab._util.pages import release_pages
from quantlab.data.crops import Crops
from quantlab.data.labels import check_labels
from quantlab.evaluate.outputs import ROWS
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model

Rows = NDArray[np.int64]
Outputs = NDArray[np.float32]
AnswerStream = Iterator[tuple[Rows, Outputs]]
"""Rows and a model's outputs [n, classes] on them, batch by batch, in the order asked for."""
Ask = Callable[[Rows], AnswerStream]
StopTest = Callable[..., bool]
"""Given some rows and each model's outputs on them: whether that was enough."""
OutputsProgress = Callable[[int, Outputs], None]
BLOCK = 8
"""Images between two looks of a sequential test."""


def drive(
    models: Sequence[Ask],
    order: Rows,
    outputs: Sequence[Outputs],
    *,
    stop: StopTest | None = None,
    block: int = BLOCK,
    progress: OutputsProgress | None = None,
) -> int:
    """Write each model's answers on the images of ``order`` into its ``outputs`` [images, classes],
    until ``stop`` is true; the number of images that ``stop`` was shown, or all.

    One model answers all images in a stream, several in turns of ``block`` images. ``order`` holds
    indices, each at most once; for a sequential test it must be random. ``stop`` is shown ``block``
    images at a time, however many come together, so that an evaluation ends at the same image
    whatever the batch size. ``progress`` is called with the number of images that all models have
    answered and the last one's last outputs.
    """
    shown = 0
    turn = block if len(models) > 1 else max(1, len(order))
    for start in range(0, len(order), turn):
        rows, done = order[start : start + turn], start
        for ask, into in zip(models[:-1], outputs[:-1], strict=True):
            for some, made in ask(rows):
                _put(into, some, made)
        for some, made in models[-1](rows):
            _put(outputs[-1], some, made)
            done += len(some)
            if progress is not None:
                progress(done, made)
            while stop is not None and (done - shown >= block or done == len(order) > shown):
                part = order[shown : shown + block]
                shown += len(part)
                if stop(part, *(each[part] for each in outputs)):
                    return shown
    return len(order)


def _put(into: Outputs, rows: Rows, made: Outputs) -> None:
    into[rows] = made
    if len(rows) and rows[0] % ROWS < len(rows):
        release_pages(into)


def known(outputs: Outputs) -> Ask:
    """A model whose outputs on all images are known already."""

    def ask(rows: Rows) -> Iterator[tuple[Rows, Outputs]]:
        for start in range(0, len(rows), ROWS):
            some = rows[start : start + ROWS]
            yield some, outputs[some]

    return ask


def check_classes(model: Model, crops: Crops) -> None:
    """Raises DataError when a label is outside the model's classes."""
    if crops.labels is not None:
        check_labels(crops.labels, model.num_classes, crops.names)


def predictions_of(
    model: Model, crops: Crops, outputs: Outputs, rows: Rows | None = None
) -> Predictions:
    """The Predictions that these outputs of all crops are, or of only those ``rows``. Raises
    DataError as ``check_classes``."""
    check_classes(model, crops)
    whole = Predictions(
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
    return whole if rows is None or len(rows) == len(crops) else whole.subset(np.sort(rows))
