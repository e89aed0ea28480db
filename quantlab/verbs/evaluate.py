"""evaluate: a model's accuracy on a labelled dataset, and its Predictions."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab._util.paths import cache_dir
from quantlab._util.reporter import Reporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops, crops_path
from quantlab.data.preprocess import Pipeline
from quantlab.data.streaming import streaming_crops
from quantlab.evaluate.accuracy import Accuracy
from quantlab.evaluate.cached_outputs import is_known, keep_outputs, recall_outputs
from quantlab.evaluate.evaluator import (
    BLOCK,
    Ask,
    OutputsProgress,
    Rows,
    StopTest,
    check_classes,
    drive,
    known,
    predictions_of,
)
from quantlab.evaluate.metrics import hits, top_k
from quantlab.evaluate.outputs import new_outputs
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model
from quantlab.verbs import inputs
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.evaluate import EvaluateOptions as EvaluateOptions
from quantlab.verbs.options.shared import DataOptions
from quantlab.verbs.preprocessing_audit import warn_of_accuracy
from quantlab.verbs.publish import Artifact, PageConditions, VerbResult


@dataclass(frozen=True)
class Evaluated(VerbResult):
    """A model's answers on ``images`` images and their accuracy, None without labels.

    ``predictions`` is None where another device gave only the classes.
    """

    accuracy: Accuracy | None
    images: int
    subject: Mapping[str, Any]
    predictions: Predictions | None = None

    @property
    def answers(self) -> Predictions:
        """The predictions, of a model that was evaluated here."""
        assert self.predictions is not None
        return self.predictions

    def facts(self) -> dict[str, Any]:
        """What was evaluated, and the accuracy."""
        accuracy = None if self.accuracy is None else self.accuracy.model_dump(mode="json")
        return {**self.subject, "accuracy": accuracy}

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """The answers, where there are some."""
        if self.predictions is not None:
            yield Artifact("predictions", "predictions.npz", self.predictions.save)


def evaluate_named_model(spec: EvaluateOptions, reporter: Reporter) -> Evaluated:
    """Evaluate the named model on the named images."""
    model = inputs.find_model(spec.model, spec, reporter)
    pipeline = inputs.find_pipeline(model, spec, reporter)
    found = inputs.find_evaluation_data(spec, model, reporter)
    crops, evaluated = evaluate(model, found, pipeline, spec, reporter)
    warn_of_accuracy(model, crops, evaluated.answers, reporter, spec.threads)
    return evaluated


def evaluate(
    model: Model,
    found: LocatedDataset,
    pipeline: Pipeline,
    spec: EvaluateOptions,
    reporter: Reporter,
) -> tuple[Crops, Evaluated]:
    """The images, decoded, and the model's answers on all of them."""
    with spec.executing(reporter) as execution:
        crops, predictions = crops_and_answers(
            model, found, pipeline, spec, reporter, execution, spec.log_interval
        )
    subject = {
        "model": inputs.model_facts(model),
        "data": inputs.data_facts(found, crops),
        "pipeline": crops.pipeline.model_dump(mode="json"),
        "providers": list(spec.execution.providers),
    }
    return crops, Evaluated(predictions.accuracy, len(predictions), subject, predictions)


def crops_and_answers(
    model: Model,
    found: LocatedDataset,
    pipeline: Pipeline,
    spec: DataOptions,
    reporter: Reporter,
    execution: ShardedExecution,
    log_interval: int | None = None,
) -> tuple[Crops, Predictions]:
    """A dataset's crops and the model's Predictions on all of them, decoded while the model works
    on the first ones where the cache does not hold them."""
    if execution.sharded is not None:
        crops = inputs.load_images(found, pipeline, spec, reporter, execution.sharded)
        return crops, predict(model, crops, reporter, execution, log_interval)
    path = crops_path(found.dataset, pipeline, cache_dir() / "crops")
    if path.is_file() or is_known(model, found.dataset, pipeline, _answers_folder(), execution):
        crops = inputs.load_images(found, pipeline, spec, reporter)
        return crops, predict(model, crops, reporter, execution, log_interval)
    dataset, count = found.dataset, len(found.dataset)
    outputs = new_outputs(count, model.num_classes)
    with (
        ParallelRunner(model, execution, pipeline=pipeline) as runner,
        streaming_crops(path, dataset, pipeline) as coming,
        _running(model, dataset.labels, count, reporter, log_interval) as progress,
    ):
        run = partial(runner.answers, images=coming.pixels)
        drive([run], np.arange(count), [outputs], progress=progress)
    crops = inputs.load_images(found, pipeline, spec, reporter)
    usable = outputs if coming.usable.all() else outputs[coming.usable]
    answers = predictions_of(model, crops, usable)
    remember(answers, model, crops, execution)
    return crops, answers


