"""tune: search over recipes for the best int8 file of a fp32 model."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, assert_never, cast

from quantlab._util.files import check_writable, remove_parts, write_whole
from quantlab._util.reporter import Reporter
from quantlab._util.scratch import owner_of, scratch
from quantlab._util.timeline import Timeline
from quantlab.cluster.execution import ShardedExecution
from quantlab.compare.comparison import RuntimeSpeed
from quantlab.compare.speeds import in_other_runtime
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.errors import (
    DataError,
    MissingExtraError,
    OutputError,
    QuantizeError,
    QuantlabError,
    RecipeError,
    ResumeError,
    disk_is_full,
)
from quantlab.evaluate.predictions import Predictions, align
from quantlab.gate.criteria import AccuracyCriterion
from quantlab.gate.criterion import Criterion
from quantlab.gate.metrics import metrics_of
from quantlab.gate.notation import parse_criterion, parse_decline
from quantlab.gate.verdict import judge
from quantlab.inspect.counts import product_share
from quantlab.model.ir import is_ir
from quantlab.model.kinds import ONNX_RUNTIME, RuntimeName
from quantlab.model.model import Model
from quantlab.quantize import Engine, get_engine
from quantlab.quantize.checks import has_plain_form
from quantlab.quantize.peers import inc, nncf
from quantlab.recipe import Recipe
from quantlab.runtime.environment import default_threads, versions
from quantlab.targets import find_target
from quantlab.tune import strategies
from quantlab.tune.ladder import DYNAMIC, cheapest_first, ladder_of
from quantlab.tune.search import Search, SearchLimits, SearchOutcome, run_search
from quantlab.tune.space import default_space
from quantlab.tune.study import SharedStudy
from quantlab.tune.trial_store import TrialStore
from quantlab.tune.trials import Trial, picked
from quantlab.verbs import inputs
from quantlab.verbs.calibration_sample import calibration_images, check_disjoint, divided, drawn
from quantlab.verbs.compare import SideBySide
from quantlab.verbs.config import narrowed
from quantlab.verbs.evaluate import crops_and_answers
from quantlab.verbs.group_costs import CheapScore, GroupCosts
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.tune import TuneOptions as TuneOptions
from quantlab.verbs.pick import adopt
from quantlab.verbs.prefetch import FirstFile, MadeAhead, RecipePrefetcher
from quantlab.verbs.preprocessing_audit import check_reference, quick_audit
from quantlab.verbs.quantize import engine_of, find_recipe, warn_of_speed
from quantlab.verbs.sequential_evaluation import SequentialEvaluation
from quantlab.verbs.trial_runner import Prepared, RecipeFiles, TrialRunner
from quantlab.verbs.tuned import NotTuned, Tuned, unfinished_of
from quantlab.verbs.where import where

if TYPE_CHECKING:
    from quantlab.quantize.engine import QuantlabEngine

IMAGES_FOR_INC = 1000


@dataclass(frozen=True)
class Subject:
    """The fp32 model and its images; ``evaluation`` is ``calibration`` where one dataset has to
    serve for both. ``audit``: a wrong pipeline may be looked for."""

    model: Model
    pipeline: Pipeline
    calibration: LocatedDataset
    evaluation: LocatedDataset
    audit: bool = True


def tune_named_model(spec: TuneOptions, folder: Path, reporter: Reporter) -> Tuned | NotTuned:
    """Search over recipes for the named model; a run whose ``folder`` has trials continues where it
    was."""
    if spec.criterion is None:
        criterion: Criterion = parse_decline(spec.max_decline, tolerance=spec.tolerance)
    else:
        criterion = parse_criterion(spec.criterion, tolerance=spec.tolerance, tuning=True)
    model = inputs.require_fp32(inputs.find_model(spec.model, spec, reporter), "tune")

    def subject() -> Subject:
        pipeline = inputs.find_pipeline(model, spec, reporter)
        both = inputs.find_both_datasets(
            spec,
            spec.eval_data,
            model,
            reporter,
            eval_list=spec.eval_list,
            need_labels=criterion.needs_labels,
        )
        return Subject(model, pipeline, *both)

    output = spec.output or Path(f"{model.title}.int8.onnx")
    return tune(spec, criterion, subject, output, folder, reporter)


def tune(
    spec: TuneOptions,
    criterion: Criterion,
    find: Callable[[], Subject],
    output: Path,
    folder: Path,
    reporter: Reporter,
) -> Tuned | NotTuned:
    """Search over recipes for the best int8 file, which is at ``output`` whenever there is one.

    ``find`` opens the images once everything else was checked. ``folder`` is where trials are kept
    while they are made; those that are there already are not made again.
    """
    listed = _rungs(spec)
    _check(spec, criterion, listed)
    if is_ir(output):
        raise OutputError(
            f"{output}: tune writes ONNX, not OpenVINO IR.",
            "Name an .onnx file; Model.save, or quantize with the chosen recipe, makes IR of it.",
        )
    check_writable(output)
    timeline = Timeline()
    with (
        resumable(folder),
        scratch(folder),
        spec.executing(reporter) as execution,
        ExitStack() as stack,
    ):
        _tidy(folder, output)
        if spec.source is not None:
            adopt(spec.source, folder)
            reporter.say(f"Picking from {spec.source}, which stays as it is.")
        store = TrialStore(folder)
        with timeline.step("calibration images decoded"):
            sample = _sample(spec, find(), reporter)
        model, images = sample.model, sample.images
        identity = _identity(spec, criterion, sample)
        (store if spec.source is None else TrialStore(spec.source)).claim(identity)
        listed = [*listed, *_dynamic_rungs(spec, model)]
        rungs = [_sampled(rung, sample.sampling) for rung in listed]
        identifier = hashlib.sha256("\n".join(identity.values()).encode()).hexdigest()
        study = SharedStudy(spec.storage, folder, identifier)
        study.sync(store.trials())
        shared = study if spec.storage else None
        score = CheapScore(model, images, execution.threads)
        costs = GroupCosts(model, score, folder, reporter)
        search, certain = plan(spec, rungs, costs, shared)
        engines: dict[str, Engine] = {}
        ahead = _made_ahead(spec, sample, certain, engines, store, execution, timeline, reporter)
        if isinstance(ahead, FirstFile):
            stack.enter_context(ahead)
        with timeline.step("fp32 evaluated"):
            prepared = _prepare(spec, criterion, sample, listed, store, reporter, execution)
        engines |= _inc_search(spec, prepared)
        files = RecipeFiles(prepared, store, execution, reporter, ahead, engines, timeline)
        trials = TrialRunner(
            prepared, files, score, store, shared, execution, reporter, timeline,
            seed=spec.seed, bench=not spec.no_bench,
            stop_on=("fail",) if spec.early_stop == "off" else ("pass", "fail"),
        )  # fmt: skip
        best = BestFile(output, files, folder, reporter)

        def on_trial(outcome: SearchOutcome) -> None:
            study.sync(outcome.trials)
            best.keep(outcome.best)

        limits = SearchLimits(spec.budget, spec.max_trials, spec.target_speedup)
        if spec.source is not None:
            costs.recall()
            outcome = SearchOutcome(store.trials(), "picked")
        else:
            outcome = run_search(search, trials.attempt, store, limits, on_trial=on_trial)
        study.sync(outcome.trials)
        model.check_unchanged()
        return _finish(spec, limits, trials, costs, outcome, best)


def _made_ahead(
    spec: TuneOptions,
    sample: TuningImages,
    certain: Sequence[Recipe],
    engines: dict[str, Engine],
    store: TrialStore,
    execution: ShardedExecution,
    timeline: Timeline,
    reporter: Reporter,
) -> MadeAhead | None:
    """Who makes files before they are asked for: workers, or a thread here for the first recipe,
    where more than one core may be used, quantlab's engine, then in ``engines``, makes it, and no
    other machine can have made it."""
    model, images = sample.model, sample.images
    if execution.sharded is not None:
        return RecipePrefetcher(execution.sharded, model, images, certain, reporter)
    first = next(iter(certain), None)
    known = first is None or store.find(first.digest) is not None
    if first is None or known or first.engine != "quantlab":
        return None
    if spec.source is not None or spec.storage is not None:
        return None
    if (execution.threads or default_threads()) == 1:
        return None
    engine = engine_of(first.engine, None, reporter)
    engines[first.engine] = engine
    return FirstFile(model, images, first, cast("QuantlabEngine", engine), timeline, reporter)


class BestFile:
    """The output file: the best so far, on disk as soon as it is known."""

    def __init__(self, output: Path, files: RecipeFiles, folder: Path, reporter: Reporter) -> None:
        self.output, self.folder = output, folder
        self._files, self._reporter = files, reporter
        self._kept: str | None = None

    def keep(self, best: Trial | None) -> None:
        """Write the trial's file, where it is another than before."""
        if best is not None and best.sha256 and best.sha256 != self._kept:
            self.put(best)
            self._kept = best.sha256
            self._reporter.say(f"  best so far: {best.recipe.name}, written to {self.output}")

    def put(self, trial: Trial) -> Path:
        """Make the output equal to the trial's file, whatever another process has put there;
        returns the trial's file."""
        file = self._files.of(trial)
        content = file.read_bytes()
        if not self.output.is_file() or self.output.read_bytes() != content:
            write_whole(self.output, content, owner_of(self.folder))
        return file


