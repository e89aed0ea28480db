"""inspect: the content of a model, and where an int8 model departs from fp32."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from quantlab._util.reporter import NullReporter, Reporter
from quantlab.data.calibration import CalibrationImages
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.data.sampler import random_sample
from quantlab.errors import DataError, ModelError
from quantlab.evaluate.proxy import Proxy
from quantlab.inspect.inspection import Inspection, inspect_model
from quantlab.inspect.layers import debug_layers
from quantlab.inspect.levels import LevelDifference, compare_levels
from quantlab.inspect.output_scales import OperatorScale, list_operators
from quantlab.inspect.portability import check_portability
from quantlab.inspect.preprocessing_audit import Audit
from quantlab.inspect.sensitivity import GroupProbe, Sensitivity, measure_sensitivity
from quantlab.inspect.stored import check_stored
from quantlab.inspect.target_rules import check_target
from quantlab.inspect.views import Inspected
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.report.plots import save_layers, save_sensitivity
from quantlab.report.where import cpus_line
from quantlab.targets import find_target
from quantlab.verbs import inputs
from quantlab.verbs.cached_results import keep_layers
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.inspect import InspectOptions as InspectOptions
from quantlab.verbs.options.inspect import View as View
from quantlab.verbs.preprocessing_audit import full_audit
from quantlab.verbs.publish import Artifact, Returned, text_file

IMAGES = {
    "inspect": 16,
    "portability": 32,
    "layers": 16,
    "sensitivity": 64,
    "preprocess-audit": 400,
}
RANDOM_IMAGES = 8


@dataclass(frozen=True)
class Sources:
    """Where a view gets what it needs, each opened when it is asked for: a decoded sample of the
    images; labelled images with the pipeline that they are to go through; the second model."""

    images: Callable[[], CalibrationImages]
    labelled: Callable[[], tuple[LocatedDataset, Pipeline]]
    int8: Callable[[], Model]


def inspect_named_model(spec: InspectOptions, reporter: Reporter) -> Returned[Inspected]:
    """The view that was asked for, of the named model."""
    model = inputs.find_model(spec.model, spec, reporter)

    def labelled() -> tuple[LocatedDataset, Pipeline]:
        found = inputs.find_evaluation_data(spec, model, reporter)
        return found, inputs.find_pipeline(model, spec, NullReporter())

    sources = Sources(
        lambda: _images(model, spec, reporter),
        labelled,
        lambda: inputs.find_model(spec.int8 or "", spec, reporter),
    )
    return inspect(model, sources, spec, reporter, given=spec.data is not None)


def inspect(
    model: Model, sources: Sources, spec: InspectOptions, reporter: Reporter, *, given: bool
) -> Returned[Inspected]:
    """One view of the model; ``given``: there are images for a view that can do without."""
    match spec.view:
        case "portability":
            model.check_onnx()
            require_int8(model, "nothing in it can saturate")
            portability = check_portability(model, sources.images())
            facts = portability.model_dump(mode="json", exclude={"layers"})
            facts["line"] = cpus_line(portability.outcome)
            found = Inspected(portability=portability)
            kept = Returned(found, facts, (_json("portability", portability),))
        case "layers":
            kept = _layers(model, sources.int8(), sources.images)
        case "sensitivity":
            inputs.require_fp32(model, "inspect --sensitivity")
            costs = _sensitivity(model, sources.images(), spec.threads, reporter)
            plot = Artifact("sensitivity plot", "sensitivity.png", partial(save_sensitivity, costs))
            facts = costs.model_dump(mode="json")
            files = (_json("sensitivity", costs), plot)
            kept = Returned(Inspected(sensitivity=costs), facts, files)
        case "preprocess-audit":
            audit = _audit(model, *sources.labelled(), spec, reporter)
            facts = audit.model_dump(mode="json")
            kept = Returned(Inspected(audit=audit), facts, (_json("audit", audit),))
        case "test-data":
            stored = check_stored(model, spec.test_data or Path())
            facts = stored.model_dump(mode="json") | {"passed": stored.passed}
            kept = Returned(Inspected(stored=stored), facts, passed=stored.passed)
        case "quantization":
            rows = operators(model)
            facts = {"operators": [row.model_dump(mode="json") for row in rows]}
            kept = Returned(Inspected(operators=rows), facts)
        case "target":
            name = find_target(spec.target or "").name
            report = check_target(require_int8(model, "targets' rules are about int8"), name)
            facts = report.model_dump(mode="json") | {"passed": report.passed}
            kept = Returned(Inspected(target=report), facts, passed=report.passed)
        case "inspect":
            images = sources.images() if given and model.is_quantized else None
            held = _inspection(model, images, reporter)
            facts = held.model_dump(mode="json", exclude={"kernels", "quantized_tensors"})
            kept = Returned(Inspected(inspection=held), facts, (_json("inspection", held),))
    model.check_unchanged()
    return kept


def _json(name: str, found: BaseModel) -> Artifact:
    """The whole view as a file."""
    return text_file(name, f"{name}.json", found.model_dump_json(indent=1) + "\n")


def _layers(
    fp32: Model, int8: Model, images: Callable[[], CalibrationImages]
) -> Returned[Inspected]:
    check_pair(fp32, int8)
    found = debug_layers(fp32, int8, images())
    int8.check_unchanged()
    keep_layers(fp32.sha256, int8.sha256, found)
    plot = Artifact("layers plot", "layers.png", partial(save_layers, found))
    facts = found.model_dump(mode="json", exclude={"layers"})
    return Returned(Inspected(layers=found), facts, (_json("layers", found), plot))


def _audit(
    model: Model,
    found: LocatedDataset,
    pipeline: Pipeline,
    spec: InspectOptions,
    reporter: Reporter,
) -> Audit:
    published = None if spec.published is None else spec.published / 100
    return full_audit(
        model, _sample(found, spec), pipeline, spec, reporter,
        threads=spec.threads, published=published,
    )  # fmt: skip


def _inspection(model: Model, images: CalibrationImages | None, reporter: Reporter) -> Inspection:
    """What is in the model; of a quantized one also whether optimization levels change its answers
    on the images, or else on random ones."""
    found = inspect_model(model)
    if not model.is_quantized:
        return found
    return found.model_copy(update={"levels": _levels(model, images, reporter)})


def _levels(
    model: Model, images: CalibrationImages | None, reporter: Reporter
) -> LevelDifference | None:
    """None, with a warning, for a model that runs at one level only."""
    kind = "seeded random images" if images is None else "images"
    batch = random_images(model) if images is None else np.concatenate(list(images))
    try:
        return compare_levels(model, batch, kind)
    except ModelError as error:
        reporter.warn(f"Optimization levels were not compared: {error.problem}")
        return None


def random_images(model: Model) -> NDArray[np.generic]:
    """Coloured blocks through the model's own pipeline, or else torchvision's; always the same."""
    side = model.input
    small = np.random.default_rng(0).integers(0, 256, (RANDOM_IMAGES, 7, 7, 3), np.uint8)
    rows, columns = (np.arange(size) * 7 // size for size in (side.height, side.width))
    pipeline = get_pipeline(inputs.known_pipeline(model) or "torchvision", size=side.sides)
    return pipeline.to_input(small[:, rows][:, :, columns], side)


def _sample(found: LocatedDataset, spec: InspectOptions) -> LocatedDataset:
    """A seeded sample, as large as the view needs it."""
    count = spec.images or IMAGES[spec.view]
    return found.of(found.dataset.subset(random_sample(len(found.dataset), count)))


def decoded(
    model: Model,
    found: LocatedDataset,
    pipeline: Pipeline,
    spec: InspectOptions,
    reporter: Reporter,
) -> CalibrationImages:
    """The view's sample of the images, decoded."""
    crops = inputs.load_images(_sample(found, spec), pipeline, spec, reporter)
    return CalibrationImages(crops, model.input)


