"""tune: from a fp32 model to the best int8 file that a ladder of recipes gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from quantlab.bench.measurement import BenchResult
from quantlab.comparison import Comparison
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.errors import QuantizeError
from quantlab.evaluate.predictions import Predictions
from quantlab.gate import Policy, Verdict, judge, parse_policy
from quantlab.jobs import inputs
from quantlab.jobs.bench import BenchSpec, timed
from quantlab.jobs.calibration import calibration_images, check_disjoint, divided, drawn
from quantlab.jobs.compare import compared, results, save_artifacts
from quantlab.jobs.evaluate import predict
from quantlab.jobs.inputs import DataOptions, Found, ModelOptions, model_facts
from quantlab.jobs.quantize import find_recipe, quantized
from quantlab.model import Model
from quantlab.recipe import Recipe
from quantlab.report.advice import shortfall, suggestions
from quantlab.report.context import ReportContext, TrialRow
from quantlab.report.markdown import write_report
from quantlab.store import Run, check_writable, write_whole
from quantlab.talk import Talk
from quantlab.tune.ladder import ladder
from quantlab.tune.trials import Judged, Outcome, Trial, run_trials

TRIAL_SECONDS = 2.0
"""A trial's own timing; the best one is timed at length in the end."""
TRIAL_ROUNDS = 10


class TuneSpec(DataOptions, ModelOptions):
    """The options of ``quantlab tune``. ``budget`` is in seconds."""

    model: str
    eval_data: Path | None = None
    recipe: str | None = None
    output: Path | None = None
    max_decline: str = "1%"
    images_per_class: int = 1
    calibration_size: int | None = None
    seed: int = 0
    budget: float = 300.0
    allow_overlap: bool = False


@dataclass(frozen=True)
class Tuned:
    """The best file, how it compares to fp32, and everything tried."""

    output: Path
    best: Judged
    comparison: Comparison
    verdict: Verdict
    outcome: Outcome
    rows: tuple[TrialRow, ...]
    missed: str
    report: Path

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.outcome.stop == "interrupted"


@dataclass(frozen=True)
class Workbench:
    """What all trials of one tune share."""

    spec: TuneSpec
    policy: Policy
    model: Model
    output: Path
    calibration: Found
    images: CalibrationImages
    evaluation: Found
    crops: Crops
    baseline: Predictions
    run: Run
    talk: Talk

    def attempt(self, number: int, recipe: Recipe) -> tuple[Path, Comparison, Verdict]:
        """Quantize, evaluate, time briefly against fp32, compare, judge."""
        self.talk.say(f"Trial {number}: {recipe.name}")
        name = f"{number:02d}-{recipe.name}"
        path = self.run.artifact(f"trial {name}", f"trials/{name}.onnx")
        write_whole(path, quantized(self.model, recipe, self.images))
        int8 = self.load(path)
        answers = predict(int8, self.crops, self.talk, self.spec.threads)
        answers.save(self.run.artifact(f"predictions {name}", f"trials/{name}-predictions.npz"))
        timing = self.time(int8, TRIAL_ROUNDS, TRIAL_SECONDS)
        comparison = self.compare(int8, answers, timing)
        verdict = judge(comparison, self.policy)
        self.talk.say(f"  {trial_line(comparison)}")
        return path, comparison, verdict

    def load(self, path: Path) -> Model:
        """A trial's file as a Model that gives what the fp32 model gives."""
        return Model.load(path).with_overrides(
            layout=self.model.layout, output_kind=self.model.output_kind
        )

    def time(self, int8: Model, rounds: int, seconds: float) -> BenchResult:
        """fp32 and int8 interleaved in one run."""
        spec = BenchSpec(
            models=(),
            batch_sizes=(self.model.input.batch or 1,),
            rounds=rounds,
            seconds=seconds,
            threads=self.spec.threads or 1,
            seed=self.spec.seed,
        )
        return timed([self.model, int8], spec, self.talk)

    def compare(self, int8: Model, answers: Predictions, timing: BenchResult | None) -> Comparison:
        """int8 beside fp32."""
        return compared(
            (self.model, int8),
            (self.baseline, answers),
            timing,
            self.evaluation.dataset.class_names,
            self.spec.seed,
        )

    def keep(self, best: Judged) -> None:
        """The best so far becomes the output file."""
        write_whole(self.output, best.path.read_bytes())
        self.talk.say(f"  best so far: written to {self.output}")


def tune_job(spec: TuneSpec, run: Run, talk: Talk) -> Tuned:
    """Try the ladder (or the one recipe named), keep the best, report.

    Raises QuantizeError when no trial gave a file, with the first trial's reason.
    """
    policy = parse_policy(spec.max_decline)
    model = inputs.require_fp32(inputs.find_model(spec.model, spec, talk), "tune")
    output = spec.output or Path(f"{model.name}.int8.onnx")
    check_writable(output)
    bench = _prepare(spec, policy, model, output, run, talk)
    outcome = run_trials(_recipes(spec), bench.attempt, budget=spec.budget, on_best=bench.keep)
    model.check_unchanged()
    best = _best(outcome)
    comparison = _final_comparison(bench, best, outcome)
    verdict = judge(comparison, policy)
    tuned = Tuned(
        output,
        best,
        comparison,
        verdict,
        outcome,
        rows=tuple(_row(trial, best.trial) for trial in outcome.trials),
        missed=shortfall(verdict),
        report=run.artifact("report", "report.md"),
    )
    _record(bench, tuned)
    if tuned.interrupted:
        run.finish("interrupted")
    return tuned


