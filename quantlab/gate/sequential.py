"""Early stops of an evaluation: end it when a criterion is surely kept or surely broken. Pure.

``early_stop`` tests one model against fp32's known answers on all images, for the tuner: what would
the evaluation of all of them say? ``watch`` tests two models side by side about an endless
population, as the verdict of ``compare`` does. The statistics are ``quantlab.stats.anytime``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DataError, RecipeError
from quantlab.evaluate.metrics import hits, top_k
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criterion import Criterion, Stopping
from quantlab.stats.anytime import (
    FiniteTest,
    StopDecision,
    decision,
)

__all__ = ["EarlyStop", "PairedEarlyStop", "StopDecision", "early_stop", "watch"]

Bools = NDArray[np.bool_]


class PairedEarlyStop:
    """Counts two models' answers as they come: ``decision`` once the criterion, its tolerance
    included, is surely kept or surely broken by all that was seen so far.

    The images are draws from an endless population, and the interval that
    ``judge(..., anytime=True)`` gives of the same images lies on that side of the limit.
    """

    def __init__(self, criterion: Criterion, stopping: Stopping) -> None:
        self._limit = criterion.limit + criterion.tolerance
        self._k, self._values = stopping.depth, stopping.values
        self._counts = np.zeros(2 if self._k is None else 4)
        self.decision: StopDecision | None = None

    def update(
        self,
        fp32: NDArray[np.float32],
        int8: NDArray[np.float32],
        labels: NDArray[np.int64] | None,
    ) -> StopDecision | None:
        """Take both models' outputs [n, classes] on the next images and their labels [n], which an
        agreement does without. Raises DataError where labels are missing."""
        if self._k is None:
            outcomes = _changed(top_k(fp32, 1)[:, 0], int8)
        elif labels is None:
            raise DataError(
                "an evaluation cannot be stopped early by accuracy: the images have no labels.",
                "Give labels (docs/data.md), or --criterion 'agreement >= 96%', which needs none.",
            )
        else:
            outcomes = _paired(*(hits(top_k(outputs, self._k), labels) for outputs in (fp32, int8)))
        self._counts += np.bincount(outcomes, minlength=len(self._counts))
        if self._k is None or self._counts[:2].any():
            self.decision = decision(self._counts, self._values, self._limit)
        return self.decision


def watch(criterion: Criterion) -> PairedEarlyStop:
    """The criterion's early stop of two models. Raises RecipeError where there is no sequential
    test."""
    if (stopping := criterion.stopping) is not None:
        return PairedEarlyStop(criterion, stopping)
    raise RecipeError(
        f"the {criterion.title} cannot stop an evaluation early: there is no sequential test for "
        "it.",
        "Leave --early-stop out, or judge by top-1, top-5 or 'agreement >= 96%'.",
    )


class EarlyStop:
    """A ``stop`` for ``evaluator.drive``: true once the criterion is decided in a way of ``on``."""

    def __init__(
        self,
        test: FiniteTest,
        outcomes: Callable[[NDArray[np.int64], NDArray[np.float32]], NDArray[np.int64]],
        on: Collection[StopDecision],
    ) -> None:
        self._test, self._outcomes, self._on = test, outcomes, on

    @property
    def decision(self) -> StopDecision | None:
        """The decision, if there is one by now."""
        return self._test.decision

    def __call__(self, indices: NDArray[np.int64], outputs: NDArray[np.float32]) -> bool:
        return self._test.update(self._outcomes(indices, outputs)) in self._on


def early_stop(
    criterion: Criterion,
    fp32: Predictions,
    *,
    on: Collection[StopDecision] = ("pass", "fail"),
) -> EarlyStop | None:
    """The sequential test of the criterion, its tolerance included, against fp32's predictions on
    the same images. None where there is none: for the KL, a user's metric, or without labels."""
    stopping = criterion.stopping
    if stopping is None or (stopping.depth is not None and fp32.labels is None):
        return None
    k, values = stopping.depth, stopping.values
    limit = criterion.limit + criterion.tolerance
    test = FiniteTest(values(min(1.0, limit) if k is None else limit), len(fp32))
    if k is None or fp32.labels is None:
        answers = fp32.top(1)[:, 0]
        return EarlyStop(test, lambda i, out: _changed(answers[i], out), on)
    labels, right = fp32.labels, hits(fp32.top(k), fp32.labels)
    return EarlyStop(test, lambda i, out: _paired(right[i], hits(top_k(out, k), labels[i])), on)


def _paired(first: Bools, second: Bools) -> NDArray[np.int64]:
    """Outcomes from what each model gets right: 0 both, 1 lost, 2 gained, 3 neither."""
    return np.where(first, ~second, 3 - second.astype(np.int64))


def _changed(answers: NDArray[np.int64], outputs: NDArray[np.float32]) -> NDArray[np.int64]:
    """Outcomes from first answers: 1 where the outputs give another or none, else 0."""
    same = (top_k(outputs, 1)[:, 0] == answers) & (answers >= 0)
    return np.asarray(~same, np.int64)
