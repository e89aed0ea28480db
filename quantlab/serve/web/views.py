"""Views: models, jobs and runs of the service as the pages show them. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from quantlab.errors import QuantlabError
from quantlab.report.document import Table
from quantlab.report.formats import NOTHING, megabytes, percent
from quantlab.report.history import (
    FLIPS_SHOWN,
    answer_words,
    asked_table,
    change_words,
    changes_table,
    conditions_table,
    explanation,
    figures_table,
    flips_table,
    interval_words,
    outcome_words,
    outcomes_table,
    reason,
    said_first,
    trend_words,
    value_words,
)
from quantlab.runs.entry import Entry
from quantlab.runs.figures import plain
from quantlab.runs.metrics import METRICS
from quantlab.runs.trend import Series
from quantlab.serve.catalog import StoredDataset, StoredModel
from quantlab.serve.queue import OPEN, Job
from quantlab.serve.requests import Places, command_line
from quantlab.serve.runs import StoredRun, trials_of
from quantlab.serve.service import request_of
from quantlab.serve.web import pareto
from quantlab.verbs.runs import Different, Trended


@dataclass(frozen=True)
class RunRow:
    """A run in a list."""

    name: str
    short: str
    when: str
    verb: str
    model: str
    outcome: str
    top1: str
    decline: str


def run_row(entry: Entry) -> RunRow:
    """The row of a run."""
    return RunRow(
        name=entry.folder,
        short=short(entry.folder),
        when=moment(entry.started),
        verb=entry.verb,
        model=entry.model or NOTHING,
        outcome=outcome_words(entry),
        top1=percent(entry.top1),
        decline=percent(entry.decline),
    )


@dataclass(frozen=True)
class Progress:
    """How far a job is."""

    label: str
    done: int
    total: int
    note: str

    @property
    def words(self) -> str:
        """``Evaluating: 812 of 1,300, top-1 71.2%``."""
        count = f"{self.done:,} of {self.total:,}" if self.total else f"{self.done:,}"
        return f"{self.label}: {count}{', ' if self.note else ''}{self.note}"


@dataclass(frozen=True)
class JobRow:
    """A job in a list. ``state`` is its state in a word or two, ``outcome`` the verdict's word
    where it has one, else the state."""

    id: str
    when: str
    verb: str
    model: str
    data: str
    state: str
    outcome: str
    open: bool
    progress: Progress | None
    took: str
    run: str | None


def job_row(job: Job) -> JobRow:
    """The row of a job."""
    data = job.inputs.get("data") or {}
    return JobRow(
        id=job.id,
        when=moment(job.created),
        verb=job.verb,
        model=", ".join(str(model["name"]) for model in job.inputs.get("models", ())) or NOTHING,
        data=", ".join(str(facts["name"]) for facts in data.values()) or NOTHING,
        state=_state(job),
        outcome=_outcome(job),
        open=job.state in OPEN,
        progress=_progress(job),
        took=_took(job),
        run=job.run,
    )


def _state(job: Job) -> str:
    return "stopping" if job.state == "running" and job.cancelled else job.state


def _outcome(job: Job) -> str:
    return job.verdict or _state(job)


def _progress(job: Job) -> Progress | None:
    facts = job.progress
    if not facts or job.state != "running":
        return None
    done, total = (int(facts.get(key) or 0) for key in ("done", "total"))
    return Progress(
        plain(str(facts.get("label", ""))), done, total, plain(str(facts.get("note") or ""))
    )


def _took(job: Job) -> str:
    if job.started is None or job.finished is None:
        return NOTHING
    return duration(job.finished - job.started)


@dataclass(frozen=True)
class FileRow:
    """A file to download. ``path`` is its own in the job's or the run's folder."""

    path: str
    size: str


@dataclass(frozen=True)
class JobOnPage:
    """One job. ``files`` are those outside of its run, which has its own; ``command`` does the same
    from a command line."""

    row: JobRow
    asked: Table
    facts: Table
    error: str
    out: str
    files: tuple[FileRow, ...]
    command: str


def job_view(job: Job, address: str) -> JobOnPage:
    """One job; ``address`` is the service's."""
    asked = {key: value for key, value in job.request.items() if key != "verb"}
    facts = {
        "submitted": moment(job.created),
        "started": moment(job.started),
        "ended": moment(job.finished),
        "took": _took(job),
        "attempts": str(job.attempts),
    }
    known = [(key, value) for key, value in facts.items() if value != NOTHING]
    return JobOnPage(
        row=job_row(job),
        asked=Table(["", "value"], _named(job, asked), caption="What was asked", sheet=True),
        facts=Table(["", "value"], known, caption="When", sheet=True),
        error=job.error or "",
        out=(job.out or "").strip(),
        files=_files(job.files, lambda path: not path.startswith("runs/")),
        command=_command(job, address),
    )


