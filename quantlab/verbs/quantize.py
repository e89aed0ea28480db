"""quantize: one model, one recipe, one file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab._util.files import atomic_path, check_writable
from quantlab._util.paths import cache_dir
from quantlab._util.reporter import Reporter
from quantlab._util.yamlfile import read_yaml, validate
from quantlab.data.calibration import CalibrationImages
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline
from quantlab.errors import QuantizeError, RecipeError
from quantlab.fetch import catalog
from quantlab.inspect.speed_formats import slow_format
from quantlab.model.model import Model
from quantlab.quantize import Engine, get_engine
from quantlab.quantize.cached_files import ENGINES, file_key, keep_model, recall_model
from quantlab.quantize.stamp import stamp
from quantlab.recipe import Recipe
from quantlab.runs.run import Run
from quantlab.verbs import inputs
from quantlab.verbs.calibration import calibration_images, drawn
from quantlab.verbs.inputs import LocatedDataset, model_facts
from quantlab.verbs.options.quantize import QuantizeOptions as QuantizeOptions
from quantlab.verbs.selfcheck import ADVICE, SelfCheck, choose_images, self_check

if TYPE_CHECKING:
    from quantlab.cluster.shards import Sharded


@dataclass(frozen=True)
class Quantized:
    """The file that was written, and what its check found."""

    output: Path
    check: SelfCheck


@dataclass(frozen=True)
class Made:
    """A file's content, and what it was made from: the recipe with its sample filled in, the images
    of that sample, and these decoded."""

    content: bytes
    recipe: Recipe
    sample: Dataset
    images: CalibrationImages


def quantize_job(spec: QuantizeOptions, run: Run, reporter: Reporter) -> Quantized:
    """Write the quantized model to ``spec.output``, checked against fp32 before it appears there.

    Raises QuantizeError for a file whose answers are unrelated to fp32's, unless ``force``.
    """
    check_writable(spec.output)
    model = inputs.require_fp32(inputs.find_model(spec.model, spec, reporter), "quantize")
    recipe = find_recipe(spec.recipe)
    if spec.seed is not None:
        recipe = recipe.model_copy(update={"seed": spec.seed})
    pipeline = inputs.find_pipeline(model, spec, reporter)
    found = inputs.find_calibration_data(spec, model, reporter)
    made = calibrated(model, recipe, found, pipeline, spec, reporter)
    run.record.results = facts(model, found, made)
    with atomic_path(spec.output) as temporary:
        temporary.write_bytes(made.content)
        int8 = replace(Model.load(temporary), label=spec.output.stem)
        check = checked(model, int8, found, made, spec, reporter)
        run.record.results["check"] = check.model_dump(mode="json")
        judge_check(check, str(spec.output), reporter, force=spec.force)
    model.check_unchanged()
    written = Model.load(spec.output)
    if sentence := slow_format(written.proto().graph):
        reporter.warn(sentence)
    run.record.results["output"] = model_facts(written)
    return Quantized(spec.output, check)


def facts(model: Model, found: LocatedDataset, made: Made) -> dict[str, object]:
    """The facts for the record on how a file was made."""
    return {
        "model": model_facts(model),
        "calibration": inputs.data_facts(found, made.images.crops),
        "pipeline": made.images.crops.pipeline.model_dump(mode="json"),
        "recipe": made.recipe.model_dump(mode="json"),
    }


def calibrated(
    model: Model,
    recipe: Recipe,
    found: LocatedDataset,
    pipeline: Pipeline,
    spec: QuantizeOptions,
    reporter: Reporter,
) -> Made:
    """The file that the recipe makes of the model, calibrated on its sample of the images."""
    sample, recipe = drawn(found.dataset, model, recipe, reporter, spare=True)
    images = calibration_images(found, sample, model, pipeline, spec, reporter)
    reporter.say(f"Quantizing by recipe {recipe.name}, calibrated on {len(images)} images.")
    with inputs.sharded(spec.executor, reporter) as workers:
        engine = engine_of(recipe.engine, workers, reporter)
        return Made(quantized(model, recipe, images, engine), recipe, sample, images)


def checked(
    model: Model,
    int8: Model,
    found: LocatedDataset,
    made: Made,
    spec: QuantizeOptions,
    reporter: Reporter,
) -> SelfCheck:
    """The int8 model's answers beside fp32's, on images that did not calibrate where there are."""
    chosen = choose_images(found, made.sample, made.images, made.recipe, spec, reporter)
    return self_check(model, int8, made.recipe, made.images, chosen, spec.threads)


def judge_check(check: SelfCheck, name: str, reporter: Reporter, *, force: bool) -> None:
    """Warns of a poor file. Raises QuantizeError for one that is unrelated to fp32, unless that is
    wanted all the same (``force``)."""
    if check.file.unrelated and not force:
        raise QuantizeError(
            f"{name} was not written: {check.problem} (on {check.file.images} images).",
            f"{ADVICE} --force writes it all the same.",
        )
    if check.problem:
        reporter.warn(f"{Path(name).name}: {check.problem}. {ADVICE}")


def find_recipe(text: Recipe | str | None) -> Recipe:
    """The recipe itself, or that of a YAML file or a published model's name, else the default.

    A YAML file may be a recipe, or hold one under the key ``recipe`` as those in ``tuning/`` do.
    Raises RecipeError.
    """
    if isinstance(text, Recipe):
        return text
    if text is None:
        return Recipe()
    if Path(text).is_file():
        data = read_yaml(Path(text))
        return validate(Recipe, data.get("recipe", data), text)
    entry = catalog().get(text)
    if entry is not None and entry.recipe is not None:
        return entry.recipe
    raise RecipeError(
        f"{text} is neither a recipe file nor a published model with a recipe.",
        "quantlab recipes lists the names.",
    )


def quantized(model: Model, recipe: Recipe, images: CalibrationImages, engine: Engine) -> bytes:
    """The quantized file's bytes, stamped with how it was made, from the cache where an engine of
    quantlab's own has made the same before. Raises QuantizeError."""
    if engine.name not in ENGINES:
        return made(model, recipe, images, engine)
    content = known_file(model, recipe, images)
    if content is None:
        content = made(model, recipe, images, engine)
        keep_file(content, model, recipe, images)
    return content


