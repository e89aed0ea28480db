"""The ledger as a page and as CSV, in MindCV's columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from itertools import groupby

from quantlab.fetch import PROJECTS
from quantlab.report.formats import NOTHING
from quantlab.runs.ledger import LedgerRow

HEAD = (
    "model", "figures", "params(M)", "batch size", "resolution", "ms/step", "img/s", "acc@top1",
    "acc@top5", "recipe", "weight",
)  # fmt: skip
COLUMNS = (
    "project", "model", "figures", "params(M)", "batch size", "resolution", "ms/step", "img/s",
    "acc@top1", "acc@top1 low", "acc@top1 high", "acc@top5", "acc@top5 low", "acc@top5 high",
    "images", "recipe", "weight", "note",
)  # fmt: skip
BEGINNING = "# Ledger\n\nWritten by `quantlab runs ledger`"
_PAGE = (
    BEGINNING
    + """ from {runs} runs. Every recipe has a row with what its project
publishes, and rows with what runs here have measured on the same file, or why there are none.
Accuracies are in percent: published ones on ImageNet's 50,000 validation images where nothing else
is said, measured ones on the images that are named, which may be easier, with 95% intervals.
ms/step is the median time of one batch; what else the machine did then is in it, and
`quantlab bench` compares models fairly.

{parts}
"""
)


def ledger_page(rows: Sequence[LedgerRow], runs: int) -> str:
    """A section for each project, one for other models with a recipe, one for the rest; then what
    was measured on what."""
    titles = {**PROJECTS, "": "Others"}
    ordered = sorted(rows, key=lambda r: list(titles).index(r.project))
    parts = []
    for project, group in groupby(ordered, key=lambda r: r.project):
        page = f": [recipes/{project}.md](../docs/recipes/{project}.md)" if project else ""
        lines = [_line(HEAD), _line(["---"] * len(HEAD)), *(_line(_cells(r)) for r in group)]
        parts.append(f"## {titles[project]}{page}\n\n" + "\n".join(lines))
    notes = dict.fromkeys(f"- {row.recipe}: {row.note}" for row in rows if row.whose == "published")
    timed = dict.fromkeys(f"- {r.note}" for r in rows if r.ms_per_step and r.whose == "here")
    parts += ["## Published by\n\n" + "\n".join(notes)] if notes else []
    parts += ["## Timed here on\n\n" + "\n".join(timed)] if timed else []
    return _PAGE.format(runs=runs, parts="\n\n".join(parts))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(r: LedgerRow) -> list[str]:
    whose = {"published": "published", "nobody": NOTHING}.get(r.whose, _whose(r))
    return [
        r.model,
        whose,
        _number(r.parameters, ".2f"),
        _number(r.batch_size, "d"),
        "" if r.resolution is None else f"{r.resolution}x{r.resolution}",
        _number(r.ms_per_step, ".2f"),
        _number(r.images_per_second, ".2f"),
        _accuracy(r.top1, r.top1_interval),
        _accuracy(r.top5, r.top5_interval),
        f"[yaml](../tuning/{r.recipe}.yaml)" if r.whose == "published" else r.recipe,
        r.weight,
    ]


def _whose(r: LedgerRow) -> str:
    return f"here, {r.n:,} of {r.images}" if r.n else "here"


def _accuracy(value: float | None, interval: tuple[float, float] | None) -> str:
    if value is None or interval is None:
        return _number(value, ".6g")
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def ledger_csv(rows: Sequence[LedgerRow]) -> str:
    """One line a row; what is not known is empty."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for r in rows:
        low1, high1 = r.top1_interval or ("", "")
        low5, high5 = r.top5_interval or ("", "")
        cells = (
            r.project, r.model, {"nobody": ""}.get(r.whose, r.whose), r.parameters, r.batch_size,
            r.resolution, r.ms_per_step, r.images_per_second, r.top1, low1, high1, r.top5, low5,
            high5, r.n, r.recipe, r.weight, r.note or r.images,
        )  # fmt: skip
        lines.writerow(["" if c is None else _csv(c) for c in cells])
    return text.getvalue()


def _csv(cell: object) -> str:
    return f"{cell:.6g}" if isinstance(cell, float) else str(cell)
