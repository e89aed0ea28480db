"""Resolve what the user named to Models, Datasets and Pipelines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from quantlab._util.cache import cache_limit, trim
from quantlab._util.paths import cache_dir, is_url
from quantlab._util.reporter import Reporter
from quantlab._util.units import sides
from quantlab._util.yamlfile import parse_yaml
from quantlab.data.crops import Crops, load_crops
from quantlab.data.dataset import NO_LABEL, Dataset, describe
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError, LabelError, ModelError, meant, shown
from quantlab.fetch import catalog, fetch
from quantlab.model.kinds import RuntimeName, with_runtime
from quantlab.model.model import Model
from quantlab.quantize.stamp import PIPELINE_KEY, RECIPE_KEY
from quantlab.verbs.config import settled
from quantlab.verbs.executor import sharded as sharded
from quantlab.verbs.options.shared import ConfigOptions as ConfigOptions
from quantlab.verbs.options.shared import DataOptions as DataOptions
from quantlab.verbs.options.shared import EvaluationOptions as EvaluationOptions
from quantlab.verbs.options.shared import InputOptions
from quantlab.verbs.options.shared import ModelOptions as ModelOptions

if TYPE_CHECKING:
    from quantlab.cluster.shards import Sharded


QUANTLAB_DATA = "QUANTLAB_DATA"


@dataclass(frozen=True)
class LocatedDataset:
    """A dataset and a description of where it was found. ``unfit``: what is wrong with its labels,
    where they were left aside for it."""

    dataset: Dataset
    origin: str
    unfit: LabelError | None = None

    def of(self, part: Dataset) -> LocatedDataset:
        """Another dataset, or part of this one, with the same origin."""
        return replace(self, dataset=part)


def find_model(
    text: str, options: InputOptions, reporter: Reporter, runtime: RuntimeName | None = None
) -> Model:
    """A classifier from a path, or from the name of a published model, fetched when it is not here.
    It is run by the runtime named behind it (``model.onnx@openvino``), else by this one, else by
    that of the options.

    Raises ModelError or FetchError.
    """
    text, named = with_runtime(text)
    _check_no_runtime(text)
    path = Path(text)
    name = path.name.removesuffix(".onnx")
    if not path.exists() and path.parent == Path() and name in catalog():
        reporter.say(f"{text} is not here: fetching the published model {name}.")
        path = fetch_with_progress(name, reporter)
    options = options.model_copy(update={"runtime": named or runtime or options.runtime})
    model = read_as(Model.load(path), options).check_classifier()
    if len(model.outputs) > 1 and options.output_name is None:
        reporter.say(
            f"{text} has {len(model.outputs)} outputs: {model.judged.name} is judged "
            "(--output-name names another)."
        )
    return model


def _check_no_runtime(text: str) -> None:
    """Raises ModelError for a model that is there but for an unknown runtime behind it."""
    model, at, name = text.rpartition("@")
    if at and not Path(text).exists() and (Path(model).exists() or model in catalog()):
        known = get_args(RuntimeName)
        raise ModelError(
            f"{text}: there is no runtime called {shown(name)}.",
            f"{meant(name, known, cutoff=0)} There are: {', '.join(known)}.",
        )


def read_as(model: Model, options: InputOptions) -> Model:
    """The model with what was detected wrongly set right, and what is free settled."""
    return model.with_overrides(
        layout=options.layout,
        output_kind=options.output_kind if isinstance(options, ModelOptions) else None,
        size=sides(options.size),
        output_name=options.output_name,
        runtime=options.own_runtime,
    )


def fetch_with_progress(name: str, reporter: Reporter, from_dir: Path | None = None) -> Path:
    """``fetch`` with a progress bar in bytes."""
    with reporter.progress(f"Fetching {name}", 0) as advance:
        return fetch(
            name, from_dir=from_dir, progress=lambda done, total: advance(done, f"of {total} bytes")
        )


def require_fp32(model: Model, verb: str) -> Model:
    """The model itself. Raises ModelError when it is quantized already, or OpenVINO IR."""
    model.check_onnx()
    if model.is_quantized:
        raise ModelError(
            f"{model.path} is already quantized ({_quantized_ops(model.op_census)}).",
            f"quantlab {verb} starts from the fp32 model; quantlab compare judges this one.",
        )
    return model


def _quantized_ops(census: dict[str, int]) -> str:
    ops = [
        f"{n} {op}" for op, n in census.items() if "QLinear" in op or "quantizeLinear" in op.lower()
    ]
    return ", ".join(ops[:3]) or "integer operators"


def find_pipeline(model: Model, options: ModelOptions, reporter: Reporter) -> Pipeline:
    """The pipeline named by the user, by quantlab.yaml, by the model's metadata, by the published
    model with these bytes, else torchvision, with a message."""
    named = settled(options).pipeline or known_pipeline(model)
    if named is None:
        reporter.warn(
            f"No pipeline is known for {model.path.name}: torchvision is assumed "
            "(--pipeline names another)."
        )
        named = "torchvision"
    return get_pipeline(named, size=model.input.sides)


def known_pipeline(model: Model) -> str | dict[str, Any] | None:
    """The pipeline that the file's metadata or the published models' sha256 name, if any."""
    if PIPELINE_KEY in model.metadata:
        return parse_yaml(model.metadata[PIPELINE_KEY], f"{model.path}, {PIPELINE_KEY}")
    return next(
        (entry.pipeline for entry in catalog().values() if entry.matches(model.sha256)), None
    )


def find_evaluation_data(
    options: DataOptions, model: Model, reporter: Reporter, *, need_labels: bool = True
) -> LocatedDataset:
    """Images to evaluate on: --data, quantlab.yaml, QUANTLAB_DATA, the embedded photos.

    With ``need_labels`` raises LabelError for labels that are not the model's; else they are left
    aside, with a warning.
    """
    options = settled(options)
    if options.eval_data is None:
        return _first(options, "val", model, reporter, need_labels=need_labels)
    origins = options.origins
    listed = options.list_file if origins["list_file"] == "--list" else options.eval_list
    return _open(
        options.eval_data,
        origins["eval_data"],
        options.with_list(listed),
        model,
        reporter,
        need_labels=need_labels,
    )


def find_calibration_data(options: DataOptions, model: Model, reporter: Reporter) -> LocatedDataset:
    """Images to calibrate on: --data, quantlab.yaml, QUANTLAB_DATA, the embedded photos. Labels
    that are not the model's are left aside, with a warning."""
    return _first(settled(options), "calib", model, reporter, need_labels=False)


