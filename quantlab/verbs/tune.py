"""tune: search over recipes for the best int8 file of a fp32 model."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from quantlab._util.files import check_writable, remove_parts, write_whole
from quantlab._util.reporter import Reporter
from quantlab._util.scratch import owner_of, scratch
from quantlab.cluster.execution import ShardedExecution
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
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criteria import AccuracyCriterion
from quantlab.gate.criterion import Criterion
from quantlab.gate.metrics import metrics_of
from quantlab.gate.notation import parse_criterion, parse_decline
from quantlab.gate.verdict import judge
from quantlab.inspect.speed_formats import slow_format
from quantlab.model.model import Model
from quantlab.quantize import Engine, get_engine
from quantlab.quantize.peers import inc, nncf
from quantlab.recipe import Recipe
from quantlab.report.advice import shortfall
from quantlab.runs.run import Run
from quantlab.tune import strategies
from quantlab.tune.ladder import cheapest_first, ladder_of
from quantlab.tune.ledger import Ledger
from quantlab.tune.search import Limits, Outcome, Search, run_search
from quantlab.tune.space import default_space
from quantlab.tune.study import SharedStudy
from quantlab.tune.trials import Trial, picked
from quantlab.verbs import inputs
from quantlab.verbs.audit import check_reference, quick_audit
from quantlab.verbs.calibration import calibration_images, check_disjoint, divided, drawn
from quantlab.verbs.compare import save_artifacts
from quantlab.verbs.config import narrowed
from quantlab.verbs.evaluate import predict
from quantlab.verbs.inputs import LocatedDataset
from quantlab.verbs.options.tune import TuneOptions as TuneOptions
from quantlab.verbs.pick import adopt
from quantlab.verbs.prefetch import RecipePrefetcher
from quantlab.verbs.quantize import find_recipe
from quantlab.verbs.tune_context import TuneContext
from quantlab.verbs.tuned import Tuned, record, record_unjudged, trial_rows, unfinished_of

IMAGES_FOR_INC = 1000


@dataclass(frozen=True)
class Subject:
    """The fp32 model and its images; ``evaluation`` is ``calibration`` where one dataset has to
    serve for both."""

    model: Model
    pipeline: Pipeline
    calibration: LocatedDataset
    evaluation: LocatedDataset


def tune_job(spec: TuneOptions, run: Run, reporter: Reporter) -> Tuned:
    """Search over recipes, write the best int8 file, report. A run that is resumed continues where
    it was.

    Raises QuantizeError when no trial gave a file, with the first trial's reason.
    """
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

    output = spec.output or Path(f"{model.name}.int8.onnx")
    return search(spec, criterion, subject, output, run, reporter)


def search(
    spec: TuneOptions,
    criterion: Criterion,
    find: Callable[[], Subject],
    output: Path,
    run: Run,
    reporter: Reporter,
    *,
    report: bool = True,
) -> Tuned:
    """Run a tune over a given model, images and criterion; ``find`` opens the images once
    everything else was checked.

    Raises QuantizeError when no trial gave a file, with the first trial's reason.
    """
    rungs = _rungs(spec)
    _check(spec, criterion, rungs)
    check_writable(output)
    with (
        _resumable(run.folder),
        scratch(run.folder),
        spec.executing(reporter) as execution,
    ):
        _tidy(run.folder, output)
        if spec.source is not None:
            adopt(spec.source, run)
            reporter.say(f"Picking from {spec.source}, which stays as it is.")
        subject = find()
        model = subject.model
        tuning = _prepare(spec, criterion, subject, run, reporter, execution)
        rungs = [_sampled(rung, tuning.sampling) for rung in rungs]
        tuning.prefetcher = _prefetcher(spec, rungs, tuning)
        tuning.asked = frozenset(name for rung in rungs for name in rung.exclude)
        tuning.engines.update(_inc_search(spec, tuning))
        study = SharedStudy(spec.storage, run.folder, tuning.identity)
        study.sync(tuning.ledger.trials())
        if spec.storage:
            tuning.others, tuning.busy, tuning.claim = study.others, study.busy, study.claim
        kept: list[str] = []

        def on_trial(outcome: Outcome) -> None:
            study.sync(outcome.trials)
            _keep(tuning, outcome.best, output, kept)

        if spec.source is not None:
            tuning.recall_costs()
            outcome = Outcome(tuning.ledger.trials(), "picked")
        else:
            limits = Limits(spec.budget, spec.max_trials, spec.target_speedup)
            outcome = run_search(
                _search(spec, rungs, tuning),
                tuning.attempt,
                tuning.ledger,
                limits,
                on_trial=on_trial,
            )
        study.sync(outcome.trials)
        model.check_unchanged()
        return _finish(spec, tuning, outcome, output, kept, run, report=report)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """What cannot be written, mostly for a full disk, ends the tune, not what it has found."""
    execution = f"quantlab tune --resume {folder} goes on where it was."
    try:
        yield
    except OutputError as error:
        raise OutputError(error.problem, f"{error.remedy} {execution}") from error
    except OSError as error:
        if not disk_is_full(error):
            raise
        raise OutputError("the disk is full.", f"Free some space. {execution}") from error


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


def _prepare(
    spec: TuneOptions,
    criterion: Criterion,
    subject: Subject,
    run: Run,
    reporter: Reporter,
    execution: ShardedExecution,
) -> TuneContext:
    """Images, calibration sample and the fp32 baseline."""
    model, pipeline = subject.model, subject.pipeline
    calibration, evaluation = subject.calibration, subject.evaluation
    if calibration is evaluation:
        sample, rest, sampling = divided(calibration.dataset, model, _sampling(spec), reporter)
        evaluation = evaluation.of(rest)
    else:
        sample, sampling = drawn(calibration.dataset, model, _sampling(spec), reporter)
    images = calibration_images(calibration, sample, model, pipeline, spec, reporter)
    if not (spec.no_audit or _is_known(model, pipeline)):
        quick_audit(model, images.crops, reporter, spec.threads)
    crops = inputs.load_images(evaluation, pipeline, spec, reporter, execution.sharded)
    if not len(crops):
        raise DataError(f"{evaluation.dataset.root}: no image is left to judge on.")
    check_disjoint(images.crops, crops, allow_overlap=spec.allow_overlap)
    identity = _identity(spec, criterion, model, images.crops, crops)
    ledger = Ledger(run.folder)
    (ledger if spec.source is None else Ledger(spec.source)).claim(identity)
    baseline = _baseline(model, crops, run, reporter, execution)
    check_reference(model, crops, baseline, None, spec.threads)
    return TuneContext(
        model=model,
        criterion=criterion,
        calibration=calibration,
        sampling=sampling,
        images=images,
        evaluation=evaluation,
        crops=crops,
        baseline=baseline,
        ledger=ledger,
        reporter=reporter,
        execution=execution,
        seed=spec.seed,
        bench=not spec.no_bench,
        identity=hashlib.sha256("\n".join(identity.values()).encode()).hexdigest(),
    )


def _is_known(model: Model, pipeline: Pipeline) -> bool:
    """Whether the model's metadata or its bytes name this very pipeline: nothing is in doubt."""
    known = inputs.known_pipeline(model)
    return known is not None and get_pipeline(known, size=model.input.sides) == pipeline


