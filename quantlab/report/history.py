"""Format the history as text: lists of runs, one run, differences, trends."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from quantlab.compare.comparison import Comparison
from quantlab.report.document import Table
from quantlab.report.formats import NOTHING, megabytes, number, p_value, percent, table
from quantlab.runs.change_points import ALPHA, ChangePoint
from quantlab.runs.difference import DifferenceOutcome, FieldChange, apart, batch_of, cause, flat
from quantlab.runs.entry import Entry, Listed
from quantlab.runs.figures import Figure, plain
from quantlab.runs.metrics import METRICS
from quantlab.runs.record import RunRecord
from quantlab.runs.trend import Series
from quantlab.stats.paired import Interval

Form = Literal["table", "csv", "json"]
_COLUMNS = (
    "id", "place", "started", "verb", "status", "model", "sha256", "verdict", "top1", "decline",
)  # fmt: skip
FLIPS_SHOWN = 20
LONGEST_SAID = 2000
"""Characters of a sentence from a record."""


def value_words(metric: str, value: float | None) -> str:
    """A figure with its unit, in the metric's usual form."""
    shown = METRICS[metric]
    if shown.unit == "%":
        return percent(value, shown.decimals)
    return number(None if value is None else shown.scale * value, f".{shown.decimals}f")


def interval_words(metric: str, interval: Interval | None) -> str:
    """``77.42% to 81.79%``."""
    if interval is None:
        return NOTHING
    return f"{value_words(metric, interval.low)} to {value_words(metric, interval.high)}"


def listing(found: Sequence[Listed], form: Form, root: Path, *, everywhere: bool = False) -> str:
    """The runs as a table, as CSV or as JSON."""
    rows = [_row(listed) for listed in found]
    if form == "json":
        return json.dumps(rows, indent=1)
    if form == "csv":
        return as_csv(_COLUMNS, rows)
    if not found:
        return f"No runs in {root}." if not everywhere else "No runs."
    cells = [
        [
            *([listed.place] if everywhere else []),
            when(listed.entry.started),
            listed.entry.verb,
            listed.entry.model,
            outcome_words(listed.entry),
            percent(listed.entry.top1),
            percent(listed.entry.decline),
            listed.entry.folder.rpartition("-")[2],
        ]
        for listed in found
    ]
    head = ["when", "verb", "model", "verdict", "top-1", "decline", "run"]
    marks = "    rr"
    if everywhere:
        head, marks = ["where", *head], f" {marks}"
    return table(head, cells, right=marks)


def _row(listed: Listed) -> dict[str, Any]:
    entry = listed.entry
    sha256 = entry.models[-1][1] if entry.models else ""
    cells = (
        entry.folder, listed.place, entry.started, entry.verb, entry.status, entry.model, sha256,
        entry.verdict, entry.top1, entry.decline,
    )  # fmt: skip
    return dict(zip(_COLUMNS, cells, strict=True))


