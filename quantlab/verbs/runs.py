"""runs: list, show, compare, plot, remove and export the runs of a folder.

These jobs look at runs and are none themselves: they leave no run folder, so that they work on a
folder that cannot be written to.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL

from quantlab._util import units
from quantlab._util.files import check_writable
from quantlab._util.reporter import Reporter
from quantlab.errors import DataError, QuantlabError, RecordError
from quantlab.runs.difference import DifferenceOutcome, FieldChange, cause, changes, outcomes
from quantlab.runs.entry import Entry, Listed, entry_of
from quantlab.runs.folders import (
    artifact,
    check_removable,
    find,
    read_entry,
    refresh,
    remove,
    scan,
    timing_of,
)
from quantlab.runs.index import IN_MEMORY, Filter, Index, IndexBusyError, shown
from quantlab.runs.metrics import METRICS
from quantlab.runs.mlflow import Logged, log_run
from quantlab.runs.prune import PastRun, prunable
from quantlab.runs.record import RunRecord, load_record
from quantlab.runs.trend import Series, trend
from quantlab.verbs.options.runs import ExportOptions as ExportOptions
from quantlab.verbs.options.runs import HistoryOptions as HistoryOptions
from quantlab.verbs.options.runs import Metric as Metric
from quantlab.verbs.options.runs import RunsDiffOptions as RunsDiffOptions
from quantlab.verbs.options.runs import RunsListOptions as RunsListOptions
from quantlab.verbs.options.runs import RunsPruneOptions as RunsPruneOptions
from quantlab.verbs.options.runs import SeveralRunsOptions as SeveralRunsOptions
from quantlab.verbs.options.runs import TrendOptions as TrendOptions
from quantlab.verbs.options.shared import BASELINE

if TYPE_CHECKING:
    from quantlab.compare.comparison import Comparison
    from quantlab.evaluate.predictions import Predictions

VARIABLE = "QUANTLAB_DB"
FILE_NAME = ".history.db"
"""The index beside the runs, where no database is named."""


@dataclass(frozen=True)
class Shown:
    """One run: its record, its entry, and its artifacts by name, with bytes, None where one is not
    there."""

    folder: Path
    record: RunRecord
    entry: Entry
    artifacts: dict[str, int | None]


@dataclass(frozen=True)
class Different:
    """Two runs: what changed, their figures, and their answers image by image where both have them;
    ``unpaired`` is the reason why there is no ``comparison``."""

    folders: tuple[Path, Path]
    changes: tuple[FieldChange, ...]
    outcomes: tuple[DifferenceOutcome, ...]
    comparison: Comparison | None = None
    unpaired: str = ""


@dataclass(frozen=True)
class Trended:
    """A model's series; ``causes`` says by the folders of two runs what changed between them."""

    model: str
    series: tuple[Series, ...]
    causes: dict[tuple[str, str], str] = field(default_factory=dict)


def list_runs(spec: RunsListOptions, reporter: Reporter) -> list[Listed]:
    """The runs that pass, the newest first; warns of folders that cannot be read."""
    since = None if spec.since is None else since_of(spec.since, datetime.now(UTC))
    wanted = Filter(spec.verb, spec.model, since, spec.limit)
    with _history(spec, reporter) as index:
        found = index.entries(wanted, everywhere=spec.everywhere)
        for listed in index.entries(Filter()):
            if listed.entry.problem:
                reporter.warn(listed.entry.problem)
    return [listed for listed in found if not listed.entry.problem]