def _inc_search(spec: TuneOptions, tuning: TuneContext) -> dict[str, Engine]:
    """With --inc-strategy, Neural Compressor searches by itself, on at most IMAGES_FOR_INC of the
    evaluation images, which it holds in memory."""
    if spec.inc_strategy is None:
        return {}
    limit = _known_to_inc(tuning.criterion)
    crops, count = tuning.crops, IMAGES_FOR_INC
    own = inc.IncTuning(
        strategy=spec.inc_strategy,
        images=crops.inputs(slice(count), tuning.model.input),
        labels=None if crops.labels is None else crops.labels[:count],
        max_decline=limit.max_decline,
        kind=limit.kind,
        max_trials=spec.max_trials or 100,
    )
    return {"inc": inc.IncEngine(tuning=own)}


def _baseline(
    model: Model, crops: Crops, run: Run, reporter: Reporter, execution: ShardedExecution
) -> Predictions:
    """fp32's answers, from the run folder when it is resumed.

    Raises ResumeError when those are of another model or of other images.
    """
    path = run.artifact("fp32_predictions", "fp32-predictions.npz")
    if not path.is_file():
        answers = predict(model, crops, reporter, execution)
        answers.save(path)
        return answers
    answers = Predictions.load(path)
    if (answers.model_sha256, answers.digests) != (model.sha256, crops.digests):
        raise ResumeError(
            f"{run.folder} was tuned with another model or other images.", "Start a new run."
        )
    return answers


def _identity(
    spec: TuneOptions, criterion: Criterion, model: Model, calibration: Crops, evaluation: Crops
) -> dict[str, str]:
    """By name, what trials must have in common to be compared. The seed and the number of images
    are in the calibration images."""
    parts = {
        "model": model.sha256,
        "layout": model.input.layout,
        "output kind": model.output_kind,
        "evaluation images": evaluation.dataset_digest,
        "calibration images": calibration.dataset_digest,
        "pipeline": evaluation.pipeline.digest,
        "criterion": criterion.model_dump_json(),
    }
    asked = {"inc strategy": spec.inc_strategy, "output": model.output_name}
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
    listed = (
        [find_recipe(spec.recipe)] if spec.recipe else [r for e in engines for r in ladder_of(e)]
    )
    rungs = list(narrowed(listed, spec.space or {}))
    if not rungs:
        raise RecipeError("no recipe keeps to the search space.", "Allow more values in search.")
    return rungs


