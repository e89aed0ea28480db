"""evaluate: a model's accuracy on a labelled dataset, and its Predictions."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from quantlab.cache import cache_limit, trim
from quantlab.data.crops import Crops
from quantlab.evaluate.accuracy import Accuracy, accuracy
from quantlab.evaluate.evaluator import Stop, evaluate_until, everything, replay
from quantlab.evaluate.known import keep, recall
from quantlab.evaluate.metrics import hits, top_k
from quantlab.evaluate.predictions import Predictions
from quantlab.jobs import inputs
from quantlab.jobs.inputs import DataOptions, ModelOptions
from quantlab.model import Model
from quantlab.paths import cache_dir
from quantlab.runtime.runner import Runner
from quantlab.store import Run
from quantlab.talk import Talk


class EvaluateSpec(DataOptions, ModelOptions):
    """The options of ``quantlab evaluate``."""

    model: str
    log_interval: int | None = None


def evaluate_job(spec: EvaluateSpec, run: Run, talk: Talk) -> tuple[Accuracy | None, int]:
    """Accuracy (None without labels) and the number of images. Saves the Predictions."""
    model = inputs.find_model(spec.model, spec, talk)
    pipeline = inputs.find_pipeline(model, spec, talk)
    found = inputs.find_evaluation_data(spec, model, talk)
    crops = inputs.load_images(found, pipeline, spec, talk)
    predictions = predict(model, crops, talk, spec.threads, spec.log_interval)
    predictions.save(run.artifact("predictions", "predictions.npz"))
    result = accuracy(predictions)
    run.record.results = {
        "model": inputs.model_facts(model),
        "data": inputs.data_facts(found, crops),
        "pipeline": pipeline.model_dump(mode="json"),
        "accuracy": None if result is None else result.model_dump(mode="json"),
    }
    return result, len(predictions)


def predict(
    model: Model,
    crops: Crops,
    talk: Talk,
    threads: int,
    log_interval: int | None = None,
    early: tuple[NDArray[np.int64], Stop] | None = None,
) -> Predictions:
    """The model's Predictions, from the cache where its answers on all images are known.

    ``early`` is an order of the images and what may stop the evaluation in it; known answers stop
    where a run would have. Raises ModelError when the model's file changed during the run.
    """
    order, stop = early or everything(crops)
    folder = cache_dir() / "predictions"
    known = recall(model, crops, folder)
    if known is not None:
        talk.say(f"{model.name}: answers from the cache")
        return replay(model, crops, known, order=order, stop=stop)
    answers = _run(model, crops, talk, threads, log_interval, order, stop)
    if len(answers) == len(crops):
        model.check_unchanged()
        keep(answers, model, crops, folder)
        crops.touch()
        trim(cache_dir(), cache_limit())
    return answers


def _run(
    model: Model,
    crops: Crops,
    talk: Talk,
    threads: int,
    log_interval: int | None,
    order: NDArray[np.int64],
    stop: Stop,
) -> Predictions:
    """With progress that shows the accuracy so far and the speed."""
    with (
        Runner(model, threads=threads) as runner,
        talk.progress(f"Evaluating {model.name}", len(crops.names)) as advance,
    ):
        labels = None if crops.labels is None else crops.labels[order]
        running = _Running(labels, talk, log_interval)

        def progress(done: int, outputs: NDArray[np.float32]) -> None:
            advance(done, running.note(done, outputs))

        return evaluate_until(model, crops, runner, order=order, stop=stop, progress=progress)


class _Running:
    """Accuracy and images/s so far; a line every ``interval`` images where that is asked for."""

    def __init__(self, labels: NDArray[np.int64] | None, talk: Talk, interval: int | None) -> None:
        self.labels, self.talk, self.interval = labels, talk, interval
        self.top1 = self.top5 = self.said = 0
        self.start = time.perf_counter()

    def note(self, done: int, outputs: NDArray[np.float32]) -> str:
        parts = [f"{done} images"]
        if self.labels is not None:
            truth = self.labels[done - len(outputs) : done]
            top = top_k(outputs, 5)
            self.top1 += int(hits(top[:, :1], truth).sum())
            self.top5 += int(hits(top, truth).sum())
            parts += [f"top-1 {self.top1 / done:.2%}", f"top-5 {self.top5 / done:.2%}"]
        parts.append(f"{done / (time.perf_counter() - self.start):.1f} images/s")
        note = ", ".join(parts)
        if self.interval and done // self.interval > self.said:
            self.said = done // self.interval
            self.talk.say(note)
        return note
