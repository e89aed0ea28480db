"""inspect: the content of a model, and where an int8 model departs from fp32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.files import write_whole
from quantlab._util.reporter import NullReporter, Reporter
from quantlab.data.calibration import CalibrationImages
from quantlab.data.preprocess import get_pipeline
from quantlab.data.sampler import random_sample
from quantlab.errors import DataError, ModelError
from quantlab.evaluate.proxy import Proxy
from quantlab.inspect.audit import Audit
from quantlab.inspect.inspection import Inspection, inspect_model
from quantlab.inspect.layers import LayerReport, debug_layers
from quantlab.inspect.levels import LevelDifference, compare_levels
from quantlab.inspect.operators import OperatorScale, list_operators
from quantlab.inspect.portability import Portability, check_portability, portability_line
from quantlab.inspect.sensitivity import GroupProbe, Sensitivity, measure_sensitivity
from quantlab.inspect.stored import StoredCheck, check_stored
from quantlab.inspect.views import Inspected
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.report.plots import save_layers, save_sensitivity
from quantlab.runs.run import Run
from quantlab.verbs import inputs
from quantlab.verbs.audit import full_audit
from quantlab.verbs.checks import keep_layers
from quantlab.verbs.options.inspect import InspectOptions as InspectOptions
from quantlab.verbs.options.inspect import View as View

IMAGES = {
    "inspect": 16,
    "portability": 32,
    "layers": 16,
    "sensitivity": 64,
    "preprocess-audit": 400,
}
RANDOM_IMAGES = 8


def inspect_job(spec: InspectOptions, run: Run, reporter: Reporter) -> Inspected:
    """The view that was asked for, whole in the run folder."""
    model = inputs.find_model(spec.model, spec, reporter)
    if spec.view == "portability":
        inspected = Inspected(portability=_portability(model, spec, run, reporter))
    elif spec.view == "layers":
        inspected = Inspected(layers=_layers(model, spec, run, reporter))
    elif spec.view == "sensitivity":
        inspected = Inspected(sensitivity=_sensitivity(model, spec, run, reporter))
    elif spec.view == "preprocess-audit":
        inspected = Inspected(audit=_audit(model, spec, run, reporter))
    elif spec.view == "test-data":
        inspected = Inspected(stored=_stored(model, spec.test_data or Path(), run))
    elif spec.view == "quantization":
        inspected = Inspected(operators=_operators(model, run))
    else:
        inspected = Inspected(inspection=_inspection(model, spec, run, reporter))
    model.check_unchanged()
    return inspected


def _inspection(model: Model, spec: InspectOptions, run: Run, reporter: Reporter) -> Inspection:
    given = model.is_quantized and spec.data is not None
    found = inspected(model, _images(model, spec, reporter) if given else None, reporter)
    text = found.model_dump_json(indent=1)
    write_whole(run.artifact("inspection", "inspection.json"), text + "\n")
    run.record.results = found.model_dump(mode="json", exclude={"kernels", "quantized_tensors"})
    return found


def inspected(model: Model, images: CalibrationImages | None, reporter: Reporter) -> Inspection:
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


def _images(model: Model, spec: InspectOptions, reporter: Reporter) -> CalibrationImages:
    """A seeded sample of the calibration data."""
    found = inputs.find_calibration_data(spec, model, reporter)
    pipeline = inputs.find_pipeline(model, spec, reporter)
    count = spec.images or IMAGES[spec.view]
    sample = found.dataset.subset(random_sample(len(found.dataset), count))
    return CalibrationImages(
        inputs.load_images(found.of(sample), pipeline, spec, reporter), model.input
    )


def _portability(model: Model, spec: InspectOptions, run: Run, reporter: Reporter) -> Portability:
    require_int8(model, "nothing in it can saturate")
    found = check_portability(model, _images(model, spec, reporter))
    text = found.model_dump_json(indent=1)
    write_whole(run.artifact("portability", "portability.json"), text + "\n")
    results = found.model_dump(mode="json", exclude={"layers"})
    run.record.results = results | {"line": portability_line(found)}
    return found


def _layers(fp32: Model, spec: InspectOptions, run: Run, reporter: Reporter) -> LayerReport:
    int8 = inputs.find_model(spec.int8 or "", spec, reporter)
    check_pair(fp32, int8)
    found = debug_layers(fp32, int8, _images(fp32, spec, reporter))
    int8.check_unchanged()
    write_whole(run.artifact("layers", "layers.json"), found.model_dump_json(indent=1) + "\n")
    save_layers(found, run.artifact("layers plot", "layers.png"))
    keep_layers(fp32.sha256, int8.sha256, found)
    run.record.results = found.model_dump(mode="json", exclude={"layers"})
    return found


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


def sensitivity(
    model: Model, images: CalibrationImages, threads: int, reporter: Reporter
) -> Sensitivity:
    """What each group of nodes costs in int8, on these images."""
    probe = GroupProbe(Proxy(model, np.concatenate(list(images)), threads), Recipe())
    with reporter.progress("Measuring sensitivity", len(probe.groups)) as advance:
        return measure_sensitivity(probe, advance)


def _sensitivity(model: Model, spec: InspectOptions, run: Run, reporter: Reporter) -> Sensitivity:
    inputs.require_fp32(model, "inspect --sensitivity")
    found = sensitivity(model, _images(model, spec, reporter), spec.threads, reporter)
    text = found.model_dump_json(indent=1)
    write_whole(run.artifact("sensitivity", "sensitivity.json"), text + "\n")
    save_sensitivity(found, run.artifact("sensitivity plot", "sensitivity.png"))
    run.record.results = found.model_dump(mode="json")
    return found


def _audit(model: Model, spec: InspectOptions, run: Run, reporter: Reporter) -> Audit:
    found = inputs.find_evaluation_data(spec, model, reporter)
    count = spec.images or IMAGES[spec.view]
    sample = found.dataset.subset(random_sample(len(found.dataset), count))
    audited = full_audit(
        model,
        found.of(sample),
        inputs.find_pipeline(model, spec, NullReporter()),
        spec,
        reporter,
        threads=spec.threads,
        published=None if spec.published is None else spec.published / 100,
    )
    run.record.results = audited.model_dump(mode="json")
    text = audited.model_dump_json(indent=1)
    write_whole(run.artifact("audit", "audit.json"), text + "\n")
    return audited


def _stored(model: Model, folder: Path, run: Run) -> StoredCheck:
    found = check_stored(model, folder)
    run.record.results = found.model_dump(mode="json") | {"passed": found.passed}
    return found


def _operators(model: Model, run: Run) -> tuple[OperatorScale, ...]:
    found = operators(model)
    run.record.results = {"operators": [row.model_dump(mode="json") for row in found]}
    return found
