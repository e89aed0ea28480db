"""The result of a tune: what its run folder, its report and its record hold."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from quantlab._util.reporter import Reporter
from quantlab._util.timeline import TimedStep
from quantlab._util.units import duration
from quantlab.compare.comparison import Comparison
from quantlab.gate.verdict import Verdict
from quantlab.model.model import Model
from quantlab.quantize.placement import FrontPoint
from quantlab.recipe import Recipe
from quantlab.report.advice import shortfall, suggestions, unfinished
from quantlab.report.comparison_page import unjudged_page
from quantlab.report.context import FrontRow, ReportContext, TrialRow, Unfinished
from quantlab.report.files import MARKDOWN
from quantlab.runs.record import RunStatus
from quantlab.tune.front import Front
from quantlab.tune.reverted_groups import Reverted
from quantlab.tune.search import SearchLimits, SearchOutcome
from quantlab.tune.trials import Trial, pareto_front
from quantlab.verbs import inputs
from quantlab.verbs.compare import Compared, SideBySide
from quantlab.verbs.inputs import model_facts
from quantlab.verbs.publish import Artifact, Failed, PageConditions, VerbResult, report_files
from quantlab.verbs.trial_runner import Prepared

LEAST_BUDGET = 10.0
"""Seconds: less would not go far when the tune goes on."""


@dataclass(frozen=True)
class Tuned(VerbResult):
    """The best file, how it compares to fp32, and everything tried.

    ``int8`` is the best trial's own file, of which ``output`` is a copy; ``front`` is the front of
    speed against accuracy, None where none was walked; ``ended`` is what a limit left undone,
    ``steps`` what took place when.
    """

    output: Path
    int8: Model
    best: Trial
    side: SideBySide
    verdict: Verdict
    prepared: Prepared
    strategy: str
    outcome: SearchOutcome
    reverted: tuple[Reverted, ...]
    front: Front | None
    ended: Unfinished | None
    steps: tuple[TimedStep, ...]

    def status(self) -> RunStatus:
        """The run's: Ctrl-C has interrupted it, or it has come to an end."""
        return "interrupted" if self.interrupted else "success"

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.outcome.stop == "interrupted"

    @property
    def exit_code(self) -> int:
        """That of an interrupted command, or the verdict's."""
        return 130 if self.interrupted else self.verdict.exit_code

    @property
    def comparison(self) -> Comparison:
        """fp32 and the best file side by side."""
        return self.side.comparison

    @property
    def rows(self) -> tuple[TrialRow, ...]:
        """The table of trials."""
        return trial_rows(self.outcome.trials, self.best)

    @property
    def missed(self) -> str:
        """By how much the best file misses the criterion, "" when it is met."""
        return shortfall(self.verdict)

    @cached_property
    def _compared(self) -> Compared:
        """The same as any comparison is published."""
        tuned, recipe = self.prepared, self.best.recipe.model_dump(mode="json")
        subject = {
            "model": model_facts(tuned.model),
            "output": model_facts(replace(self.int8, path=self.output)),
            "data": inputs.data_facts(tuned.evaluation, tuned.crops),
            "calibration": inputs.data_facts(tuned.calibration, tuned.images.crops),
            **_search_facts(self.strategy, self.outcome, self.ended),
            "recipe": recipe,
            "reverted": [group.model_dump(mode="json") for group in self.reverted],
            "front": front_facts(self.front),
            "timeline": [asdict(step) for step in self.steps],
            "pareto_front": [trial.digest for trial in pareto_front(self.outcome.trials)],
        }
        context = ReportContext(
            data=inputs.data_words(tuned.evaluation, tuned.crops),
            calibration={
                "images": f"{len(tuned.images)} of {tuned.calibration.dataset.root}",
                "seed": str(self.best.recipe.seed),
            },
            recipe=recipe,
            output=str(self.output),
            trials=self.rows,
            reverted=self.reverted,
            front=front_rows(self.front, self.rows),
            unfinished=self.ended,
            shortfall=self.missed,
            suggestions=suggestions(self.verdict, self.outcome.stop) if self.missed else (),
            problems=tuned.crops.problems,
            steps=self.steps,
            early="" if self.side.early is None else self.side.early.sentence,
        )
        return Compared(self.side, self.verdict, subject, context)

    def facts(self) -> dict[str, Any]:
        """The search, and the comparison that it ended with."""
        return self._compared.facts()

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """The comparison's; the trials are in the folder already."""
        return self._compared.artifacts(conditions)