@contextmanager
def resumable(folder: Path) -> Iterator[None]:
    """What cannot be written, mostly for a full disk, ends the tune, not what it has found: the
    error says how to go on."""
    more = f"quantlab tune --resume {folder} goes on where it was."
    try:
        yield
    except OutputError as error:
        raise OutputError(error.problem, f"{error.remedy} {more}") from error
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise OutputError("the disk is full.", f"Free some space. {more}") from error


def _tidy(folder: Path, output: Path) -> None:
    """Removes what a killed tune of this run was writing."""
    for place in (folder, folder / "trials", folder / "models"):
        remove_parts(place)
    remove_parts(output.parent, f"{output.name}.{owner_of(folder)}")


def _check(spec: TuneOptions, criterion: Criterion, rungs: Sequence[Recipe]) -> None:
    """Raises QuantlabError now for what else would be found after calibration: a metric or an
    engine that is not there."""
    metrics_of(criterion)
    if spec.inc_strategy is not None:
        _known_to_inc(criterion)
    for name in dict.fromkeys([r.engine for r in rungs] + [*(spec.space or {}).get("engine", ())]):
        get_engine(name)
        for peer in (inc.PEER, nncf.PEER):
            if name == peer.key and not os.environ.get(peer.variable) and not _here(peer.module):
                raise MissingExtraError(
                    peer.package, peer.key, f"the {name} engine ({peer.product})"
                )