def since_of(text: str, now: datetime) -> str:
    """A date, a time or an age (7d, 12h) as ISO 8601 in UTC, as records have it. Raises
    QuantlabError."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    try:
        moment = moment or now - timedelta(seconds=units.seconds(text))
        return moment.astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError) as error:
        raise QuantlabError(
            f"{text!r} is neither a date nor an age.",
            "Give a date such as 2026-01-31, or an age such as 12h or 7d.",
        ) from error


def show_run(spec: SeveralRunsOptions, reporter: Reporter) -> Shown:
    """One run. Raises RecordError."""
    (folder,) = _found(spec, spec.runs, reporter)
    record = load_record(folder)
    sizes = {
        name: None if (path := artifact(folder, record, name)) is None else path.stat().st_size
        for name in record.artifacts
    }
    entry = entry_of(record, folder.name, timing_of(folder, record))
    return Shown(folder, record, entry, sizes)


def diff_runs(spec: RunsDiffOptions, reporter: Reporter) -> Different:
    """What changed between two runs, and whose answers did. Raises RecordError."""
    old, new = _found(spec, (spec.old, spec.new), reporter)
    return different((old, new), reporter)


def different(folders: tuple[Path, Path], reporter: Reporter) -> Different:
    """What changed between the runs of two folders. Raises RecordError."""
    old, new = (load_record(folder) for folder in folders)
    for folder, record in zip(folders, (old, new), strict=True):
        if record.status != "success":
            reporter.warn(f"{folder.name} {_ENDS[record.status]}: it may lack results.")
    found = Different(folders, changes(old, new), outcomes(old, new))
    answers = [_answers(*pair, reporter) for pair in zip(folders, (old, new), strict=True)]
    if answers[0] is None or answers[1] is None:
        return found
    from quantlab.compare.compare import compare

    try:
        comparison, unpaired = compare(answers[0], answers[1]), ""
    except DataError as error:
        comparison, unpaired = None, error.problem
    return Different(folders, found.changes, found.outcomes, comparison, unpaired)


def _answers(folder: Path, record: RunRecord, reporter: Reporter) -> Predictions | None:
    """The predictions of what the run is about."""
    from quantlab.evaluate.predictions import Predictions

    for name in ("int8_predictions", "predictions"):
        if (path := artifact(folder, record, name)) is not None:
            try:
                return Predictions.load(path)
            except RecordError as error:
                reporter.warn(error.problem)
    return None


_ENDS = {
    "started": "has not ended",
    "error": "ended with an error",
    "interrupted": "was interrupted",
}


def show_trend(spec: TrendOptions, reporter: Reporter) -> Trended:
    """The model's figures over runs. Raises QuantlabError for a model that no run measured."""
    from quantlab.report.plots import save_trend

    if spec.plot is not None:
        check_plot(spec.plot)
    name = spec.model.removesuffix(".onnx").rpartition("/")[2]
    metrics = spec.metrics or ("top1", "latency")
    with _history(spec, reporter) as index:
        measured = index.measured(name, METRICS, everywhere=spec.everywhere)
        if not measured:
            known = ", ".join(index.models(everywhere=spec.everywhere)[:10])
            raise RecordError(
                f"no run has measured a model called {name}.",
                f"Measured were: {known}." if known else "quantlab evaluate and compare measure.",
            )
    series = trend(measured, metrics)
    if not series:
        have = ", ".join(m for m in METRICS if any(x.figure.metric == m for x in measured))
        raise RecordError(f"no run has {' or '.join(metrics)} of {name}.", f"There is: {have}.")
    if spec.plot is not None:
        save_trend(series, spec.plot)
    return Trended(name, series, causes(series, lambda run: load_record(spec.runs_dir / run)))


def check_plot(path: Path) -> None:
    """Raises QuantlabError for a plot that could not be written in the end."""
    if path.suffix.lower() not in (".png", ".svg"):
        raise QuantlabError(f"cannot draw into {path}.", "Endings: .png, .svg.")
    check_writable(path)


def causes(
    series: Sequence[Series], load: Callable[[str], RunRecord]
) -> dict[tuple[str, str], str]:
    """The most likely cause of every change point, by the two runs beside it. Runs whose records
    raise RecordError are left out."""
    found = dict[tuple[str, str], str]()
    for each in series:
        for change in each.changes:
            pair = each.points[change.index - 1].folder, each.points[change.index].folder
            try:
                old, new = map(load, pair)
            except RecordError:
                continue
            found[pair] = cause(changes(old, new))
    return found


def find_removable(spec: SeveralRunsOptions, reporter: Reporter) -> list[tuple[Path, Entry]]:
    """The run folders that are meant, with what they hold. Raises RecordError for any that is not
    to be removed."""
    folders = list(dict.fromkeys(_found(spec, spec.runs, reporter)))
    for folder in folders:
        check_removable(folder, spec.runs_dir)
    return [(folder, read_entry(folder)) for folder in folders]


def remove_runs(spec: HistoryOptions, folders: Sequence[Path], reporter: Reporter) -> None:
    """Remove run folders, all or none; the index follows. Raises RecordError, OutputError."""
    try:
        remove(folders, spec.runs_dir)
    finally:
        with _history(spec, reporter):
            pass