def known_file(model: Model, recipe: Recipe, images: CalibrationImages) -> bytes | None:
    """The cached file of this recipe, model and images, or None."""
    return recall_model(file_key(model, recipe, images), cache_dir() / "models")


def keep_file(content: bytes, model: Model, recipe: Recipe, images: CalibrationImages) -> None:
    """Cache a quantized file. Raises ModelError when the model's file changed meanwhile."""
    model.check_unchanged()
    subject = f"{model.name} by recipe {recipe.name}, {len(images)} images"
    keep_model(content, file_key(model, recipe, images), subject, cache_dir() / "models")


def engine_of(name: str, sharded: Sharded | None, reporter: Reporter) -> Engine:
    """The engine; quantlab's own has its calibration images looked at by the workers, if any."""
    if sharded is None:
        return get_engine(name)
    if name != "quantlab":
        reporter.say(f"The engine {name} calibrates in this process.")
        return get_engine(name)
    from quantlab.quantize.engine import QuantlabEngine

    return QuantlabEngine(sharded.observe(reporter))


def made(model: Model, recipe: Recipe, images: CalibrationImages, engine: Engine) -> bytes:
    """The quantized file's bytes, stamped with how it was made. Raises QuantizeError."""
    proto = engine.quantize(model, recipe, images)
    definition = json.dumps(images.crops.pipeline.model_dump(mode="json"), sort_keys=True)
    return stamp(proto, model, recipe, definition, images.crops.digests)