def find_both_datasets(
    options: DataOptions,
    eval_data: Path | str | None,
    model: Model,
    reporter: Reporter,
    *,
    eval_list: Path | None = None,
    need_labels: bool = True,
) -> tuple[LocatedDataset, LocatedDataset]:
    """Both datasets of a tune; the same one twice when it has to serve for both (see divided).

    An evaluation folder comes from --eval-data, or from where the calibration folder came from.
    With ``need_labels`` raises LabelError for evaluation labels that are not the model's; else they
    are left aside, with a warning.
    """
    options = settled(options)
    calibration = find_calibration_data(options, model, reporter)
    path, listed = eval_data or options.eval_data, eval_list or options.eval_list
    origin = options.origins["eval_data"]
    if path is None and calibration.origin == QUANTLAB_DATA:
        found = _from_environment("val")
        path = None if str(found) == calibration.dataset.root else found
        origin, listed = QUANTLAB_DATA, options.list_file
    if path is None:
        if need_labels and calibration.unfit is not None:
            raise calibration.unfit
        return calibration, calibration
    evaluation = options.with_list(listed)
    return calibration, _open(path, origin, evaluation, model, reporter, need_labels=need_labels)


def _first(
    options: DataOptions, prefix: str, model: Model, reporter: Reporter, *, need_labels: bool = True
) -> LocatedDataset:
    data, origin = options.data, options.origins.get("data", "--data")
    if data is None:
        data, origin = _from_environment(prefix), QUANTLAB_DATA
    if data is None:
        return embedded_photos(reporter)
    return _open(data, origin, options, model, reporter, need_labels=need_labels)


def embedded_photos(reporter: Reporter) -> LocatedDataset:
    """The twenty labelled ImageNet photos of the foolbox package, with a warning."""
    reporter.warn(
        "No data given: using twenty embedded photos. They show that all works and how nearly the "
        "models agree; they cannot decide an accuracy. Give --data DIR."
    )
    return LocatedDataset(open_dataset(fetch_with_progress("photos", reporter)), "embedded photos")


def _open(
    path: Path | str,
    origin: str,
    options: DataOptions,
    model: Model,
    reporter: Reporter,
    *,
    need_labels: bool = True,
) -> LocatedDataset:
    """The dataset; where no labels are needed, without those that cannot be had."""

    def opened(labelled: bool) -> Dataset:
        with fetching(path, reporter) as progress:
            return open_dataset(
                path,
                list_file=options.list_file,
                synsets=options.synsets,
                num_classes=model.num_classes,
                labelled=labelled,
                progress=progress,
            )

    return found_by(opened, origin, options.max_bad, reporter, need_labels=need_labels)