def as_csv(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def when(started: str) -> str:
    """A record's time in the local time zone."""
    try:
        return f"{datetime.fromisoformat(started).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return started or NOTHING


def outcome_words(entry: Entry) -> str:
    """The verdict, or how a run ended that has none."""
    if entry.status != "success":
        return {"started": "not ended"}.get(entry.status, entry.status)
    return entry.verdict or NOTHING


def run_page(
    folder: Path, record: RunRecord, entry: Entry, artifacts: Mapping[str, int | None]
) -> str:
    """What a run was asked, under which conditions, what came out, what it left."""
    title = f"{plain(record.id)}: {plain(record.verb)}, {outcome_words(entry)}"
    ended = "not ended" if record.finished is None else f"to {when(record.finished)}"
    parts = [f"{title}\n{when(record.started)} {ended}, {folder}"]
    if record.error:
        parts.append(f"Error: {plain(record.error)}")
    if said := [*said_first(record), *filter(None, [reason(record)])]:
        parts.append("\n".join(said))
    parts += _section("Results", _text(figures_table(entry)))
    parts += _section("Asked", _text(asked_table(record)))
    parts += _section("Conditions", _text(conditions_table(record)))
    rows = [
        [plain(name), plain(record.artifacts[name]), "missing" if n is None else megabytes(n)]
        for name, n in artifacts.items()
    ]
    parts += _section("Artifacts", table(["artifact", "file", "size"], rows, right="  r"))
    parts += _section("Warnings", "\n".join(f"- {plain(text)}" for text in record.warnings))
    return "\n\n".join([*parts, f"Repeat: {plain(record.command, len(record.command))}"])


def asked_table(record: RunRecord) -> Table:
    """The options that say something: neither those that were not given, nor how to print."""
    said = {k: v for k, v in record.spec.items() if v not in _UNSAID and k not in _MANNERS}
    return _facts("What was asked", said)


def conditions_table(record: RunRecord) -> Table:
    """The machine, the versions and the images."""
    return _facts("Conditions", {**record.environment, **_data(record)})


_UNSAID: tuple[object, ...] = (None, False, [], {}, "")
_MANNERS = ("runs_dir", "as_json", "quiet")


def _section(title: str, body: str) -> list[str]:
    return [f"{title}:\n\n{body}"] if body else []


def _facts(caption: str, facts: Mapping[str, Any]) -> Table:
    return Table(["", "value"], list(flat(facts).items()), caption=caption, sheet=True)


def _text(cells: Table) -> str:
    rows = [[str(cell) for cell in row] for row in cells.rows]
    return table(cells.head, rows, right=cells.right)


def reason(record: RunRecord) -> str:
    """The verdict's own sentence."""
    verdict = record.results.get("verdict")
    reason = verdict.get("reason") if isinstance(verdict, dict) else None
    return " ".join(reason.split()) if isinstance(reason, str) else ""


def said_first(record: RunRecord) -> tuple[str, ...]:
    """Sentences to show before the verdict: that a limit ended a tune, that int8 is not faster."""
    found = record.results.get("said_first")
    texts = [text for text in found if isinstance(text, str)] if isinstance(found, list) else []
    return tuple(plain(" ".join(text.split()), LONGEST_SAID) for text in texts)


def _data(record: RunRecord) -> dict[str, Any]:
    facts = record.results.get("data")
    return {"data": facts} if isinstance(facts, dict) else {}


def figures_table(entry: Entry) -> Table:
    """All figures of a run with their intervals."""
    rows = [
        [
            figure.model,
            _title(figure),
            value_words(figure.metric, figure.value),
            interval_words(figure.metric, figure.interval),
        ]
        for figure in entry.figures
    ]
    head = ["model", "figure", "value", "95% interval"]
    return Table(head, rows, right="  r", caption="Figures")


def _title(figure: Figure) -> str:
    batch = batch_of(figure)
    return METRICS[figure.metric].title + (f", {batch}" if batch else "")


def prunable_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Runs that may go: why, and what they take."""
    cells = [[str(r["run"]), str(r["why"]).splitlines()[0], f"{r['bytes']:,}"] for r in rows]
    return table(["run", "why", "bytes"], cells)


def diff_page(
    names: tuple[str, str],
    changes: Sequence[FieldChange],
    outcomes: Sequence[DifferenceOutcome],
    comparison: Comparison | None,
    unpaired: str,
) -> str:
    """What changed between two runs, likely causes first, then their figures and answers."""
    parts = [f"{names[0]} → {names[1]}\n{explanation(changes, comparison)}"]
    parts += _section("Changed, likely causes first", _text(changes_table(changes)))
    parts += _section("Figures", _text(outcomes_table(outcomes)))
    if comparison is not None:
        parts += _section("Answers, image by image", _answers(comparison))
    elif unpaired:
        parts.append(f"The answers cannot be compared: {unpaired}")
    return "\n\n".join(parts)


def explanation(changes: Sequence[FieldChange], comparison: Comparison | None) -> str:
    """What most likely made two runs differ, in a sentence."""
    if comparison is not None and comparison.fidelity.identical:
        return "The answers are the same in every value: whatever changed did not change them."
    if changes:
        return f"What most likely explains another result: {cause(tuple(changes))}."
    return "Nothing that the records hold has changed."


def changes_table(changes: Sequence[FieldChange]) -> Table:
    """What changed, likely causes first."""
    rows = [[c.aspect, c.what, c.old or NOTHING, c.new or NOTHING] for c in changes]
    return Table(["", "what", "old", "new"], rows, caption="What changed, likely causes first")


def diff_rows(
    changes: Sequence[FieldChange],
    outcomes: Sequence[DifferenceOutcome],
    comparison: Comparison | None,
) -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "changes": [vars(change) for change in changes],
        "figures": [
            {"metric": each.metric, "old": _facts_of(each.old), "new": _facts_of(each.new)}
            for each in outcomes
        ],
        "answers": None if comparison is None else comparison.model_dump(mode="json"),
    }


def _facts_of(figure: Figure | None) -> dict[str, Any] | None:
    if figure is None:
        return None
    ends = figure.interval
    interval = None if ends is None else [ends.low, ends.high]
    return {"value": figure.value, "interval": interval, "conditions": figure.series}


def outcomes_table(outcomes: Sequence[DifferenceOutcome]) -> Table:
    """The figures of two runs side by side."""
    rows = []
    for each in outcomes:
        metric, *batch = each.metric.split(" ", 1)
        sides = [_side(metric, figure) for figure in (each.old, each.new)]
        told = ""
        if each.old is not None and each.new is not None:
            differs = apart(each.old.interval, each.new.interval)
            told = "yes" if differs else NOTHING
        rows.append([", ".join([METRICS[metric].title, *batch]), *sides, told])
    head = ["figure", "old", "new", "intervals apart"]
    return Table(head, rows, right=" rr", caption="Figures of both runs")


def _side(metric: str, figure: Figure | None) -> str:
    if figure is None:
        return NOTHING
    spread = f" ({interval_words(metric, figure.interval)})" if figure.interval else ""
    return value_words(metric, figure.value) + spread


def _answers(c: Comparison) -> str:
    shown = _text(flips_table(c))
    more = len(c.flips) - FLIPS_SHOWN
    rest = [f"and {more:,} more (--json has them)"] if more > 0 else []
    return "\n".join(
        [*answer_words(c), *([""] if shown else []), *([shown] if shown else []), *rest]
    )


def answer_words(c: Comparison) -> list[str]:
    """How the answers of two runs differ, in sentences."""
    same = c.fidelity.agreement
    lines = [
        f"The same first answer on {same.count:,} of {same.n:,} images ({percent(same.value)}; 95% "
        f"interval {interval_words('agreement', same.interval)})."
    ]
    if c.unmatched:
        lines.append(f"{c.unmatched:,} images are in one of the runs only.")
    if c.top1 is not None:
        lines.append(
            f"Top-1: {c.top1.lost:,} lost and {c.top1.gained:,} gained; p "
            f"{p_value(c.top1.mcnemar_p)} by McNemar's exact test."
        )
    return lines


def flips_table(c: Comparison) -> Table:
    """The first images whose answers differ."""
    rows = [
        [
            f.image,
            f.kind,
            f.label_name or _class(f.label),
            _class(f.fp32.index),
            _class(f.int8.index),
        ]
        for f in c.flips[:FLIPS_SHOWN]
    ]
    head = ["image", "", "label", "old answer", "new answer"]
    return Table(head, rows, caption="Images whose answers differ")


def _class(index: int | None) -> str:
    return NOTHING if index is None else f"class {index}"


def trend_page(model: str, series: Sequence[Series], causes: Mapping[tuple[str, str], str]) -> str:
    """A table for each series, and the change points in sentences."""
    parts = [trend_words(model, series)]
    for each in series:
        lines = [f"{METRICS[each.metric].title}: {each.conditions}", "", _text(points_table(each))]
        lines += [""] if each.changes or each.note else []
        lines += [
            f"{change_words(each, change, causes)} {_more_words(each, change)}"
            for change in each.changes
        ]
        parts.append("\n".join([*lines, *([each.note] if each.note else [])]))
    return "\n\n".join(parts)


def trend_words(model: str, series: Sequence[Series]) -> str:
    """What the series of a model are made of."""
    runs = {(p.place, p.folder) for each in series for p in each.points}
    head = f"{model}: {len(runs)} run{'s' * (len(runs) != 1)}"
    if len(series) > len({each.metric for each in series}):
        head += (
            ". Runs on other images, through another pipeline, on other int8 instructions or "
            "beside another model are series of their own"
        )
    return f"{head}. A change is marked where chance alone makes one in {ALPHA:.0%} of series."


def points_table(each: Series) -> Table:
    """The runs of a series."""
    firsts = {change.index for change in each.changes}
    rows = [
        [
            when(p.started),
            p.folder.rpartition("-")[2],
            p.sha256[:8],
            value_words(each.metric, p.value),
            interval_words(each.metric, p.interval),
            "← changed" if i in firsts else "",
        ]
        for i, p in enumerate(each.points)
    ]
    title = METRICS[each.metric].title
    head = ["when", "run", "file", title, "95% interval", ""]
    return Table(head, rows, right="   r", caption=f"{title}: {each.conditions}")


def change_words(each: Series, change: ChangePoint, causes: Mapping[tuple[str, str], str]) -> str:
    """A change of level, with what changed in the same run."""
    old, new = each.points[change.index - 1].folder, each.points[change.index].folder
    why = causes.get((old, new))
    because = {None: "", "": " Nothing that the records hold changed with it."}.get(
        why, f" What changed with it: {why}."
    )
    return (
        f"Changed at {new.rpartition('-')[2]}: mean {value_words(each.metric, change.before)} → "
        f"{value_words(each.metric, change.after)}, p {p_value(change.p)}.{because}"
    )


def _more_words(each: Series, change: ChangePoint) -> str:
    old, new = (each.points[i].folder.rpartition("-")[2] for i in (change.index - 1, change.index))
    return f"quantlab runs diff {old} {new} says more."


def trend_rows(series: Sequence[Series]) -> list[dict[str, Any]]:
    """The series as JSON has them."""
    return [
        {
            "metric": each.metric,
            "conditions": each.conditions,
            "points": [
                {
                    "run": p.folder, "place": p.place, "started": p.started, "sha256": p.sha256,
                    "value": p.value,
                    "interval": None if p.interval is None else [p.interval.low, p.interval.high],
                }
                for p in each.points
            ],
            "changes": [
                {"run": each.points[c.index].folder, "before": c.before, "after": c.after, "p": c.p}
                for c in each.changes
            ],
            "note": each.note,
        }
        for each in series
    ]  # fmt: skip