@dataclass(frozen=True)
class Prunable:
    """A run folder that may go: why, and its bytes."""

    folder: Path
    why: str
    bytes: int


def find_prunable(spec: RunsPruneOptions, reporter: Reporter) -> list[Prunable]:
    """The runs that may go, the oldest first. Raises QuantlabError where it is not said
    which."""
    if spec.older_than is None and not spec.errors:
        raise QuantlabError(
            "it is not said which runs may go.",
            "Give --older-than 30d, --errors, or both; --dry-run removes nothing.",
        )
    runs = dict[str, PastRun]()
    for name in scan(spec.runs_dir):
        folder = spec.runs_dir / name
        try:
            record = load_record(folder)
        except RecordError as error:
            reporter.warn(error.problem)
            continue
        runs[name] = PastRun(record, entry_of(record, name, timing_of(folder, record)))
    age = spec.older_than
    found = prunable(
        runs,
        before=None if age is None else datetime.now(UTC) - timedelta(seconds=age),
        errors=spec.errors,
        keep_best=spec.keep_best,
        accepted=_accepted([run.record for run in runs.values()]),
    )
    kept = list[Prunable]()
    for name, why in sorted(found.items(), key=lambda each: runs[each[0]].record.started):
        folder = spec.runs_dir / name
        with suppress(RecordError):  # a run that is at work, or a link
            check_removable(folder, spec.runs_dir)
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            kept.append(Prunable(folder, why, size))
    return kept


def _accepted(records: Sequence[RunRecord]) -> set[str]:
    """The sha256s of the models of baselines: those here, of the configuration, and of runs."""
    from quantlab.gate.baseline import load_baseline
    from quantlab.verbs.config import load_config

    places = {Path(BASELINE), *(Path(str(r.spec.get("baseline") or BASELINE)) for r in records)}
    with suppress(QuantlabError):
        if (named := load_config().rules.baseline) is not None:
            places.add(named)
    found = set[str]()
    for place in places:
        with suppress(QuantlabError, OSError):
            found.add(load_baseline(place).model.sha256)
    return found


def rebuild_index(spec: HistoryOptions, reporter: Reporter) -> tuple[str, int]:
    """Make the index anew from the folders: its URL, and the number of runs in it."""
    with _history(spec, reporter, anew=True) as index:
        return shown(index.url), len(index.stamps())


def export_runs(spec: ExportOptions, reporter: Reporter) -> list[Logged]:
    """Log runs with MLflow. Raises QuantlabError."""
    folders = _found(spec, spec.runs, reporter)
    return [log_run(folder, to=spec.to, experiment=spec.experiment) for folder in folders]


def _found(spec: HistoryOptions, names: Sequence[str], reporter: Reporter) -> list[Path]:
    """The run folders that are meant."""
    with _history(spec, reporter) as index:
        known = [listed.entry.folder for listed in index.entries(Filter())]
    return [find(name, known, spec.runs_dir) for name in names]


@contextmanager
def _history(spec: HistoryOptions, reporter: Reporter, *, anew: bool = False) -> Iterator[Index]:
    """An index that knows the folders as they are now.

    The one beside the runs is only a shortcut: damaged, it is made again; where it cannot be
    written or another process holds it, everything is read into memory.
    """
    with _opened(spec, reporter, anew) as index:
        yield index


def _opened(spec: HistoryOptions, reporter: Reporter, anew: bool) -> Index:
    root, url = spec.runs_dir, spec.db or os.environ.get(VARIABLE)
    if url:
        return _fresh(url, root, anew, f"{platform.node()}:{root.resolve()}")
    file = root / FILE_NAME
    own = URL.create("sqlite", database=str(file)).render_as_string()
    if root.is_dir():
        try:
            return _fresh(own, root, anew)
        except IndexBusyError:
            reporter.warn(f"Another process holds the index {file}: all runs are read without it.")
        except RecordError:
            with suppress(OSError, RecordError):
                file.unlink()
                return _fresh(own, root)
    return _fresh(IN_MEMORY, root)


def _fresh(url: str, root: Path, anew: bool = False, place: str = "") -> Index:
    index = Index(url, place)
    try:
        if anew:
            index.clear()
        refresh(index, root)
    except BaseException:
        index.close()
        raise
    return index