def _search(spec: TuneOptions, rungs: Sequence[Recipe], tuning: TuneContext) -> Search:
    """The strategy's generator, from the first rung on."""
    start = rungs[0]
    space = spec.space or default_space(start.engine)
    if spec.strategy == "sensitivity":
        return strategies.sensitivity(start, tuning.ranking)
    if spec.strategy == "basic":
        return strategies.basic(cheapest_first(rungs), tuning.ranking)
    if spec.strategy == "conservative":
        return strategies.conservative(start, tuning.ranking)
    if spec.strategy == "grid":
        return strategies.grid(start, space, tuning.busy)
    if spec.strategy == "exhaustive":
        return strategies.exhaustive(rungs, start, space, tuning.busy)
    if spec.strategy in ("random", "tpe"):
        from quantlab.tune.sampling import sampled

        return sampled(start, space, spec.strategy, spec.seed, tuning.others, tuning.busy)
    return strategies.ladder(cheapest_first(rungs), None if spec.recipe else tuning.ranking)


def _prefetcher(
    spec: TuneOptions, rungs: Sequence[Recipe], tuning: TuneContext
) -> RecipePrefetcher | None:
    """A prefetcher for the recipes that the strategy will ask for in any case; None where no
    workers can quantize them in parallel."""
    if tuning.execution.sharded is None:
        return None
    start, listed = rungs[0], cheapest_first(rungs)
    space = spec.space or default_space(start.engine)
    recipes = {
        "ladder": listed,
        "basic": listed,
        "grid": strategies.combinations(start, space),
        "exhaustive": [*rungs, *strategies.combinations(start, space)],
    }.get(spec.strategy, [])
    return RecipePrefetcher(
        tuning.execution.sharded, tuning.model, tuning.images, recipes, tuning.reporter
    )


def _keep(tuning: TuneContext, best: Trial | None, output: Path, kept: list[str]) -> None:
    """The best so far becomes the output file."""
    if best is not None and best.sha256 and best.sha256 not in kept[-1:]:
        _put(tuning, tuning.model_file(best), output)
        kept.append(best.sha256)
        tuning.reporter.say(f"  best so far: {best.recipe.name}, written to {output}")


def _put(tuning: TuneContext, file: Path, output: Path) -> None:
    """Makes the output equal to the file, whatever another process has put there."""
    content = file.read_bytes()
    if not output.is_file() or output.read_bytes() != content:
        write_whole(output, content, owner_of(tuning.ledger.folder))


def _finish(
    spec: TuneOptions,
    tuning: TuneContext,
    outcome: Outcome,
    output: Path,
    kept: list[str],
    run: Run,
    *,
    report: bool,
) -> Tuned:
    """The chosen trial timed at length, written and, where asked, reported."""
    best = picked(outcome.trials, spec.pick) or outcome.best
    _keep(tuning, best, output, kept)
    if best is None or best.scores is None:
        if report:
            record_unjudged(tuning, outcome, output, spec, run)
        raise _nothing(outcome)
    file = tuning.model_file(best)
    _put(tuning, file, output)
    int8 = tuning.load(file, output.stem)
    if sentence := slow_format(int8.proto().graph):
        tuning.reporter.warn(sentence)
    answers = replace(_all_answers(tuning, best, int8), model_name=int8.name)
    timing, reverted = None, tuning.reverted(best, outcome.trials)
    if tuning.bench and outcome.stop != "interrupted":
        try:
            timing = tuning.time(int8, spec.bench)
            reverted = tuning.with_times(best.recipe, reverted)
        except KeyboardInterrupt:
            outcome.stop = "interrupted"
    save_artifacts(run, (tuning.baseline, answers), timing)
    comparison = tuning.compare(replace(int8, path=output), answers, timing)
    verdict = judge(comparison, tuning.criterion)
    tuned = Tuned(
        output,
        best,
        comparison,
        verdict,
        outcome,
        reverted=reverted,
        rows=trial_rows(outcome.trials, best),
        ended=unfinished_of(outcome, spec, run),
        missed=shortfall(verdict),
        report=run.artifact("report", "report.md"),
    )
    if report:
        record(tuning, tuned, int8, spec, run)
    if tuned.interrupted:
        run.finish("interrupted")
    return tuned


def _all_answers(tuning: TuneContext, best: Trial, int8: Model) -> Predictions:
    """The trial's answers on all images, computed again if it was stopped early or made on another
    machine."""
    path = tuning.ledger.predictions_path(best.digest)
    if best.status == "done" and path.is_file():
        return Predictions.load(path)
    return predict(int8, tuning.crops, tuning.reporter, tuning.execution)


def _nothing(outcome: Outcome) -> BaseException:
    if outcome.stop == "interrupted":
        return KeyboardInterrupt()
    failed = next((t for t in outcome.trials if t.error), None)
    reason = f"{failed.recipe.name}: {failed.error}" if failed else "nothing was tried"
    return QuantizeError(f"no recipe gave a model; {reason}")