def predict(
    model: Model,
    crops: Crops,
    reporter: Reporter,
    execution: ShardedExecution,
    log_interval: int | None = None,
    early: tuple[Rows, StopTest] | None = None,
) -> Predictions:
    """The model's Predictions, from the cache where its answers on all images are known.

    ``early`` is an order of the images and what may stop the evaluation in it; known answers stop
    where a run would have. Raises ModelError when the model's file changed during the run.
    """
    order, stop = early or (np.arange(len(crops)), None)
    labels = None if crops.labels is None else crops.labels[order]
    running = _running(model, labels, len(crops), reporter, log_interval)
    return predict_in_turns([model], crops, reporter, execution, order, stop, BLOCK, running)[0]


def predict_in_turns(
    models: Sequence[Model],
    crops: Crops,
    reporter: Reporter,
    execution: ShardedExecution,
    order: Rows,
    stop: StopTest | None,
    block: int,
    running: AbstractContextManager[OutputsProgress],
) -> tuple[Predictions, ...]:
    """Each model's Predictions on the crops in this order, until ``stop`` is true (see ``drive``).

    A model whose answers are cached runs nothing. Raises DataError when a label is outside the
    classes, ModelError when a model cannot run or its file changed meanwhile.
    """
    found = [recall_outputs(model, crops, _answers_folder(), execution) for model in models]
    outputs = [new_outputs(len(crops), model.num_classes) for model in models]
    asked = list[Ask]()
    with ExitStack() as stack:
        for model, cached in zip(models, found, strict=True):
            check_classes(model, crops)
            if cached is not None:
                reporter.say(f"{model.name}: answers from the cache")
                asked.append(known(cached))
            else:
                asked.append(stack.enter_context(answering(model, crops, execution)))
        progress = stack.enter_context(running) if any(each is None for each in found) else None
        seen = drive(asked, order, outputs, stop=stop, block=block, progress=progress)
    made = tuple(
        predictions_of(model, crops, each, order[:seen])
        for model, each in zip(models, outputs, strict=True)
    )
    if seen == len(crops):
        for model, cached, answers in zip(models, found, made, strict=True):
            if cached is None:
                remember(answers, model, crops, execution)
    return made


@contextmanager
def answering(model: Model, crops: Crops, execution: ShardedExecution) -> Iterator[Ask]:
    """A function that gives the model's answers on some of the crops, in the order of their
    indices, computed here or by the workers of ``execution``."""
    if execution.sharded is not None:
        yield partial(execution.sharded.answers, model, crops, execution.portions)
        return
    with ParallelRunner(model, execution, pipeline=crops.pipeline) as runner:
        yield partial(runner.answers, images=crops.pixels)


def remember(answers: Predictions, model: Model, crops: Crops, execution: ShardedExecution) -> None:
    """Cache the answers on all crops. Raises ModelError when the model's file changed during the
    run."""
    model.check_unchanged()
    crops.touch()
    keep_outputs(answers, model, crops, _answers_folder(), execution)


def _answers_folder() -> Path:
    return cache_dir() / "predictions"


@contextmanager
def _running(
    model: Model,
    labels: NDArray[np.int64] | None,
    count: int,
    reporter: Reporter,
    log_interval: int | None,
) -> Iterator[OutputsProgress]:
    """Progress that shows the accuracy so far and the speed."""
    with reporter.progress(f"Evaluating {model.name}", count) as advance:
        running = _Running(labels, reporter, log_interval)
        yield lambda done, outputs: advance(done, running.note(done, outputs))


class _Running:
    """Accuracy and images/s so far; a line every ``interval`` images where that is asked for."""

    def __init__(
        self, labels: NDArray[np.int64] | None, reporter: Reporter, interval: int | None
    ) -> None:
        self.labels, self.reporter, self.interval = labels, reporter, interval
        self.right = np.zeros((2, 1), np.int64)
        self.start = time.perf_counter()

    def note(self, done: int, outputs: NDArray[np.float32]) -> str:
        """Of the first ``done`` images, the last of which these outputs [n, classes] are."""
        before = done - len(outputs)
        speed = done / (time.perf_counter() - self.start)
        if self.labels is not None:
            top, truth = top_k(outputs, 5), self.labels[before:done]
            right = np.array([hits(top[:, :1], truth), hits(top, truth)])
            self.right = self.right[:, -1:] + right.cumsum(axis=1)
        if self.interval:
            for n in range(
                before + self.interval - before % self.interval, done + 1, self.interval
            ):
                accuracy = zip(("acc-top1", "acc-top5"), self._rates(n, n - before), strict=False)
                words = [f"{n} samples", *(f"{name} {rate:.4f}" for name, rate in accuracy)]
                self.reporter.say(", ".join([*words, f"speed {speed:.1f} fps"]))
        accuracy = zip(("top-1", "top-5"), self._rates(done, len(outputs)), strict=False)
        words = [f"{done} images", *(f"{name} {rate:.2%}" for name, rate in accuracy)]
        return ", ".join([*words, f"{speed:.1f} images/s"])

    def _rates(self, n: int, row: int) -> list[float]:
        """Top-1 and top-5 of the first ``n`` images, the ``row``-th of the last batch being the
        n-th; nothing without labels."""
        return [] if self.labels is None else (self.right[:, row - 1] / n).tolist()
