"""evaluate: a model's accuracy on a labelled dataset, and its Predictions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.cache import cache_limit, trim
from quantlab._util.pages import release_pages
from quantlab._util.paths import cache_dir
from quantlab._util.reporter import Reporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops, crops_path
from quantlab.data.preprocess import Pipeline
from quantlab.data.streaming import streaming_crops
from quantlab.evaluate.accuracy import Accuracy
from quantlab.evaluate.cached_outputs import is_known, keep, recall
from quantlab.evaluate.evaluator import (
    Answers,
    Progress,
    Stop,
    collect,
    everything,
    predictions_of,
    replay,
)
from quantlab.evaluate.metrics import hits, top_k
from quantlab.evaluate.outputs import ROWS, new_outputs
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.evaluate.predictions import Predictions
from quantlab.model.model import Model
from quantlab.runs.run import Run
from quantlab.verbs import inputs
from quantlab.verbs.audit import warn_of_accuracy
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.evaluate import EvaluateSpec as EvaluateSpec
from quantlab.verbs.options.shared import DataOptions, EvaluationOptions


def evaluate_job(spec: EvaluateSpec, run: Run, reporter: Reporter) -> tuple[Accuracy | None, int]:
    """Accuracy (None without labels) and the number of images. Saves the Predictions."""
    model = inputs.find_model(spec.model, spec, reporter)
    pipeline = inputs.find_pipeline(model, spec, reporter)
    found = inputs.find_evaluation_data(spec, model, reporter)
    with spec.executing(reporter) as execution:
        crops, predictions = crops_and_answers(
            model, found, pipeline, spec, reporter, execution, spec.log_interval
        )
    predictions.save(run.artifact("predictions", "predictions.npz"))
    warn_of_accuracy(model, crops, predictions, reporter, spec.threads)
    run.record.results = facts(model, found, crops, predictions, spec)
    return predictions.accuracy, len(predictions)


def facts(
    model: Model,
    found: LocatedDataset,
    crops: Crops,
    predictions: Predictions,
    spec: EvaluationOptions,
) -> dict[str, object]:
    """The figures for the record."""
    result = predictions.accuracy
    return {
        "model": inputs.model_facts(model),
        "data": inputs.data_facts(found, crops),
        "pipeline": crops.pipeline.model_dump(mode="json"),
        "providers": list(spec.execution.providers),
        "accuracy": None if result is None else result.model_dump(mode="json"),
    }


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
    dataset, order = found.dataset, np.arange(len(found.dataset))
    outputs = new_outputs(len(order), model.num_classes)
    with (
        ParallelRunner(model, execution, pipeline=pipeline) as runner,
        streaming_crops(path, dataset, pipeline) as coming,
        _running(model, dataset.labels, len(order), reporter, log_interval) as progress,
    ):
        for rows, made in runner.answers(order, coming.pixels):
            outputs[rows] = made
            if rows[0] % ROWS < len(rows):
                release_pages(outputs)
            progress(int(rows[-1]) + 1, made)
    crops = inputs.load_images(found, pipeline, spec, reporter)
    known = outputs if coming.usable.all() else outputs[coming.usable]
    answers = predictions_of(model, crops, known)
    remember(answers, model, crops, execution)
    return crops, answers


def predict(
    model: Model,
    crops: Crops,
    reporter: Reporter,
    execution: ShardedExecution,
    log_interval: int | None = None,
    early: tuple[NDArray[np.int64], Stop] | None = None,
) -> Predictions:
    """The model's Predictions, from the cache where its answers on all images are known.

    ``early`` is an order of the images and what may stop the evaluation in it; known answers stop
    where a run would have. Raises ModelError when the model's file changed during the run.
    """
    order, stop = early or everything(crops)
    known = recall(model, crops, _answers_folder(), execution)
    if known is not None:
        reporter.say(f"{model.name}: answers from the cache")
        return replay(model, crops, known, order=order, stop=stop)
    labels = None if crops.labels is None else crops.labels[order]
    with (
        answering(model, crops, execution) as answers_on,
        _running(model, labels, len(crops), reporter, log_interval) as progress,
    ):
        batches = answers_on(order)
        answers = collect(model, crops, batches, order=order, stop=stop, progress=progress)
    if len(answers) == len(crops):
        remember(answers, model, crops, execution)
    return answers


@contextmanager
def answering(
    model: Model, crops: Crops, execution: ShardedExecution
) -> Iterator[Callable[[NDArray[np.int64]], Answers]]:
    """A function that gives the model's answers on some of the crops, in the order of their
    indices, computed here or by the workers of ``execution``."""
    if execution.sharded is not None:
        yield partial(execution.sharded.answers, model, crops, execution.portions)
        return
    with ParallelRunner(model, execution, pipeline=crops.pipeline) as runner:
        yield lambda rows: runner.answers(rows, crops.pixels)


def remember(answers: Predictions, model: Model, crops: Crops, execution: ShardedExecution) -> None:
    """Cache the answers on all crops. Raises ModelError when the model's file changed during the
    run."""
    model.check_unchanged()
    keep(answers, model, crops, _answers_folder(), execution)
    crops.touch()
    trim(cache_dir(), cache_limit())


def _answers_folder() -> Path:
    return cache_dir() / "predictions"


@contextmanager
def _running(
    model: Model,
    labels: NDArray[np.int64] | None,
    count: int,
    reporter: Reporter,
    log_interval: int | None,
) -> Iterator[Progress]:
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
