"""Trend: figures of one model over runs, grouped by like conditions. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from quantlab.runs.change_points import LEAST, ChangePoint, change_points
from quantlab.runs.figures import RecordedFigure
from quantlab.runs.metrics import METRICS
from quantlab.stats.paired import Interval, z_value

UNSTEADY = ("latency",)
"""Figures that differ from run to run by more than their interval says: the machine is never twice
the same. Speedups are taken in turns within a run, which leaves it out."""


@dataclass(frozen=True)
class Point:
    """One run's figure."""

    folder: str
    place: str
    started: str
    sha256: str
    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Series:
    """Figures of one metric under the same ``conditions``, the oldest first, and where their level
    changed. ``note`` is the reason why no change could be looked for, else ""."""

    metric: str
    conditions: str
    points: tuple[Point, ...]
    changes: tuple[ChangePoint, ...]
    note: str = ""


def trend(
    measured: Iterable[RecordedFigure], metrics: Collection[str] = METRICS
) -> tuple[Series, ...]:
    """A series for each metric and conditions, in the order of the metrics, then the one with the
    latest run first. Of one run the first figure counts."""
    order = {metric: i for i, metric in enumerate(metrics)}
    wanted = [m for m in measured if m.figure.metric in order]
    wanted.sort(key=lambda m: (m.figure.metric, m.figure.series, m.started, m.folder))
    found = [
        _series(metric, conditions, list(group))
        for (metric, conditions), group in groupby(
            wanted, key=lambda m: (m.figure.metric, m.figure.series)
        )
    ]
    found.sort(key=lambda s: s.points[-1].started, reverse=True)
    return tuple(sorted(found, key=lambda s: order[s.metric]))


def foremost(series: Sequence[Series], count: int) -> list[Series]:
    """So many of the series, in their order: of every metric the longest, then the second, …"""
    rank = dict[int, int]()
    seen = Counter[str]()
    for each in sorted(series, key=lambda s: -len(s.points)):
        rank[id(each)] = seen[each.metric]
        seen[each.metric] += 1
    chosen = sorted(series, key=lambda s: rank[id(s)])[:count]
    return [each for each in series if any(each is one for one in chosen)]


def _series(metric: str, conditions: str, group: list[RecordedFigure]) -> Series:
    first = {(m.place, m.folder): m for m in reversed(group)}
    points = tuple(
        Point(m.folder, m.place, m.started, m.figure.sha256, m.figure.value, m.figure.interval)
        for m in reversed(first.values())
    )
    values, errors = [p.value for p in points], _errors(metric, points)
    note = ""
    if len(points) < (LEAST if errors is None else 2):
        note = f"A change can be told from {LEAST if errors is None else 2} runs on."
    return Series(metric, conditions, points, change_points(values, errors), note)


def _errors(metric: str, points: tuple[Point, ...]) -> list[float] | None:
    """The standard errors, None where they are not known well enough."""
    if metric in UNSTEADY:
        return None
    widths = [p.interval.width if p.interval else 0.0 for p in points]
    return [w / (2 * z_value()) for w in widths] if all(w > 0 for w in widths) else None
