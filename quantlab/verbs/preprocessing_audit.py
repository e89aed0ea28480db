"""Audit the preprocessing: in full for ``inspect``, quickly where an accuracy seems wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.reporter import Reporter
from quantlab.data.crops import Crops
from quantlab.data.preprocess import Pipeline
from quantlab.errors import DataError, MissingExtraError
from quantlab.evaluate.accuracy import is_guessing, is_implausible, share_of
from quantlab.evaluate.execution import Execution
from quantlab.evaluate.metrics import top_k
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.baseline import Baseline
from quantlab.inspect.preprocessing_audit import Audit, audit, candidates, normalizations
from quantlab.model.model import Model
from quantlab.report.preprocessing_audit import guessing_error, low_accuracy, quick_warning
from quantlab.verbs import inputs
from quantlab.verbs.cached_results import remembered
from quantlab.verbs.inputs import DataOptions, LocatedDataset

QUICK_IMAGES = 200
_FIRST_PART = 5
"""A quick look begins with every fifth of its images."""

FirstAnswers = Callable[[Crops, Pipeline, slice], NDArray[np.int64]]


def full_audit(
    model: Model,
    found: LocatedDataset,
    chosen: Pipeline,
    options: DataOptions,
    reporter: Reporter,
    *,
    threads: int = 0,
    published: float | None = None,
) -> Audit:
    """Every standard pipeline on all images of ``found``. Raises DataError without labels."""
    if found.dataset.labels is None:
        raise DataError(
            f"{found.dataset.root} has no labels: which pipeline is right cannot be told.",
            "Give labelled images with --data (docs/data.md says how labels are found).",
        )
    pipelines, left_out = candidates(chosen, model.input)
    crops = dict[str, Crops]()
    for pipeline in pipelines:
        if pipeline.crop_digest in crops:
            continue
        try:
            crops[pipeline.crop_digest] = inputs.load_images(found, pipeline, options, reporter)
        except MissingExtraError as error:
            if pipeline is pipelines[0]:
                raise
            left_out[pipeline.name] = error.problem
    tried = [p for p in pipelines if p.crop_digest in crops]
    common = set.intersection(*(set(part.names) for part in crops.values()))
    rows = {
        key: np.flatnonzero([name in common for name in part.names]) for key, part in crops.items()
    }
    answers = list[NDArray[np.int64]]()
    with (
        first_answers(model, threads) as ask,
        reporter.progress(f"Auditing {model.name}", len(tried)) as advance,
    ):
        for done, pipeline in enumerate(tried):
            advance(done, pipeline.name)
            key = pipeline.crop_digest
            answers.append(ask(crops[key], pipeline, slice(None))[rows[key]])
    key = chosen.crop_digest
    labels = _labels(crops[key])[rows[key]]
    return audit(
        model.name, model.input, tried, answers, labels, left_out=left_out, published=published
    )


def quick_audit(model: Model, crops: Crops, reporter: Reporter, threads: int = 0) -> None:
    """Warn when another way to normalize is significantly better than the crops' pipeline; silent
    without labels, or when none is."""
    if (found := quick_look(model, crops, threads)) is not None:
        reporter.warn(f"{quick_warning(found)}; --no-audit skips this look.")


def check_reference(
    model: Model,
    crops: Crops,
    answers: Predictions,
    reporter: Reporter | None,
    threads: int = 0,
    *,
    unchanged: bool = False,
) -> None:
    """Raises DataError when the model is no better than guessing by its ``answers``: it cannot
    serve as reference. Warns with ``reporter`` when its accuracy is implausible.

    ``unchanged``: it is compared with itself, which needs no accuracy. Then it is an error only
    where a quick audit finds that another preprocessing is better.
    """
    found = answers.accuracy
    if found is not None and is_guessing(found.top1, model.num_classes):
        look = quick_look(model, crops, threads)
        if not unchanged or look is not None:
            raise guessing_error(model.name, str(model.path), found.top1, model.num_classes, look)
    if reporter is not None:
        warn_of_accuracy(model, crops, answers, reporter, threads)


def check_accepted(
    baseline: Baseline, path: Path, model: Model, crops: Crops, now: Predictions, threads: int
) -> None:
    """The same for what a baseline accepted; the ``model`` at hand is audited in its place."""
    rate, n = baseline.metrics.get("top1"), baseline.data.images
    if rate is None or not is_guessing(share_of(rate.right, n), model.num_classes):
        return
    here = now.accuracy
    implausible = here is not None and is_implausible(here.top1, model.num_classes)
    look = quick_look(model, crops, threads) if implausible else None
    name = f"{baseline.model.name}, which {path} accepted,"
    raise guessing_error(name, str(model.path), share_of(rate.right, n), model.num_classes, look)


def warn_of_accuracy(
    model: Model, crops: Crops, answers: Predictions, reporter: Reporter, threads: int = 0
) -> None:
    """Warns when an accuracy is implausible, with what another preprocessing would give."""
    found = answers.accuracy
    if found is not None and is_implausible(found.top1, model.num_classes):
        look = quick_look(model, crops, threads)
        reporter.warn(
            low_accuracy(model.name, str(model.path), found.top1, model.num_classes, look)
        )


def quick_look(model: Model, crops: Crops, threads: int = 0) -> Audit | None:
    """The crops' pipeline beside other ways to normalize, where one of these is surely better.

    All ways run on a few of QUICK_IMAGES; only those that are right there more often than the
    crops' own run on all. None without labels.
    """
    if crops.labels is None:
        return None
    step = max(1, len(crops) // QUICK_IMAGES)
    whole = slice(0, step * QUICK_IMAGES, step)
    first = slice(0, step * QUICK_IMAGES, step * _FIRST_PART)
    own, *others = normalizations(crops.pipeline, model.input)
    with first_answers(model, threads) as ask:

        def right(pipeline: Pipeline) -> int:
            return int((ask(crops, pipeline, first) == _labels(crops)[first]).sum())

        enough = right(own)
        likely = [other for other in others if right(other) > enough]
        if not likely:
            return None
        tried = [own, *likely]
        answers = [ask(crops, pipeline, whole) for pipeline in tried]
    found = audit(model.name, model.input, tried, answers, _labels(crops)[whole])
    return found if found.of_chosen.surely_worse else None


@contextmanager
def first_answers(model: Model, threads: int = 0) -> Iterator[FirstAnswers]:
    """``ask(crops, pipeline, rows)`` gives the model's first answers [rows], from the cache if they
    are there; one session serves all pipelines, opened when it is first needed."""
    with ExitStack() as stack:

        @cache
        def runner() -> ParallelRunner:
            return stack.enter_context(ParallelRunner(model, Execution(threads=threads)))

        def ask(crops: Crops, pipeline: Pipeline, rows: slice) -> NDArray[np.int64]:
            through = replace(crops, pipeline=pipeline)

            def made() -> list[int]:
                order = np.arange(len(crops))[rows]
                found = runner().answers(order, lambda some: through.inputs(some, model.input))
                return [int(i) for _, outputs in found for i in top_k(outputs, 1)[:, 0]]

            return np.array(remembered("first answers", (model,), through, rows, made), np.int64)

        yield ask


def _labels(crops: Crops) -> NDArray[np.int64]:
    assert crops.labels is not None
    return crops.labels