def found_by(
    opened: Callable[[bool], Dataset],
    origin: str,
    max_bad: float,
    reporter: Reporter,
    *,
    need_labels: bool,
) -> LocatedDataset:
    """What ``opened(labelled)`` gives with labels; where these cannot be had or do not fit, and
    none are needed, without them and with a warning. Raises LabelError."""
    try:
        dataset = opened(True)
        _check_labelled(dataset, max_bad)
        return LocatedDataset(dataset, origin)
    except LabelError as error:
        if need_labels:
            raise
        reporter.warn(f"Labels are left aside, and accuracy cannot be judged: {error.problem}")
        return LocatedDataset(opened(False), origin, unfit=error)


def _check_labelled(dataset: Dataset, max_bad: float) -> None:
    """Raises LabelError when more images than may be bad are so for want of a label."""
    total = len(dataset) + len(dataset.problems)
    bare = [problem.name for problem in dataset.problems if problem.reason == NO_LABEL]
    if len(bare) > max_bad * total:
        raise LabelError(
            f"{dataset.root}: {len(bare)} of {total} images have no label (first {bare[0]}).",
            "Label them or take them out; --max-bad allows more.",
        )


@contextmanager
def fetching(place: Path | str, reporter: Reporter) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar for the bytes of a URL."""
    if not is_url(place):
        yield None
        return
    with reporter.progress(f"Fetching {place}", 0) as advance:
        yield lambda done, total: advance(done, f"of {total:,} bytes")


def _from_environment(prefix: str) -> Path | None:
    """QUANTLAB_DATA is a dataset, or holds ``calib*`` and ``val*``, perhaps under imagenet/."""
    value = os.environ.get(QUANTLAB_DATA)
    if not value:
        return None
    root = Path(value)
    if not root.is_dir():
        raise DataError(
            f"QUANTLAB_DATA names {root}, which is not a folder.", "Unset it or give --data DIR."
        )
    for folder in (root, root / "imagenet"):
        matches = sorted(p for p in folder.glob(f"{prefix}*") if p.is_dir())
        if matches and any(folder.glob("calib*")):
            return matches[0]
    return root


def load_images(
    found: LocatedDataset,
    pipeline: Pipeline,
    options: DataOptions,
    reporter: Reporter,
    sharded: Sharded | None = None,
) -> Crops:
    """The crops, decoded (or from the cache where they are) here or by workers, every problem said.

    Raises DataError when more than ``max_bad`` of the images are bad, or all of them are.
    """
    dataset, limit = found.dataset, cache_limit()
    crops: Crops
    with reporter.progress(f"Reading {dataset.root}", len(dataset)) as advance:

        def progress(done: int, total: int) -> None:
            advance(done, "")

        if sharded is not None:
            crops = sharded.read(dataset, pipeline, options.max_bad, progress)
        else:
            crops = load_crops(
                dataset,
                pipeline,
                cache_dir=cache_dir() / "crops",
                max_bad=options.max_bad,
                progress=progress,
            )
    trim(cache_dir(), limit)
    say_problems(crops, reporter)
    return crops


def say_problems(crops: Crops, reporter: Reporter) -> None:
    """Warn of images that had to be left out: their number and the first ten names."""
    if crops.problems:
        reporter.warn(f"{len(crops.problems)} images were left out: {describe(crops.problems)}")


def model_facts(model: Model) -> dict[str, Any]:
    """The facts of a model for the record."""
    return {
        "path": str(model.path),
        "sha256": model.sha256,
        "bytes": model.size_bytes,
        "opset": model.opset,
        "input": asdict(model.input),
        "output_kind": model.output_kind,
        "classes": model.num_classes,
        "runtime": model.runtime,
    }


def data_facts(found: LocatedDataset, crops: Crops) -> dict[str, Any]:
    """The facts of a dataset for the record."""
    return {
        "root": found.dataset.root,
        "origin": found.origin,
        "images": len(crops.names),
        "left_out": len(crops.problems),
        "labelled": crops.labels is not None,
        "digest": crops.dataset_digest,
    }


def check_all_unchanged(models: Iterable[Model]) -> None:
    """Raises ModelError when an input model's file changed during the run."""
    for model in models:
        model.check_unchanged()


def data_words(found: LocatedDataset, crops: Crops) -> dict[str, str]:
    """The description of the evaluation images for a report."""
    return {
        "Evaluation images": f"{found.dataset.root} ({found.origin})",
        "Labels": found.dataset.label_source,
        "Data digest": crops.dataset_digest[:16],
    }


def stamped_recipe(model: Model) -> dict[str, object]:
    """The recipe that a file made by quantlab carries, else nothing."""
    text = model.metadata.get(RECIPE_KEY)
    return parse_yaml(text, f"{model.path}, {RECIPE_KEY}") if text else {}
