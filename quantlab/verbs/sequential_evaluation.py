"""Evaluate two models in turns, block by block, until the criterion is certain."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab._util.paths import cache_dir
from quantlab._util.reporter import Reporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops
from quantlab.data.labels import check_labels
from quantlab.evaluate.cached_outputs import recall
from quantlab.evaluate.evaluator import replay
from quantlab.evaluate.outputs import new_outputs
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.sequential import Watch
from quantlab.model.model import Model
from quantlab.verbs.evaluate import answering, remember

Rows = NDArray[np.int64]
Answer = Callable[[Rows], NDArray[np.float32]]
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
    test: Watch,
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
    known = [recall(model, crops, cache_dir() / "predictions", execution) for model in models]
    if crops.labels is not None:
        check_labels(crops.labels, models[0].num_classes, crops.names)
    order = np.random.default_rng(seed).permutation(n)
    outputs = [new_outputs(n, model.num_classes) for model in models]
    seen = 0
    for model, whole in zip(models, known, strict=True):
        if whole is not None:
            reporter.say(f"{model.name}: answers from the cache")
    with ExitStack() as stack, reporter.progress("Evaluating in turns", n) as advance:
        answers = [
            stack.enter_context(_runs(model, crops, execution)) if whole is None else _tells(whole)
            for model, whole in zip(models, known, strict=True)
        ]
        while seen < n and test.decision is None:
            rows = order[seen : seen + BLOCK]
            for made, answer in zip(outputs, answers, strict=True):
                made[rows] = answer(rows)
            labels = None if crops.labels is None else crops.labels[rows]
            test.update(outputs[0][rows], outputs[1][rows], labels)
            seen += len(rows)
            advance(seen, f"{seen} images")
    predictions = tuple(
        replay(model, crops, made, order=order[:seen], stop=lambda *_: False)
        for model, made in zip(models, outputs, strict=True)
    )
    if seen == n:
        for model, found, before in zip(models, predictions, known, strict=True):
            if before is None:
                remember(found, model, crops, execution)
    return SequentialEvaluation(predictions, seen, n, test.decision is not None)


def _tells(known: NDArray[np.float32]) -> Answer:
    return lambda rows: known[rows]


@contextmanager
def _runs(model: Model, crops: Crops, execution: ShardedExecution) -> Iterator[Answer]:
    with answering(model, crops, execution) as answers_on:
        yield lambda rows: np.concatenate([outputs for _, outputs in answers_on(rows)])
