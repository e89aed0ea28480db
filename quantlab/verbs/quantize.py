"""quantize: one model, one recipe, one file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab._util.files import check_writable
from quantlab._util.paths import cache_dir
from quantlab._util.reporter import Reporter
from quantlab._util.yamlfile import read_yaml, validate
from quantlab.data.calibration import CalibrationImages
from quantlab.data.preprocess import Pipeline
from quantlab.errors import OutputError, QuantizeError, RecipeError
from quantlab.fetch import catalog
from quantlab.inspect.speed_formats import slow_format
from quantlab.model.ir import is_ir
from quantlab.model.kinds import OPENVINO
from quantlab.model.model import Model, file_name, whole_files
from quantlab.quantize import Engine, get_engine
from quantlab.quantize.cached_files import ENGINES, file_key, keep_model, recall_model
from quantlab.quantize.placement import read_placement
from quantlab.quantize.stamp import stamp, stamped
from quantlab.recipe import Recipe
from quantlab.report.placement import nothing_in_int8, placement_sentence, predicted_slower
from quantlab.runtime.openvino import import_openvino
from quantlab.verbs import inputs
from quantlab.verbs.calibration_sample import calibration_images, drawn
from quantlab.verbs.inputs import LocatedDataset, model_facts
from quantlab.verbs.options.quantize import QuantizeOptions as QuantizeOptions
from quantlab.verbs.publish import Artifact, PageConditions, VerbResult
from quantlab.verbs.roles import int8_path
from quantlab.verbs.selfcheck import ADVICE, SelfCheck, choose_images, self_check

if TYPE_CHECKING:
    from quantlab.cluster.shards import Sharded


@dataclass(frozen=True)
class Quantized(VerbResult):
    """An int8 file, how it was made, and what its check against fp32 found.

    ``output`` is the file once it is written, ``int8`` itself where it is to be kept in the run
    folder. ``error`` is set for a file that is unrelated to
    fp32, unless that is wanted all the same: it is not written.
    """

    int8: Model
    made: Mapping[str, Any]
    check: SelfCheck
    output: Model | None = None
    error: QuantizeError | None = None

    def failure(self) -> QuantizeError | None:
        """See Result."""
        return self.error

    def facts(self) -> dict[str, Any]:
        """How the file was made and checked, and where it is."""
        output = {} if self.output is None else {"output": model_facts(self.output)}
        return {**self.made, "check": self.check.model_dump(mode="json"), **output}

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """The file, where it is kept there."""
        if self.output is self.int8:
            yield Artifact(
                "model", file_name(self.int8.title) + self.int8.path.suffix, self.int8.save
            )


def quantize_named_model(spec: QuantizeOptions, reporter: Reporter) -> Quantized:
    """Write the quantized model to ``spec.output``, once it was checked against fp32; IR is checked
    in OpenVINO where no runtime is named."""
    output, runtime = spec.output or int8_path(spec.model), spec.runtime
    if is_ir(output):
        import_openvino("OpenVINO IR")
        runtime = runtime or OPENVINO
    for path in whole_files(output):
        check_writable(path)
    recipe = find_recipe(spec.recipe, spec.target).changed(spec.changes)
    get_engine(recipe.engine)
    model = inputs.find_model(spec.model, spec, reporter, runtime)
    model = inputs.require_fp32(model, "quantize")
    pipeline = inputs.find_pipeline(model, spec, reporter)
    found = inputs.find_calibration_data(spec, model, reporter)
    if makes_ir(recipe, model) and not is_ir(output):
        raise OutputError(
            f"{output}: NNCF's file for OpenVINO is OpenVINO IR, whose name ends in .xml.",
            "Give --output NAME.xml; without --runtime openvino NNCF writes ONNX.",
        )
    result = quantize(model, recipe, found, pipeline, spec, reporter, str(output))
    if result.error is not None:
        return result
    warn_of_speed(result.int8, reporter)
    return replace(result, output=Model.load(result.int8.save(output)))


def quantize(
    model: Model,
    recipe: Recipe,
    found: LocatedDataset,
    pipeline: Pipeline,
    spec: QuantizeOptions,
    reporter: Reporter,
    name: str,
) -> Quantized:
    """Make the file by the recipe, calibrated on its sample of the images, and compare its answers
    with fp32's on images that did not calibrate where there are; ``name`` is what it is called."""
    sample, recipe = drawn(found.dataset, model, recipe, reporter, spare=True)
    images = calibration_images(found, sample, model, pipeline, spec, reporter)
    reporter.say(f"Quantizing by recipe {recipe.name}, calibrated on {len(images)} images.")
    with inputs.sharded(spec.executor, reporter) as workers:
        engine = engine_of(recipe.engine, workers, reporter)
        with telling(engine, recipe, reporter):
            int8 = int8_model(
                model, recipe, images, engine, re.sub(r"\.(onnx|xml)$", "", Path(name).name)
            )
    facts = {
        "model": model_facts(model),
        "calibration": inputs.data_facts(found, images.crops),
        "pipeline": images.crops.pipeline.model_dump(mode="json"),
        "recipe": recipe.model_dump(mode="json"),
    }
    say_placement(int8, recipe, Path(name).name, reporter)
    chosen = choose_images(found, sample, images, recipe, spec, reporter)
    check = self_check(model, int8, recipe, images, chosen, spec.threads)
    error = None
    if check.file.unrelated and not spec.force:
        error = QuantizeError(
            f"{name} was not written: {check.problem} (on {check.file.images} images).",
            f"{ADVICE} --force writes it all the same.",
        )
    elif check.problem:
        reporter.warn(f"{Path(name).name}: {check.problem}. {ADVICE}")
    model.check_unchanged()
    return Quantized(int8, facts, check, error=error)


