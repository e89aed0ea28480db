"""Tuned: what came of a tune, its report and its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quantlab.comparison import Comparison
from quantlab.gate import Verdict
from quantlab.jobs import inputs
from quantlab.jobs.compare import results
from quantlab.jobs.inputs import model_facts
from quantlab.jobs.portability import portability_words
from quantlab.jobs.reports import report, report_unjudged
from quantlab.jobs.workbench import Workbench
from quantlab.model import Model
from quantlab.report.advice import suggestions
from quantlab.report.context import ReportContext, TrialRow
from quantlab.store import Run
from quantlab.tune.reverted import Reverted
from quantlab.tune.search import Outcome
from quantlab.tune.trials import Trial, pareto_front


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
    missed: str
    report: Path

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.outcome.stop == "interrupted"


def record(bench: Workbench, tuned: Tuned, int8: Model, strategy: str, run: Run) -> None:
    """The report and the record's results. ``int8`` is the best file."""
    recipe = tuned.best.recipe
    source = {} if run.record.source is None else {"Picked from the trials of": run.record.source}
    context = ReportContext(
        command=run.record.command,
        environment=run.record.environment,
        data=inputs.data_words(bench.evaluation, bench.crops) | source,
        calibration={
            "images": f"{len(bench.images)} of {bench.calibration.dataset.root}",
            "seed": str(recipe.seed),
        },
        recipe=recipe.model_dump(mode="json"),
        output=str(tuned.output),
        trials=tuned.rows,
        reverted=tuned.reverted,
        shortfall=tuned.missed,
        portability=portability_words(int8, bench.images.crops),
        suggestions=suggestions(tuned.verdict, tuned.outcome.stop) if tuned.missed else (),
        problems=bench.crops.problems,
        warnings=tuple(bench.talk.warnings),
    )
    report(run, tuned.comparison, tuned.verdict, context, bench.crops)
    run.record.results = {
        "model": model_facts(bench.model),
        "output": model_facts(replace(int8, path=tuned.output)),
        "data": inputs.data_facts(bench.evaluation, bench.crops),
        "calibration": inputs.data_facts(bench.calibration, bench.images.crops),
        **_search_facts(strategy, tuned.outcome),
        "recipe": recipe.model_dump(mode="json"),
        "reverted": [group.model_dump(mode="json") for group in tuned.reverted],
        "pareto_front": [trial.digest for trial in pareto_front(tuned.outcome.trials)],
        **results(tuned.comparison, tuned.verdict),
    }


def _search_facts(strategy: str, outcome: Outcome) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "stop": outcome.stop,
        "trials": [trial.model_dump(mode="json") for trial in outcome.trials],
    }


def record_unjudged(
    bench: Workbench, outcome: Outcome, output: Path, strategy: str, run: Run
) -> None:
    """Trials but no evaluation: they are in the record and in a report all the same."""
    if not outcome.trials:
        return
    run.record.results = {"model": model_facts(bench.model), **_search_facts(strategy, outcome)}
    best = outcome.best
    context = ReportContext(
        command=run.record.command,
        environment=run.record.environment,
        output=str(output) if best else "",
        trials=trial_rows(outcome.trials, best),
        warnings=tuple(bench.talk.warnings),
    )
    report_unjudged(run, context)
    bench.talk.say(f"Report: {run.folder / 'report.md'}")


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
        trial.recipe.format,
        trial.recipe.ranges,
        kl=trial.proxy,
        size_bytes=trial.size_bytes,
        error=trial.error or "",
    )
    if found is None:
        return row
    return replace(
        row,
        top1=found.top1,
        decline=found.decline,
        agreement=found.agreement,
        kl=found.kl,
        speedup=found.speedup,
    )
