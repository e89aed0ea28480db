"""The result of a tune, its report and its record."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quantlab._util.units import duration
from quantlab.compare.comparison import Comparison
from quantlab.gate.verdict import Verdict
from quantlab.model.model import Model
from quantlab.report.advice import suggestions, unfinished
from quantlab.report.context import ReportContext, TrialRow, Unfinished
from quantlab.report.worth import worth
from quantlab.runs.run import Run
from quantlab.tune.reverted import Reverted
from quantlab.tune.search import Outcome
from quantlab.tune.trials import Trial, pareto_front
from quantlab.verbs import inputs
from quantlab.verbs.compare import results
from quantlab.verbs.inputs import model_facts
from quantlab.verbs.portability import portability_words
from quantlab.verbs.reports import report, report_unjudged
from quantlab.verbs.tune_context import TuneContext

if TYPE_CHECKING:
    from quantlab.verbs.tune import TuneOptions

LEAST_BUDGET = 10.0
"""Seconds: less would not go far when the tune goes on."""


@dataclass(frozen=True)
class Tuned:
    """The best file, how it compares to fp32, and everything tried."""

    output: Path
    best: Trial
    comparison: Comparison
    verdict: Verdict
    outcome: Outcome
    reverted: tuple[Reverted, ...]
    rows: tuple[TrialRow, ...]
    ended: Unfinished | None
    missed: str
    report: Path

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.outcome.stop == "interrupted"


def record(tuning: TuneContext, tuned: Tuned, int8: Model, spec: TuneOptions, run: Run) -> None:
    """The report and the record's results. ``int8`` is the best file."""
    recipe = tuned.best.recipe
    source = {} if run.record.source is None else {"Picked from the trials of": run.record.source}
    context = ReportContext(
        command=run.record.command,
        environment=run.record.environment,
        data=inputs.data_words(tuning.evaluation, tuning.crops) | source,
        calibration={
            "images": f"{len(tuning.images)} of {tuning.calibration.dataset.root}",
            "seed": str(recipe.seed),
        },
        recipe=recipe.model_dump(mode="json"),
        output=str(tuned.output),
        trials=tuned.rows,
        reverted=tuned.reverted,
        unfinished=tuned.ended,
        shortfall=tuned.missed,
        portability=portability_words(int8, tuning.images.crops),
        suggestions=suggestions(tuned.verdict, tuned.outcome.stop) if tuned.missed else (),
        problems=tuning.crops.problems,
        warnings=tuple(tuning.reporter.warnings),
    )
    report(run, tuned.comparison, tuned.verdict, context, tuning.crops)
    run.record.results = {
        "model": model_facts(tuning.model),
        "output": model_facts(replace(int8, path=tuned.output)),
        "data": inputs.data_facts(tuning.evaluation, tuning.crops),
        "calibration": inputs.data_facts(tuning.calibration, tuning.images.crops),
        **_search_facts(spec.strategy, tuned.outcome, tuned.ended),
        "recipe": recipe.model_dump(mode="json"),
        "reverted": [group.model_dump(mode="json") for group in tuned.reverted],
        "pareto_front": [trial.digest for trial in pareto_front(tuned.outcome.trials)],
        **results(
            tuned.comparison,
            tuned.verdict,
            "" if tuned.ended is None else unfinished(tuned.ended),
            worth(tuned.comparison, tuned.rows),
        ),
    }


def unfinished_of(outcome: Outcome, spec: TuneOptions, run: Run) -> Unfinished | None:
    """What a limit left undone, None of a tune that came to its end. The command has a limit that
    is not reached yet."""
    settled = sum(trial.status != "scored" for trial in outcome.trials)
    resume = f"quantlab tune --resume {shlex.quote(str(run.folder))}"
    match outcome.stop:
        case "budget":
            limit = f"the time budget of {duration(spec.budget)}"
            more = f" --budget {duration(max(2 * spec.budget, LEAST_BUDGET))}"
        case "max-trials":
            limit, more = f"--max-trials {spec.max_trials}", f" --max-trials {2 * settled}"
        case "interrupted":
            limit, more = "Ctrl-C", ""
        case _:
            return None
    known = {trial.digest for trial in outcome.trials}
    left = [(p.recipe.name, p.recipe.digest in known) for p in outcome.untried]
    return Unfinished(
        limit=limit,
        untried=tuple(name for name, scored in left if not scored),
        unevaluated=tuple(name for name, scored in left if scored),
        later=outcome.later,
        command=resume + more,
    )


def _search_facts(strategy: str, outcome: Outcome, ended: Unfinished | None) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "stop": outcome.stop,
        "unfinished": None if ended is None else asdict(ended),
        "trials": [trial.model_dump(mode="json") for trial in outcome.trials],
    }


def record_unjudged(
    tuning: TuneContext, outcome: Outcome, output: Path, spec: TuneOptions, run: Run
) -> None:
    """Trials but no evaluation: they are in the record and in a report all the same."""
    if not outcome.trials:
        return
    best, ended = outcome.best, unfinished_of(outcome, spec, run)
    facts = _search_facts(spec.strategy, outcome, ended)
    run.record.results = {"model": model_facts(tuning.model), **facts}
    if ended is not None:
        run.record.results["said_first"] = [unfinished(ended)]
        tuning.reporter.say(unfinished(ended))
    context = ReportContext(
        command=run.record.command,
        environment=run.record.environment,
        output=str(output) if best else "",
        trials=trial_rows(outcome.trials, best),
        unfinished=ended,
        warnings=tuple(tuning.reporter.warnings),
    )
    report_unjudged(run, context)
    tuning.reporter.say(f"Report: {run.folder / 'report.md'}")


def trial_rows(trials: Sequence[Trial], chosen: Trial | None) -> tuple[TrialRow, ...]:
    """The report's table of trials."""
    front = {trial.digest for trial in pareto_front(trials)}
    return tuple(
        replace(_row(trial), chosen=trial == chosen, front=trial.digest in front)
        for trial in trials
    )


def _row(trial: Trial) -> TrialRow:
    found = trial.scores
    row = TrialRow(
        trial.recipe.name,
        calibration_kl=trial.proxy,
        size_bytes=trial.size_bytes,
        error=trial.error or "",
    )
    if found is None:
        return row
    return replace(
        row,
        images=found.images,
        top1=found.top1,
        decline=found.decline,
        agreement=found.agreement,
        kl=found.kl,
        speedup=found.speedup,
        int8_macs=found.int8_macs,
        faster=found.faster,
        meets=found.meets,
    )