def _recipes(spec: TuneSpec) -> Sequence[Recipe]:
    sample = {
        "seed": spec.seed,
        "images_per_class": spec.images_per_class,
        "calibration_size": spec.calibration_size,
    }
    rungs = ladder() if spec.recipe is None else (find_recipe(spec.recipe),)
    return [recipe.model_copy(update=sample) for recipe in rungs]


def _prepare(
    spec: TuneSpec, policy: Policy, model: Model, output: Path, run: Run, talk: Talk
) -> Workbench:
    """Images, calibration sample and the fp32 baseline."""
    pipeline = inputs.find_pipeline(model, spec, talk)
    calibration, evaluation = inputs.find_both(spec, spec.eval_data, model, talk)
    recipe = _recipes(spec)[0]
    if calibration is evaluation:
        sample, rest = divided(calibration.dataset, model, recipe, talk)
        evaluation = evaluation.of(rest)
    else:
        sample = drawn(calibration.dataset, model, recipe, talk)
    images = calibration_images(calibration, sample, model, pipeline, spec, talk)
    crops = inputs.load_images(evaluation, pipeline, spec, talk)
    check_disjoint(images.crops, crops, allow_overlap=spec.allow_overlap)
    baseline = predict(model, crops, talk, spec.threads)
    return Workbench(
        spec, policy, model, output, calibration, images, evaluation, crops, baseline, run, talk
    )


def _best(outcome: Outcome) -> Judged:
    best = outcome.best
    if best is not None:
        return best
    if outcome.stop == "interrupted":
        raise KeyboardInterrupt
    failed = outcome.trials[0]
    raise QuantizeError(f"no recipe gave a model; {failed.recipe.name}: {failed.error}")


def _final_comparison(bench: Workbench, best: Judged, outcome: Outcome) -> Comparison:
    """The best timed at length; the trial's own comparison when there is no more time for that."""
    if outcome.stop == "interrupted":
        return best.comparison
    int8 = bench.load(bench.output)
    answers = Predictions.load(best.path.with_name(f"{best.path.stem}-predictions.npz"))
    answers = replace(answers, model_name=int8.name)
    try:
        timing = timed_at_length(bench, int8)
    except KeyboardInterrupt:
        outcome.stop = "interrupted"
        return best.comparison
    save_artifacts(bench.run, (bench.baseline, answers), timing)
    return bench.compare(int8, answers, timing)


def timed_at_length(bench: Workbench, int8: Model) -> BenchResult:
    """The timing of the report."""
    defaults = BenchSpec(models=())
    return bench.time(int8, defaults.rounds, defaults.seconds)


def _record(bench: Workbench, tuned: Tuned) -> None:
    """The report and the record's results."""
    run, recipe = bench.run, tuned.best.trial.recipe
    context = ReportContext(
        command=run.record.command,
        environment=run.record.environment,
        data=inputs.data_words(bench.evaluation, bench.crops),
        calibration={
            "Calibration images": f"{len(bench.images)} of {bench.calibration.dataset.root}",
            "Seed": str(recipe.seed),
        },
        recipe=recipe.model_dump(mode="json"),
        output=str(tuned.output),
        trials=tuned.rows,
        shortfall=tuned.missed,
        suggestions=suggestions(tuned.verdict, tuned.outcome.stop) if tuned.missed else (),
        problems=bench.crops.problems,
        warnings=tuple(bench.talk.warnings),
    )
    write_report(run.folder, tuned.comparison, tuned.verdict, context)
    run.record.results = {
        "model": model_facts(bench.model),
        "output": model_facts(bench.load(tuned.output)),
        "data": inputs.data_facts(bench.evaluation, bench.crops),
        "calibration": inputs.data_facts(bench.calibration, bench.images.crops),
        "stop": tuned.outcome.stop,
        "recipe": recipe.model_dump(mode="json"),
        "trials": [_trial_record(trial) for trial in tuned.outcome.trials],
        **results(tuned.comparison, tuned.verdict),
    }


def trial_line(c: Comparison) -> str:
    """One line about a trial while it is running."""
    top1 = f"top-1 {c.int8.top1.value:.2%}, " if c.int8.top1 else ""
    kl = "" if c.fidelity.kl is None else f"KL {c.fidelity.kl:.4f}, "
    return f"{top1}agreement {c.fidelity.agreement.value:.2%}, {kl}{c.speedup or 1:.2f}x fp32"


def _row(trial: Trial, chosen: Trial) -> TrialRow:
    c = trial.comparison
    row = TrialRow(trial.recipe.name, trial.recipe.format, trial.recipe.ranges)
    if c is None:
        return replace(row, error=trial.error or "unknown")
    return replace(
        row,
        top1=c.int8.top1.value if c.int8.top1 else None,
        decline=c.top1.ratio if c.top1 else None,
        agreement=c.fidelity.agreement.value,
        kl=c.fidelity.kl,
        speedup=c.speedup,
        size_bytes=c.int8.size_bytes,
        chosen=trial is chosen,
    )


def _trial_record(trial: Trial) -> dict[str, object]:
    fields: dict[str, object] = {
        "number": trial.number,
        "recipe": trial.recipe.model_dump(mode="json"),
        "seconds": round(trial.seconds, 3),
        "error": trial.error,
    }
    if trial.comparison is None or trial.verdict is None:
        return fields
    return fields | {
        "path": trial.path.name if trial.path else None,
        "verdict": trial.verdict.status,
        "decline": trial.verdict.decline,
        "agreement": trial.comparison.fidelity.agreement.value,
        "kl": trial.comparison.fidelity.kl,
        "speedup": trial.comparison.speedup,
    }