def makes_ir(recipe: Recipe, model: Model) -> bool:
    """Whether the engine makes OpenVINO IR of this model: NNCF does, of one that OpenVINO runs."""
    return recipe.engine == "nncf" and model.runtime == OPENVINO


def int8_model(
    model: Model, recipe: Recipe, images: CalibrationImages, engine: Engine, name: str
) -> Model:
    """The int8 file, stamped with how it was made. Raises QuantizeError."""
    if not makes_ir(recipe, model):
        return int8_of(model, quantized(model, recipe, images, engine), name)
    from quantlab.quantize.peers.nncf import NncfEngine

    facts = stamped(model, recipe, _definition(images), images.crops.digests)
    made = Model.of_ir(NncfEngine().quantize_ir(model, recipe, images, facts), name=name)
    return _of_fp32(made, model)


def int8_of(fp32: Model, content: bytes, name: str) -> Model:
    """The int8 file as a Model that gives what the fp32 model gives."""
    return _of_fp32(Model.of(content, name=name), fp32)


def _of_fp32(int8: Model, fp32: Model) -> Model:
    return replace(int8.like(fp32), source=None if fp32.folder else fp32.path)


def say_placement(int8: Model, recipe: Recipe, name: str, reporter: Reporter) -> None:
    """Say what the file leaves in fp32 for speed; warn where that is everything, and first of all
    where the file is predicted to be slower than fp32."""
    placement = read_placement(int8.metadata)
    if placement is None:
        return
    if not int8.is_quantized:
        reporter.warn(f"{name}: {nothing_in_int8(placement)}")
        return
    if slower := predicted_slower(placement, recipe.placement):
        reporter.warn(f"{name}: {slower}")
    if sentence := placement_sentence(placement):
        reporter.say(sentence)


def warn_of_speed(int8: Model, reporter: Reporter) -> None:
    """Warn of a format that is slow on this machine."""
    if not int8.is_ir and (sentence := slow_format(int8.proto().graph)):
        reporter.warn(sentence)


def find_recipe(text: Recipe | str | None, target: str | None = None) -> Recipe:
    """The recipe for the target: ``text`` itself, or that of a YAML file or a published model's
    name, else the default.

    A YAML file may be a recipe, or hold one under the key ``recipe`` as those in ``tuning/`` do.
    Raises RecipeError.
    """
    return _find_recipe(text).aimed_at(target)


def _find_recipe(text: Recipe | str | None) -> Recipe:
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


@contextmanager
def telling(engine: Engine, recipe: Recipe, reporter: Reporter) -> Iterator[None]:
    """A progress bar with the step that quantlab's engine is at, while the block quantizes."""
    if not hasattr(engine, "told"):
        yield
        return
    before = engine.told
    with reporter.progress(f"Quantizing by {recipe.name}", 100) as advance:
        engine.told = lambda step, share: advance(round(100 * share), step)
        try:
            yield
        finally:
            engine.told = before


def made(model: Model, recipe: Recipe, images: CalibrationImages, engine: Engine) -> bytes:
    """The quantized file's bytes, stamped with how it was made. Raises QuantizeError."""
    proto = engine.quantize(model, recipe, images)
    return stamp(proto, model, recipe, _definition(images), images.crops.digests)


def _definition(images: CalibrationImages) -> str:
    return json.dumps(images.crops.pipeline.model_dump(mode="json"), sort_keys=True)
