"""A comparison's figures for other programs: github-action-benchmark's JSON, CSV, markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from quantlab._util.files import write_whole
from quantlab.compare.comparison import Change, Comparison
from quantlab.report.export import EXTRA, MARKER, smaller_is_better
from quantlab.stats.paired import Interval, Share


@dataclass(frozen=True)
class ComparedFigure:
    """One figure of both models: int8's ``change`` from fp32 with its 95% interval. ``worse``: the
    change is a loss, so that less of it is better."""

    metric: str
    unit: str
    fp32: float | None = None
    int8: float | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    worse: bool = False


def compared_figures(c: Comparison) -> tuple[ComparedFigure, ...]:
    """Accuracy, fidelity, size and speed."""
    return tuple(_figures(c))


def _figures(c: Comparison) -> Iterator[ComparedFigure]:
    yield from _accuracy("top1", c.fp32.top1, c.int8.top1, c.top1)
    yield from _accuracy("top5", c.fp32.top5, c.int8.top5, c.top5)
    f = c.fidelity
    yield ComparedFigure(
        "agreement", "share", int8=f.agreement.value, **_span(f.agreement.interval)
    )
    if f.kl is not None:
        yield ComparedFigure("kl", "nats", change=f.kl, worse=True, **_span(f.kl_interval))
    if f.sqnr_db is not None:
        yield ComparedFigure("sqnr", "dB", int8=f.sqnr_db)
    sizes = c.fp32.size_bytes, c.int8.size_bytes
    if sizes[0] is not None and sizes[1] is not None:
        yield ComparedFigure("size", "bytes", *sizes, sizes[1] / sizes[0])
    for s in c.speeds:
        name = f"latency, batch {s.batch_size}"
        yield ComparedFigure(name, "ms", s.fp32.p50, s.int8.p50)
        yield ComparedFigure(
            f"speedup, batch {s.batch_size}", "ratio", change=s.speedup, **_span(s.interval)
        )


def _accuracy(
    name: str, fp32: Share | None, int8: Share | None, change: Change | None
) -> Iterator[ComparedFigure]:
    if fp32 is None or int8 is None or change is None:
        return
    yield ComparedFigure(name, "share", fp32.value, int8.value)
    yield ComparedFigure(
        f"{name}.decline",
        "share",
        change=change.ratio,
        worse=True,
        **_span(change.ratio_interval),
    )


def _span(interval: Interval | None) -> dict[str, Any]:
    return {} if interval is None else {"low": interval.low, "high": interval.high}


def _as_json(c: Comparison, page: str) -> str:
    about = f"{EXTRA}compare: {c.n:,} images"
    values = [
        (f, f.change if f.worse else f.int8)
        for f in compared_figures(c)
        if f.worse or f.unit in ("ms", "bytes")
    ]
    return smaller_is_better(
        {"name": f"{c.int8.name} {f.metric}", "unit": f.unit, "value": value, "extra": about}
        for f, value in values
        if value is not None
    )


def compared_csv(figures: tuple[ComparedFigure, ...]) -> str:
    """All figures, one a line."""
    columns = [field.name for field in fields(ComparedFigure) if field.name != "worse"]
    text = io.StringIO()
    rows = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    rows.writerows(vars(f) for f in figures)
    return text.getvalue()


_EXPORTS: dict[str, Callable[[Comparison, str], str]] = {
    ".json": _as_json,
    ".csv": lambda c, page: compared_csv(compared_figures(c)),
    ".md": lambda c, page: f"{page}\n\n{MARKER}\n",
}


def export_comparison(path: Path, c: Comparison, page: str) -> None:
    """Write the file that its ending asks for. Raises OutputError."""
    write_whole(path, _EXPORTS[path.suffix.lower()](c, page))
