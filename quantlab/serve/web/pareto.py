"""Pareto chart of a tune's trials: decline against speed or size. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantlab.report.formats import NOTHING, megabytes, number, percent, times
from quantlab.tune.trials import Trial, pareto_front

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 52
"""Margins, in the chart's units."""
TICKS = 5


@dataclass(frozen=True)
class Tick:
    """A place on an axis, in the chart's units, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class ParetoPoint:
    """A trial on the chart."""

    x: float
    y: float
    row: ParetoRow


@dataclass(frozen=True)
class ParetoRow:
    """A trial in words. ``file``: whether it has one that can be picked."""

    number: int
    digest: str
    sha256: str
    recipe: str
    front: bool
    chosen: bool
    meets: str
    decline: str
    calibration_kl: str
    kl: str
    agreement: str
    speed: str
    int8_macs: str
    size: str
    note: str

    @property
    def words(self) -> str:
        """The point in a sentence, for who cannot see it."""
        figures = [
            f"{self.recipe}",
            *([f"decline {self.decline}"] if self.decline != NOTHING else []),
            *([f"KL on evaluation images {self.kl}"] if self.kl != NOTHING else []),
            *([f"speed {self.speed}"] if self.speed != NOTHING else []),
            self.size,
            *(["on the front"] if self.front else []),
            *(["kept by the tune"] if self.chosen else []),
        ]
        return f"Trial {self.number}: {', '.join(figures)}"


@dataclass(frozen=True)
class Chart:
    """Trials by speed (by size where none was timed) and decline (KL without labels). ``line``
    joins the front."""

    points: tuple[ParetoPoint, ...]
    line: str
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    across_title: str
    up_title: str


def rows(trials: Sequence[Trial], chosen: str | None) -> tuple[ParetoRow, ...]:
    """All trials in the order they were made; ``chosen`` is the sha256 of the file that the tune
    kept."""
    front = {trial.digest for trial in pareto_front(trials)}
    return tuple(_row(trial, trial.digest in front, trial.sha256 == chosen) for trial in trials)


def chart(trials: Sequence[Trial], chosen: str | None) -> Chart | None:
    """The chart of the evaluated trials, None where fewer than two were."""
    done = [trial for trial in trials if trial.status == "done" and trial.scores is not None]
    if len(done) < 2:
        return None
    labelled = all(trial.scores and trial.scores.decline is not None for trial in done)
    timed = all(trial.scores and trial.scores.speedup is not None for trial in done)
    across = [trial.speedup if timed else (trial.size_bytes or 0) / 1e6 for trial in done]
    costs = [_cost(trial, labelled) for trial in done]
    flat, steep = _scale(across, LEFT, WIDTH - RIGHT), _scale(costs, HEIGHT - BOTTOM, TOP)
    told = {row.digest: row for row in rows(trials, chosen)}
    points = tuple(
        ParetoPoint(round(flat.place(x), 1), round(steep.place(y), 1), told[trial.digest])
        for trial, x, y in zip(done, across, costs, strict=True)
    )
    front = sorted((p.x, p.y) for p in points if p.row.front)
    return Chart(
        points=points,
        line=" ".join(f"{x},{y}" for x, y in front),
        across=flat.ticks(),
        up=steep.ticks(),
        across_title="speedup over fp32" if timed else "size, MB",
        up_title="top-1 decline, %" if labelled else "KL to fp32, nats",
    )


def _cost(trial: Trial, labelled: bool) -> float:
    if labelled and trial.scores is not None:
        return 100 * (trial.scores.decline or 0.0)
    return trial.divergence if np.isfinite(trial.divergence) else 0.0


@dataclass(frozen=True)
class _Scale:
    """Values from ``low`` to ``high`` on the chart's units from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> tuple[Tick, ...]:
        from matplotlib.ticker import MaxNLocator, ScalarFormatter

        values = MaxNLocator(TICKS).tick_values(self.low, self.high)
        inside = [float(v) for v in values if self.low <= v <= self.high]
        form = ScalarFormatter(useOffset=False)
        form.create_dummy_axis()
        texts = form.format_ticks(inside)
        return tuple(Tick(round(self.place(v), 1), t) for v, t in zip(inside, texts, strict=True))


def _scale(values: Sequence[float], start: float, end: float) -> _Scale:
    """With some room at both ends."""
    low, high = min(values), max(values)
    room = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
    return _Scale(low - room, high + room, start, end)


def _row(trial: Trial, front: bool, chosen: bool) -> ParetoRow:
    found = trial.scores
    return ParetoRow(
        number=trial.number,
        digest=trial.digest,
        sha256=trial.sha256 or "",
        recipe=trial.recipe.name,
        front=front,
        chosen=chosen,
        meets=NOTHING if found is None else "yes" if found.meets else "no",
        decline=percent(found.decline if found else None),
        calibration_kl=number(trial.proxy, ".4f"),
        kl=number(found.kl if found else None, ".4f"),
        agreement=percent(found.agreement if found else None),
        speed=times(found.speedup if found else None),
        int8_macs=percent(found.int8_macs if found else None, 1),
        size=megabytes(trial.size_bytes),
        note=_note(trial),
    )


def _note(trial: Trial) -> str:
    if trial.status == "failed":
        return f"failed: {trial.error}" if trial.error else "failed"
    if trial.status == "stopped":
        found = trial.scores
        images = "" if found is None else f" after {found.images:,} images"
        sure = "surely meets" if found is not None and found.meets else "cannot meet"
        return trial.note or f"stopped early{images}: it {sure} the criterion"
    return trial.note or ("not evaluated" if trial.status == "scored" else "")