def _here(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _known_to_inc(criterion: Criterion) -> AccuracyCriterion:
    if isinstance(criterion, AccuracyCriterion) and criterion.metric == "top1":
        return criterion
    raise QuantlabError(
        "--inc-strategy knows a decline of top-1 only, no other criterion.",
        "Give --max-decline, or leave --inc-strategy out.",
    )


@dataclass(frozen=True)
class TuningImages:
    """The subject's calibration sample, decoded. ``sampling`` is a recipe with it; ``evaluation``
    are the images that judge."""

    subject: Subject
    sampling: Recipe
    images: CalibrationImages
    evaluation: LocatedDataset

    @property
    def model(self) -> Model:
        """fp32."""
        return self.subject.model


def _sample(spec: TuneOptions, subject: Subject, reporter: Reporter) -> TuningImages:
    """Draw and decode the calibration sample; look at whether the preprocessing is right."""
    model, pipeline = subject.model, subject.pipeline
    calibration, evaluation = subject.calibration, subject.evaluation
    if calibration is evaluation:
        drawn_images, rest, sampling = divided(
            calibration.dataset, model, _sampling(spec), reporter
        )
        evaluation = evaluation.of(rest)
    else:
        drawn_images, sampling = drawn(calibration.dataset, model, _sampling(spec), reporter)
    if not len(evaluation.dataset):
        raise DataError(f"{evaluation.dataset.root}: no image is left to judge on.")
    images = calibration_images(calibration, drawn_images, model, pipeline, spec, reporter)
    if subject.audit and not (spec.no_audit or _is_known(model, pipeline)):
        quick_audit(model, images.crops, reporter, spec.threads)
    check_disjoint(images.crops, evaluation.dataset, allow_overlap=spec.allow_overlap)
    return TuningImages(subject, sampling, images, evaluation)


def _prepare(
    spec: TuneOptions,
    criterion: Criterion,
    sample: TuningImages,
    rungs: Sequence[Recipe],
    store: TrialStore,
    reporter: Reporter,
    execution: ShardedExecution,
) -> Prepared:
    """The evaluation images, decoded, and fp32's answers."""
    model = sample.model
    crops, baseline = _baseline(spec, sample, store.folder, reporter, execution)
    check_reference(model, crops, baseline, None, spec.threads)
    return Prepared(
        model=model,
        criterion=criterion,
        calibration=sample.subject.calibration,
        sampling=sample.sampling,
        images=sample.images,
        evaluation=sample.evaluation,
        crops=crops,
        baseline=baseline,
        asked=frozenset(name for rung in rungs for name in rung.exclude),
        runtime_by_target=spec.runtime == "auto",
    )


def _is_known(model: Model, pipeline: Pipeline) -> bool:
    """Whether the model's metadata or its bytes name this very pipeline: nothing is in doubt."""
    known = inputs.known_pipeline(model)
    return known is not None and get_pipeline(known, size=model.input.sides) == pipeline


def _inc_search(spec: TuneOptions, prepared: Prepared) -> dict[str, Engine]:
    """With --inc-strategy, Neural Compressor searches by itself, on at most IMAGES_FOR_INC of the
    evaluation images, which it holds in memory."""
    if spec.inc_strategy is None:
        return {}
    limit = _known_to_inc(prepared.criterion)
    crops, count = prepared.crops, IMAGES_FOR_INC
    own = inc.IncTuning(
        strategy=spec.inc_strategy,
        images=crops.inputs(slice(count), prepared.model.input),
        labels=None if crops.labels is None else crops.labels[:count],
        max_decline=limit.max_decline,
        kind=limit.kind,
        max_trials=spec.max_trials or 100,
    )
    return {"inc": inc.IncEngine(tuning=own)}


def _baseline(
    spec: TuneOptions,
    sample: TuningImages,
    folder: Path,
    reporter: Reporter,
    execution: ShardedExecution,
) -> tuple[Crops, Predictions]:
    """The evaluation images and fp32's answers, these from the run folder when it is resumed.

    Raises ResumeError when those are of another model or of other images.
    """
    model, pipeline = sample.model, sample.subject.pipeline
    path = folder / "fp32-predictions.npz"
    if not path.is_file():
        crops, answers = crops_and_answers(
            model, sample.evaluation, pipeline, spec, reporter, execution
        )
        answers.save(path)
        return crops, answers
    crops = inputs.load_images(sample.evaluation, pipeline, spec, reporter, execution.sharded)
    answers = Predictions.load(path)
    if (answers.model_sha256, answers.digests) != (model.sha256, crops.digests):
        raise ResumeError(
            f"{folder} was tuned with another model or other images.", "Start a new run."
        )
    return crops, answers


def _identity(spec: TuneOptions, criterion: Criterion, sample: TuningImages) -> dict[str, str]:
    """By name, what trials must have in common to be compared. The seed and the number of images
    are in the calibration images."""
    model = sample.model
    parts = {
        "model": model.sha256,
        "layout": model.input.layout,
        "output kind": model.output_kind,
        "evaluation images": sample.evaluation.dataset.digest,
        "calibration images": sample.images.crops.dataset_digest,
        "pipeline": sample.subject.pipeline.digest,
        "criterion": criterion.model_dump_json(),
    }
    runtime = None if spec.runtime == ONNX_RUNTIME else spec.runtime
    asked = {
        "inc strategy": spec.inc_strategy,
        "output": model.output_name,
        "runtime": runtime,
    }
    return parts | {name: value for name, value in asked.items() if value}


def _sampling(spec: TuneOptions) -> Recipe:
    """A recipe with this tune's calibration sample, its own or that of the recipe it was given, and
    seed."""
    given = find_recipe(spec.recipe)
    if spec.images_per_class is not None or spec.calibration_size is not None:
        sample = {
            "images_per_class": spec.images_per_class,
            "calibration_size": spec.calibration_size,
        }
        given = given.model_copy(update=sample)
    return given.model_copy(update={"seed": spec.seed})


def _sampled(recipe: Recipe, sampling: Recipe) -> Recipe:
    """The recipe with the other's calibration sample and seed."""
    return recipe.model_copy(
        update=sampling.model_dump(include={"seed", "images_per_class", "calibration_size"})
    )


def _rungs(spec: TuneOptions) -> list[Recipe]:
    """The recipes to set out from: the one named by the user, else the engines' ladders."""
    engines = spec.engines or (spec.engine,)
    target = _target(spec)
    if spec.recipe:
        listed = [find_recipe(spec.recipe, spec.target)]
    else:
        every = [r for e in engines for r in ladder_of(e)]
        listed = _aimed(every, target)
        if spec.runtime == "auto" and target is None:
            named = [r.model_copy(update={"name": f"openvino-{r.name}"}) for r in every]
            listed += _aimed(named, "openvino")
    rungs = list(narrowed(listed, spec.space or {}))
    if not rungs:
        kept = "the search space" if listed else f"the target {spec.target}"
        raise RecipeError(
            f"no recipe keeps to {kept}.", "Allow more values in search, or another engine."
        )
    return rungs


def _target(spec: TuneOptions) -> str | None:
    """The target of recipes that name none: in OpenVINO its own."""
    return spec.target or ("openvino" if spec.runtime == "openvino" else None)


def _aimed(recipes: Sequence[Recipe], target: str | None) -> list[Recipe]:
    """Those that suit the target and that their engines can make for it. Raises RecipeError for a
    target that there is not."""
    if target is not None:
        find_target(target)
    found = []
    for recipe in recipes:
        with suppress(RecipeError):
            found.append(recipe.aimed_at(target))
    return [recipe for recipe in found if recipe.engine == "quantlab" or has_plain_form(recipe)]


def _dynamic_rungs(spec: TuneOptions, model: Model) -> list[Recipe]:
    """Dynamic ranges, as a rung of quantlab's ladder where most of the MACs are matrix products."""
    climbs = not spec.recipe and spec.strategy == "ladder"
    if not climbs or "quantlab" not in (spec.engines or (spec.engine,)):
        return []
    if product_share(model.proto(), model.input) <= 0.5:
        return []
    return list(narrowed(_aimed([DYNAMIC], _target(spec)), spec.space or {}))


class SearchPlan(NamedTuple):
    """A strategy's search, and the recipes that it asks for in any case."""

    search: Search
    certain: Sequence[Recipe] = ()


def plan(
    spec: TuneOptions, rungs: Sequence[Recipe], costs: GroupCosts, study: SharedStudy | None
) -> SearchPlan:
    """What the strategy does, from the first rung on."""
    start = rungs[0]
    space = spec.space or default_space(start.engine)
    busy = set if study is None else study.busy
    match spec.strategy:
        case "ladder":
            front_of = None if spec.recipe else costs.front_of
            engines = spec.engines or (spec.engine,)
            return SearchPlan(strategies.ladder(rungs, front_of, engines), rungs)
        case "basic":
            listed = cheapest_first(rungs)
            return SearchPlan(strategies.basic(listed, costs.ranking), listed)
        case "sensitivity":
            return SearchPlan(strategies.sensitivity(start, costs.front_of), (start,))
        case "conservative":
            return SearchPlan(strategies.conservative(start, costs.ranking))
        case "grid":
            every = strategies.combinations(start, space)
            return SearchPlan(strategies.grid(start, space, busy), every)
        case "exhaustive":
            every = [*rungs, *strategies.combinations(start, space)]
            return SearchPlan(strategies.exhaustive(rungs, start, space, busy), every)
        case "random" | "tpe":
            from quantlab.tune.sampling import sampled

            others = list if study is None else study.others
            return SearchPlan(sampled(start, space, spec.strategy, spec.seed, others, busy))
        case _:
            assert_never(spec.strategy)


def _finish(
    spec: TuneOptions,
    limits: SearchLimits,
    trials: TrialRunner,
    costs: GroupCosts,
    outcome: SearchOutcome,
    output: BestFile,
) -> Tuned | NotTuned:
    """The chosen trial, written and timed at length."""
    prepared, reporter = trials.prepared, trials.reporter
    chosen = picked(outcome.trials, spec.pick) or outcome.best
    output.keep(chosen)
    if chosen is None or chosen.scores is None:
        place = None if outcome.best is None else output.output
        ended = unfinished_of(outcome, limits, output.folder)
        return NotTuned(_nothing(outcome), prepared, spec.strategy, outcome, ended, place)
    int8 = trials.files.load(output.put(chosen), output.output.stem, chosen.recipe)
    warn_of_speed(int8, reporter)
    known = trials.known_answers(chosen) if spec.early_stop == "report" else None
    answers = replace(known or trials.all_answers(chosen, int8), model_name=int8.name)
    timing, speed, reverted = None, None, costs.reverted(chosen, outcome.trials)
    if trials.bench and outcome.stop != "interrupted":
        try:
            timing = trials.timing(chosen, int8, spec.bench)
            speed = _speed_elsewhere(trials, int8, _other_runtime(spec))
            reverted = costs.with_times(chosen.recipe, reverted, trials.milliseconds)
        except KeyboardInterrupt:
            outcome = replace(outcome, stop="interrupted")
    comparison = trials.compare(replace(int8, path=output.output), answers, timing)
    with trials.timeline.step("other CPUs and runtimes"):
        holds = where(int8, prepared.images.crops, trials.execution)
    comparison = comparison.model_copy(update={"where": holds, "runtime_speed": speed})
    baseline, seen, early = prepared.baseline, len(answers), None
    if seen < len(baseline):
        same = align(baseline, answers)
        early = SequentialEvaluation((same.first, same.second), seen, len(baseline), decided=True)
    return Tuned(
        output=output.output,
        int8=int8,
        best=chosen,
        side=SideBySide(comparison, (baseline, answers), timing, prepared.crops, early),
        verdict=judge(comparison, prepared.criterion, anytime=early is not None),
        prepared=prepared,
        strategy=spec.strategy,
        outcome=outcome,
        reverted=reverted,
        front=costs.front,
        ended=unfinished_of(outcome, limits, output.folder),
        steps=trials.timeline.steps,
    )


def _speed_elsewhere(
    trials: TrialRunner, int8: Model, other: RuntimeName | None
) -> RuntimeSpeed | None:
    """The file's speed in the other runtime over its own, where that can run it."""
    if other is None:
        return None
    try:
        own, there = trials.beside(int8, other).measurements[:2]
    except QuantlabError as error:
        trials.reporter.say(f"Not timed in {other}: {error.problem}")
        return None
    return in_other_runtime(own[0], there[0], other, *versions([other]).values())


def _other_runtime(spec: TuneOptions) -> RuntimeName | None:
    """OpenVINO, where nobody has asked for a runtime and it is installed."""
    asked = spec.runtime or spec.target or spec.provider
    return "openvino" if asked is None and _here("openvino") else None


def _nothing(outcome: SearchOutcome) -> BaseException:
    if outcome.stop == "interrupted":
        return KeyboardInterrupt()
    failed = next((t for t in outcome.trials if t.error), None)
    reason = f"{failed.recipe.name}: {failed.error}" if failed else "nothing was tried"
    return QuantizeError(f"no recipe gave a model; {reason}")
