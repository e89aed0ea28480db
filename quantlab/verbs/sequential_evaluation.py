"""Evaluate two models in turns, block by block, until the criterion is certain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from quantlab._util.reporter import Reporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops
from quantlab.evaluate.evaluator import Outputs, OutputsProgress, Rows
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.sequential import PairedEarlyStop
from quantlab.model.model import Model
from quantlab.verbs.evaluate import predict_in_turns

BLOCK = 64
"""Images between two looks: each model answers so many, then the other."""


@dataclass(frozen=True)
class SequentialEvaluation:
    """Both models' Predictions on the images seen. ``decided``: they were enough to be certain."""

    predictions: tuple[Predictions, ...]
    seen: int
    total: int
    decided: bool

    @property
    def sentence(self) -> str:
        """How many images were evaluated and what that means, as text."""
        if not self.decided:
            return (
                f"Not stopped early: the sequential test was not certain before the last of "
                f"{self.total:,} images."
            )
        return (
            f"Stopped early: certain (5%) after {self.seen:,} of {self.total:,} images in a random "
            "order. The verdict's interval is a sequential one, valid whenever one stops; other "
            "intervals and p-values here are those of a fixed number of images."
        )

    def facts(self) -> dict[str, object]:
        """The facts for the record."""
        return {"seen": self.seen, "images": self.total, "decided": self.decided}


def predict_until_certain(
    models: Sequence[Model],
    crops: Crops,
    test: PairedEarlyStop,
    reporter: Reporter,
    execution: ShardedExecution,
    seed: int,
) -> SequentialEvaluation:
    """fp32's and int8's answers on the crops in a seeded random order, until ``test`` is certain,
    or on all of them.

    A model whose answers are known runs nothing. Raises DataError for accuracy without labels,
    ModelError when a model cannot run or its file changed meanwhile.
    """
    n = len(crops)
    order = np.random.default_rng(seed).permutation(n)

    def certain(rows: Rows, fp32: Outputs, int8: Outputs) -> bool:
        labels = None if crops.labels is None else crops.labels[rows]
        return test.update(fp32, int8, labels) is not None

    running = _running(reporter, n)
    found = predict_in_turns(models, crops, reporter, execution, order, certain, BLOCK, running)
    return SequentialEvaluation(found, len(found[0]), n, test.decision is not None)


@contextmanager
def _running(reporter: Reporter, count: int) -> Iterator[OutputsProgress]:
    with reporter.progress("Evaluating in turns", count) as advance:
        yield lambda done, outputs: advance(done, f"{done} images")
