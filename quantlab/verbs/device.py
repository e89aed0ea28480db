"""Evaluate answers that another device gave, and compare fp32 with them."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.reporter import Reporter
from quantlab.compare.compare import compare
from quantlab.compare.pairing import Named, check_related
from quantlab.data.labels import check_labels
from quantlab.data.readers import FILES, NPZ_LIST, open_dataset
from quantlab.data.readers.listed import labels_of
from quantlab.errors import DataError
from quantlab.evaluate import device
from quantlab.evaluate.accuracy import accuracy_of
from quantlab.evaluate.device import DeviceAnswers, match_names, read_answers
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.metrics import metrics_of
from quantlab.model.model import Model
from quantlab.report.context import ReportContext
from quantlab.report.export import check_exports
from quantlab.verbs import inputs
from quantlab.verbs.compare import Compared, CompareOptions, SideBySide, judge_side, named
from quantlab.verbs.evaluate import Evaluated, predict
from quantlab.verbs.options.evaluate import ResultsOptions as ResultsOptions
from quantlab.verbs.preprocessing_audit import check_reference

_BY_NAME = "Results are matched to images by their names, folders and endings left aside."


def evaluate_device_answers(spec: ResultsOptions, reporter: Reporter) -> Evaluated:
    """The accuracy of the answers in ``spec.results``."""
    found = read_answers(spec.results)
    names, labels = _labels(spec.label, spec.synsets)
    rows = _matched(names, found, f"{spec.label} names", spec.results, reporter)
    known = rows >= 0
    top = found.top[rows[known]]
    most = max(int(found.top.max()), int(labels.max())) + 1
    check_labels(labels, most if found.outputs is None else found.outputs.shape[1], names)
    result = accuracy_of(top, labels[known], has_five=found.has_five)
    subject = {
        "results": {
            "path": str(spec.results),
            "sha256": _sha256(found),
            "images": len(found.names),
        },
        "data": {"root": str(spec.label), "images": len(names), "left_out": int((~known).sum())},
    }
    return Evaluated(result, len(top), subject)


def is_answers(path: Path) -> bool:
    """Whether it is no model: a folder of results or a file of them."""
    return path.is_dir() or path.suffix.lower() in device.FILES


def compare_device_answers(spec: CompareOptions, reporter: Reporter) -> Compared:
    """Evaluate fp32 here, read the other device's answers, compare, judge."""
    if spec.early_stop:
        raise DataError("--early-stop needs two models to evaluate.", "Leave it out.")
    check_exports(spec.exports)
    judged = (spec.judged, *spec.others)
    model = inputs.find_model(spec.fp32, spec, reporter)
    path = Path(spec.int8)
    found = read_answers(path)
    _check_scores(found, model, path)
    pipeline = inputs.find_pipeline(model, spec, reporter)
    data = inputs.find_evaluation_data(spec, model, reporter)
    with spec.executing(reporter) as execution:
        crops = inputs.load_images(data, pipeline, spec, reporter, execution.sharded)
        rows = _matched(crops.names, found, f"{crops.root} holds", path, reporter)
        fp32 = predict(model, crops, reporter, execution)
        check_reference(model, crops, fp32, reporter, spec.threads)
    model.check_unchanged()
    predictions = (fp32, predictions_of(found, fp32, rows, path))
    comparison = compare(
        *predictions,
        fp32_bytes=model.size_bytes,
        class_names=data.dataset.class_names,
        metrics=metrics_of(*judged),
        seed=spec.seed,
    )
    other = Named(path.name, comparison.int8.sha256, quantized=True)
    apart = check_related(named(model), other, comparison, predictions, lambda: None)
    comparison = comparison.model_copy(update={"lead": (apart,) if apart else ()})
    subject = {
        "models": [inputs.model_facts(model), {"path": str(path), "sha256": _sha256(found)}],
        "data": inputs.data_facts(data, crops),
        "providers": list(spec.execution.providers),
    }
    words = inputs.data_words(data, crops)
    words["Int8 answers"] = f"{path} (another device's; nothing was timed)"
    side = SideBySide(comparison, predictions, None, crops)
    context = ReportContext(data=words)
    made = judge_side(side, spec.judged, subject, context, spec.others)
    return replace(made, exports=spec.exports)


def predictions_of(
    found: DeviceAnswers, fp32: Predictions, rows: NDArray[np.int64], path: Path
) -> Predictions:
    """The answers that ``rows`` [n] match to fp32's images, and after them those of no image."""
    assert found.outputs is not None
    known = np.flatnonzero(rows >= 0)
    others = np.setdiff1d(np.arange(len(found.names)), rows)
    order = np.concatenate([rows[known], others])
    return Predictions(
        names=tuple(found.names[i] for i in order),
        digests=(*(fp32.digests[i] for i in known), *(f"no image {i}" for i in others)),
        labels=None,
        outputs=found.outputs[order],
        output_kind=found.output_kind,
        model_sha256=_sha256(found),
        model_name=path.name,
        dataset_digest=fp32.dataset_digest,
        pipeline=fp32.pipeline,
    )


def _labels(path: Path, synsets: Path | None) -> tuple[list[str], NDArray[np.int64]]:
    """Names and labels of a list, or of a data set that has them."""
    if path.is_file() and path.suffix.lower() not in FILES and path.name != NPZ_LIST:
        return labels_of(path, synsets=synsets)
    dataset = open_dataset(path, synsets=synsets)
    if dataset.labels is None:
        raise DataError(f"{path} has no labels.", "Give a list of lines `name label`.")
    return list(dataset.names), dataset.labels


def _matched(
    names: list[str] | tuple[str, ...],
    found: DeviceAnswers,
    what: str,
    path: Path,
    reporter: Reporter,
) -> NDArray[np.int64]:
    rows = match_names(names, found.names)
    count = int((rows >= 0).sum())
    if not count:
        raise DataError(
            f"{what} {names[0]!r} and others, {path} {found.names[0]!r} and others: none is of "
            "the same name.",
            _BY_NAME,
        )
    if count < max(len(names), len(found.names)):
        reporter.warn(
            f"{count} images count: {what} {len(names)}, {path} has answers to {len(found.names)}."
        )
    return rows


def _check_scores(found: DeviceAnswers, model: Model, path: Path) -> None:
    if found.outputs is None:
        raise DataError(
            f"{path} holds classes, and a comparison needs the scores of all classes.",
            "quantlab evaluate --results says how accurate they are.",
        )
    if found.outputs.shape[1] != model.num_classes:
        raise DataError(
            f"{path} holds {found.outputs.shape[1]} scores an image, {model.path.name} has "
            f"{model.num_classes} classes.",
            "Give the results of this model's quantized version.",
        )


def _sha256(found: DeviceAnswers) -> str:
    """Of all names and answers."""
    whole = hashlib.sha256(repr(found.names).encode())
    whole.update(found.top.tobytes() if found.outputs is None else found.outputs.tobytes())
    return whole.hexdigest()