def _files(files: Mapping[str, int], wanted: Callable[[str], bool]) -> tuple[FileRow, ...]:
    return tuple(FileRow(path, megabytes(n)) for path, n in sorted(files.items()) if wanted(path))


def _named(job: Job, asked: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The request, with the names that models had in place of their sha256s."""
    names = {model["sha256"]: str(model["name"]) for model in job.inputs.get("models", ())}

    def words(value: Any) -> str:
        values = value if isinstance(value, list) else [value]
        return ", ".join(names.get(each, each) for each in map(str, values))

    return [(key.replace("_", " "), words(value)) for key, value in asked.items()]


def _command(job: Job, address: str) -> str:
    """``quantlab --server URL …``; "" for a job of another version."""
    try:
        request = request_of(job)
    except QuantlabError:
        return ""
    data = {field: str(facts["name"]) for field, facts in job.inputs.get("data", {}).items()}
    places = Places(
        models=[str(model["name"]) for model in job.inputs.get("models", ())],
        data=data,
        recipe=(job.inputs.get("recipe") or {}).get("name"),
        baseline=job.request.get("baseline"),
    )
    return shlex.join(["quantlab", "--server", address, *command_line(request, places)])


@dataclass(frozen=True)
class RunOnPage:
    """One run. ``report`` says whether there is one to read, ``measured`` whether its model has a
    trend; ``trials``, ``more_files`` of them and their ``chart`` are a tune's."""

    row: RunRow
    title: str
    job: str
    said_first: tuple[str, ...]
    reason: str
    error: str
    figures: Table
    asked: Table
    conditions: Table
    warnings: tuple[str, ...]
    files: tuple[FileRow, ...]
    more_files: tuple[FileRow, ...]
    report: bool
    measured: bool
    command: str
    trials: tuple[pareto.ParetoRow, ...]
    chart: pareto.Chart | None


def run_view(run: StoredRun) -> RunOnPage:
    """One run. Raises RecordError for trials that cannot be read."""
    record, row = run.record, run_row(run.entry)
    output = record.results.get("output")
    kept = output.get("sha256") if isinstance(output, dict) else None
    trials = trials_of(record)
    return RunOnPage(
        row=row,
        title=f"{row.verb.capitalize()} {row.model}",
        job=run.job.id,
        said_first=said_first(record),
        reason=reason(record),
        error=plain(record.error or "", 2000),
        figures=figures_table(run.entry),
        asked=asked_table(record),
        conditions=conditions_table(record),
        warnings=tuple(plain(text, 2000) for text in record.warnings),
        files=_files(run.files, lambda path: "/" not in path),
        more_files=_files(run.files, lambda path: "/" in path),
        report="report.html" in run.files,
        measured=any(figure.model == row.model for figure in run.entry.figures),
        command=plain(record.command, len(record.command)),
        trials=pareto.rows(trials, kept),
        chart=pareto.chart(trials, kept),
    )


@dataclass(frozen=True)
class CompareView:
    """Two runs: what changed."""

    explanation: str
    changes: Table
    outcomes: Table
    answers: tuple[str, ...]
    flips: Table | None
    more: int
    unpaired: str


def compare_view(found: Different) -> CompareView:
    """What changed between two runs."""
    comparison = found.comparison
    return CompareView(
        explanation=explanation(found.changes, comparison),
        changes=changes_table(found.changes),
        outcomes=outcomes_table(found.outcomes),
        answers=() if comparison is None else tuple(answer_words(comparison)),
        flips=None if comparison is None else flips_table(comparison),
        more=0 if comparison is None else max(0, len(comparison.flips) - FLIPS_SHOWN),
        unpaired=found.unpaired,
    )


@dataclass(frozen=True)
class PointRow:
    """A run in a series."""

    run: RunLink
    when: str
    file: str
    value: str
    interval: str
    changed: bool


@dataclass(frozen=True)
class RunLink:
    """A run by its name, and by what is shown of it."""

    name: str
    short: str


@dataclass(frozen=True)
class ChangeRow:
    """A change of level in words, and the two runs beside it."""

    words: str
    old: str
    new: str


@dataclass(frozen=True)
class SeriesOnPage:
    """Figures under like conditions, the newest first."""

    title: str
    conditions: str
    metric: str
    points: tuple[PointRow, ...]
    changes: tuple[ChangeRow, ...]
    note: str


@dataclass(frozen=True)
class TrendOnPage:
    """A model over runs; ``alt`` tells what the picture shows."""

    model: str
    words: str
    alt: str
    series: tuple[SeriesOnPage, ...]


def trend_view(found: Trended) -> TrendOnPage:
    """A model over runs."""
    series = tuple(_series(each, found) for each in found.series)
    changes = sum(len(each.changes) for each in series)
    count = "no change" if not changes else f"{changes} change{'s' * (changes != 1)}"
    titles = ", ".join(dict.fromkeys(each.title for each in series))
    alt = f"{found.model} over runs: {titles}; {count} of level. The tables below say the same."
    return TrendOnPage(found.model, trend_words(found.model, found.series), alt, series)


def _series(each: Series, found: Trended) -> SeriesOnPage:
    firsts = {change.index for change in each.changes}
    points = tuple(
        PointRow(
            run=RunLink(p.folder, short(p.folder)),
            when=moment(p.started),
            file=p.sha256[:8],
            value=value_words(each.metric, p.value),
            interval=interval_words(each.metric, p.interval),
            changed=i in firsts,
        )
        for i, p in enumerate(each.points)
    )
    changes = tuple(
        ChangeRow(
            change_words(each, change, found.causes),
            each.points[change.index - 1].folder,
            each.points[change.index].folder,
        )
        for change in each.changes
    )
    return SeriesOnPage(
        METRICS[each.metric].title, each.conditions, each.metric, points[::-1], changes, each.note
    )


@dataclass(frozen=True)
class ModelRow:
    """A model of the catalog."""

    sha256: str
    name: str
    size: str
    kind: str
    input: str
    when: str
    job: str | None
    token: str

    @property
    def label(self) -> str:
        """What a list to pick from shows."""
        return f"{self.name} ({self.kind}, {self.size}, {self.sha256[:8]})"


def model_row(model: StoredModel) -> ModelRow:
    """The row of a model."""
    facts = model.facts
    return ModelRow(
        sha256=model.sha256,
        name=model.name,
        size=megabytes(model.bytes),
        kind="int8" if facts.get("quantized") else "fp32",
        input=_input(facts),
        when=moment(model.created),
        job=model.job,
        token=model.token or "",
    )


def _input(facts: Mapping[str, Any]) -> str:
    shape = facts.get("input_shape")
    if not isinstance(shape, list | tuple):
        return NOTHING
    return " × ".join("any" if side is None else str(side) for side in shape)


@dataclass(frozen=True)
class DatasetRow:
    """A dataset: what it is, never where."""

    name: str
    images: str
    labelled: str
    digest: str
    when: str


def dataset_row(dataset: StoredDataset) -> DatasetRow:
    """The row of a dataset."""
    facts = dataset.facts
    images = facts.get("images")
    return DatasetRow(
        name=dataset.name,
        images=NOTHING if images is None else f"{images:,}",
        labelled="yes" if facts.get("labelled") else "no",
        digest=str(facts.get("digest", ""))[:16] or NOTHING,
        when=moment(dataset.created),
    )


def short(run: str) -> str:
    """A short id that distinguishes runs at a glance."""
    return run.rpartition("-")[2]


def moment(time: str | float | None) -> str:
    """``2026-01-31 14:05``, in UTC."""
    if time is None or time == "":
        return NOTHING
    try:
        at = (
            datetime.fromtimestamp(time, UTC)
            if isinstance(time, float | int)
            else datetime.fromisoformat(time)
        )
        return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return plain(str(time))


def duration(seconds: float) -> str:
    """``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"