def _images(model: Model, spec: InspectOptions, reporter: Reporter) -> CalibrationImages:
    """A seeded sample of the calibration data."""
    found = inputs.find_calibration_data(spec, model, reporter)
    return decoded(model, found, inputs.find_pipeline(model, spec, reporter), spec, reporter)


def require_int8(model: Model, why: str) -> Model:
    """The model itself. Raises ModelError when it is not quantized: then ``why``."""
    if model.is_quantized:
        return model
    raise ModelError(
        f"{model.path} is not quantized: {why}.",
        "Give the int8 file that quantlab tune or quantize wrote.",
    )


def check_pair(fp32: Model, int8: Model) -> None:
    """Raises QuantlabError unless these are a fp32 model and an int8 version of it."""
    if fp32.is_quantized or not int8.is_quantized:
        raise ModelError(
            f"--layers takes the fp32 model first, then its int8 version, not {fp32.path.name} "
            f"and {int8.path.name}."
        )
    if fp32.input != int8.input:
        raise DataError(f"{fp32.path.name} and {int8.path.name} do not take the same input.")


def operators(model: Model) -> tuple[OperatorScale, ...]:
    """Every operator's output scale. Raises ModelError for a model that is not quantized."""
    return list_operators(require_int8(model, "no operator has a scale").proto().graph)


def _sensitivity(
    model: Model, images: CalibrationImages, threads: int, reporter: Reporter
) -> Sensitivity:
    """What each group of nodes costs in int8, on these images."""
    probe = GroupProbe(Proxy(model, np.concatenate(list(images)), threads), Recipe())
    with reporter.progress("Measuring sensitivity", len(probe.groups)) as advance:
        return measure_sensitivity(probe, advance)