@dataclass(frozen=True)
class NotTuned(Failed):
    """A tune that ended before a recipe was evaluated, with the ``error`` that it ends with.

    ``output`` is the file nearest to fp32 by its cheap score, if there is one.
    """

    error: BaseException
    prepared: Prepared
    strategy: str
    outcome: SearchOutcome
    ended: Unfinished | None
    output: Path | None

    def facts(self) -> dict[str, Any]:
        """The trials, if there are any."""
        if not self.outcome.trials:
            return {}
        first = {} if self.ended is None else {"said_first": [unfinished(self.ended)]}
        facts = _search_facts(self.strategy, self.outcome, self.ended)
        return {"model": model_facts(self.prepared.model), **facts, **first}

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """fp32's answers, and a report of the trials."""
        save = self.prepared.baseline.save
        yield Artifact("fp32_predictions", "fp32-predictions.npz", save)
        if self.outcome.trials:
            context = ReportContext(
                output="" if self.output is None else str(self.output),
                trials=trial_rows(self.outcome.trials, self.outcome.best),
                unfinished=self.ended,
            )
            yield from report_files(unjudged_page(conditions.complete(context)))

    def deliver(self, conditions: PageConditions, reporter: Reporter) -> None:
        """Say where the report is."""
        if self.outcome.trials:
            if self.ended is not None:
                reporter.say(unfinished(self.ended))
            reporter.say(f"Report: {conditions.folder / MARKDOWN}")


def unfinished_of(outcome: SearchOutcome, limits: SearchLimits, folder: Path) -> Unfinished | None:
    """What a limit left undone, None of a tune that came to its end. The command has a limit that
    is not reached yet."""
    settled = sum(trial.status != "scored" for trial in outcome.trials)
    resume = f"quantlab tune --resume {shlex.quote(str(folder))}"
    match outcome.stop:
        case "budget":
            limit = f"the time budget of {duration(limits.budget)}"
            more = f" --budget {duration(max(2 * limits.budget, LEAST_BUDGET))}"
        case "max-trials":
            limit, more = f"--max-trials {limits.max_trials}", f" --max-trials {2 * settled}"
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


def _search_facts(
    strategy: str, outcome: SearchOutcome, ended: Unfinished | None
) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "stop": outcome.stop,
        "unfinished": None if ended is None else asdict(ended),
        "trials": [trial.model_dump(mode="json") for trial in outcome.trials],
    }


def front_facts(front: Front | None) -> list[dict[str, Any]]:
    """The points of the front, each with its recipe's name and digest."""
    return [
        {"recipe": recipe.name, "digest": recipe.digest, **point.model_dump(mode="json")}
        for recipe, point in _points(front)
    ]


def front_rows(front: Front | None, trials: Sequence[TrialRow]) -> tuple[FrontRow, ...]:
    """The report's table of the front, with what trials measured."""
    tried = {trial.recipe: trial for trial in trials}
    return tuple(
        FrontRow(
            trial=tried.get(recipe.name, TrialRow(recipe.name)),
            nodes=len(point.exclude),
            milliseconds=point.time / 1000,
            error=point.error,
        )
        for recipe, point in _points(front)
    )


def _points(front: Front | None) -> Iterable[tuple[Recipe, FrontPoint]]:
    return () if front is None else zip(front.recipes, front.points, strict=True)


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
        kl_p99=found.kl_p99,
        speedup=found.speedup,
        int8_macs=found.int8_macs,
        faster=found.faster,
        meets=found.meets,
    )
