"""quantize: one model, one recipe, one file."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from quantlab.cache import cache_limit, trim
from quantlab.data.calibration import CalibrationImages
from quantlab.errors import QuantizeError, RecipeError
from quantlab.fetch import catalog
from quantlab.inspect.speed_formats import slow_format
from quantlab.jobs import inputs
from quantlab.jobs.calibration import calibration_images, drawn
from quantlab.jobs.inputs import DataOptions, ModelOptions, model_facts
from quantlab.jobs.selfcheck import ADVICE, SelfCheck, choose_images, self_check
from quantlab.model import Model
from quantlab.paths import cache_dir
from quantlab.quantize import Engine, get_engine
from quantlab.quantize.known import ENGINES, file_key, keep, recall
from quantlab.quantize.stamp import stamp
from quantlab.recipe import Recipe
from quantlab.store import Run, atomic_path, check_writable
from quantlab.talk import Talk
from quantlab.yamlfile import read_yaml, validate

if TYPE_CHECKING:
    from quantlab.cluster.shards import Sharded


class QuantizeSpec(DataOptions, ModelOptions):
    """The options of ``quantlab quantize``."""

    model: str
    output: Path
    recipe: str | None = None
    seed: int | None = None
    force: bool = False


@dataclass(frozen=True)
class Quantized:
    """The file that was written, and what its check found (None: it could not be checked)."""

    output: Path
    check: SelfCheck | None


def quantize_job(spec: QuantizeSpec, run: Run, talk: Talk) -> Quantized:
    """Write the quantized model to ``spec.output``, checked against fp32 before it appears there.

    Raises QuantizeError for a file whose answers are unrelated to fp32's, unless ``force``.
    """
    check_writable(spec.output)
    model = inputs.require_fp32(inputs.find_model(spec.model, spec, talk), "quantize")
    recipe = find_recipe(spec.recipe)
    if spec.seed is not None:
        recipe = recipe.model_copy(update={"seed": spec.seed})
    pipeline = inputs.find_pipeline(model, spec, talk)
    found = inputs.find_calibration_data(spec, model, talk)
    sample, recipe = drawn(found.dataset, model, recipe, talk, spare=True)
    images = calibration_images(found, sample, model, pipeline, spec, talk)
    talk.say(f"Quantizing by recipe {recipe.name}, calibrated on {len(images)} images.")
    with inputs.sharded(spec.executor, talk) as workers:
        engine = engine_of(recipe.engine, workers, talk)
        content = quantized(model, recipe, images, engine)
    run.record.results = {
        "model": model_facts(model),
        "calibration": inputs.data_facts(found, images.crops),
        "pipeline": pipeline.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
    }
    chosen = choose_images(found, sample, images, recipe, spec, talk)
    with atomic_path(spec.output) as temporary:
        temporary.write_bytes(content)
        int8 = replace(Model.load(temporary), label=spec.output.stem)
        check = self_check(model, int8, recipe, images, chosen, spec.threads)
        run.record.results["check"] = check.model_dump(mode="json")
        judge_check(check, spec, talk)
    model.check_unchanged()
    written = Model.load(spec.output)
    if sentence := slow_format(written.proto().graph):
        talk.warn(sentence)
    run.record.results["output"] = model_facts(written)
    return Quantized(spec.output, check)


def judge_check(check: SelfCheck, spec: QuantizeSpec, talk: Talk) -> None:
    """Warns of a poor file. Raises QuantizeError for one that is unrelated to fp32, unless that is
    wanted all the same."""
    if check.file.unrelated and not spec.force:
        raise QuantizeError(
            f"{spec.output} was not written: {check.problem} (on {check.file.images} images).",
            f"{ADVICE} --force writes it all the same.",
        )
    if check.problem:
        talk.warn(f"{spec.output.name}: {check.problem}. {ADVICE}")


def find_recipe(text: str | None) -> Recipe:
    """The recipe of a YAML file or a published model's name, else the default.

    A YAML file may be a recipe, or hold one under the key ``recipe`` as those in ``tuning/`` do.
    Raises RecipeError.
    """
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
    """The same file, made before, or None."""
    return recall(file_key(model, recipe, images), cache_dir() / "models")


def keep_file(content: bytes, model: Model, recipe: Recipe, images: CalibrationImages) -> None:
    """Keep a file for the next time. Raises ModelError when the model's file changed meanwhile."""
    model.check_unchanged()
    subject = f"{model.name} by recipe {recipe.name}, {len(images)} images"
    keep(content, file_key(model, recipe, images), subject, cache_dir() / "models")
    trim(cache_dir(), cache_limit())


def engine_of(name: str, sharded: Sharded | None, talk: Talk) -> Engine:
    """The engine; quantlab's own has its calibration images looked at by the workers, if any."""
    if sharded is None:
        return get_engine(name)
    if name != "quantlab":
        talk.say(f"The engine {name} calibrates in this process.")
        return get_engine(name)
    from quantlab.quantize.engine import QuantlabEngine

    return QuantlabEngine(sharded.observe(talk))


def made(model: Model, recipe: Recipe, images: CalibrationImages, engine: Engine) -> bytes:
    """The quantized file's bytes, stamped with how it was made. Raises QuantizeError."""
    proto = engine.quantize(model, recipe, images)
    definition = json.dumps(images.crops.pipeline.model_dump(mode="json"), sort_keys=True)
    return stamp(proto, model, recipe, definition, images.crops.digests)
