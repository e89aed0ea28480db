"""Draw the plots of reports with matplotlib: no pyplot, no display."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from io import BytesIO
from itertools import pairwise
from typing import cast

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from quantlab.compare.comparison import ClassChange, Comparison, Speed
from quantlab.inspect.layers import LayerReport
from quantlab.inspect.profile import Profile
from quantlab.inspect.sensitivity import Sensitivity
from quantlab.report.context import TrialRow
from quantlab.report.plot_metadata import CREATOR
from quantlab.runs.metrics import METRICS
from quantlab.runs.trend import Series, foremost

FP32, INT8, LOST, GAINED = "#4c6a92", "#d9822b", "#b5382a", "#3b7d4f"
GREY, PALE, INK, PAPER = "#666666", "#dddddd", "#000000", "#ffffff"
IN_THE_DARK = {
    FP32: "#7fa6d9",
    INT8: "#e8a04e",
    LOST: "#e5766a",
    GAINED: "#63b37c",
    GREY: "#9aa4af",
    PALE: "#3d444d",
    INK: "#dbe2ea",
    PAPER: "#151b23",
}
"""What takes a colour's place where the reader prefers dark."""
WIDTH, WIDE = 5.6, 8.0
"""Inches: of a report's plots, legible on a phone too, and of an inspection's."""
CLASSES_SHOWN = GROUPS_SHOWN = 20
OPERATORS_SHOWN = 7
PANELS = 4
SMALLEST, LARGEST = 25.0, 700.0
"""Areas of a scatter's discs, in square points."""


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    FigureCanvasAgg(figure)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": CREATOR})
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as an SVG file of shapes and text that takes the reader's side, light or dark."""
    buffer = BytesIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "quantlab"}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    drawn = buffer.getvalue().decode()
    drawn = re.sub(r"font-family: [^;\"]*", "font-family: sans-serif", drawn)
    drawn = re.sub(r": (#[0-9a-f]{6})", _variable, drawn[drawn.index("<svg") :])
    return drawn.replace("</style>", f"{_two_sides()}</style>", 1).encode()


def _variable(colour: re.Match[str]) -> str:
    name = colour[1]
    return f": var(--{name[1:]}, {name})" if name in IN_THE_DARK else colour[0]


def _two_sides() -> str:
    dark = "; ".join(f"--{light[1:]}: {dark}" for light, dark in IN_THE_DARK.items())
    ink = f"text {{fill: var(--{INK[1:]}, {INK})}}"
    return f"{ink} @media (prefers-color-scheme: dark) {{:root {{{dark}}}}}"


def _figure(height: float, panels: int = 1, width: float = WIDTH) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(panels, 1, squeeze=False)[:, 0]
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure, list(axes)


def latency(comparison: Comparison) -> Figure | None:
    """Latency distributions of both models, one panel per batch size."""
    shown = comparison.speeds[:PANELS]
    if not shown:
        return None
    figure, axes = _figure(0.6 + 2.2 * len(shown), len(shown))
    for ax, speed in zip(axes, shown, strict=True):
        _latency_panel(ax, speed)
    axes[-1].set_xlabel("milliseconds per run (slowest 1% not shown)")
    return figure


def _latency_panel(ax: Axes, speed: Speed) -> None:
    pairs = (("fp32", speed.fp32, FP32), ("int8", speed.int8, INT8))
    top = max(x.p99 for _, x, _ in pairs) * 1.02
    bins = np.linspace(0, top, 120).tolist()
    for name, x, colour in pairs:
        label = f"{name}, median {x.p50:.2f} ms"
        ax.hist(x.samples, bins, histtype="stepfilled", color=colour, alpha=0.75, label=label)
        ax.axvline(x.p50, color=colour, linewidth=1)
    ax.set_xlim(0, top)
    ax.set_ylabel("runs")
    ax.set_title(f"Batch {speed.batch_size}", loc="left", fontsize=10)
    ax.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, fontsize=9)


def classes(comparison: Comparison) -> Figure | None:
    """Images lost and gained of the classes that changed most, worst first.

    None when no class changed by more than one image: there is nothing to see in that.
    """
    changed = [c for c in comparison.classes if c.lost or c.gained]
    if not any(c.lost + c.gained > 1 for c in changed):
        return None
    changed.sort(key=lambda c: (-c.net_loss, -c.lost, c.index))
    shown = _ends(changed)
    figure, (ax,) = _figure(1.2 + 0.24 * len(shown))
    rows = np.arange(len(shown))
    ax.barh(rows, [-c.lost for c in shown], color=LOST, label="lost: only fp32 is right")
    ax.barh(rows, [c.gained for c in shown], color=GAINED, label="gained: only int8 is right")
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks(rows, [_class_label(c) for c in shown], fontsize=8)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.xaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
    ax.set_xlabel(f"images ({len(shown)} of the {len(changed)} classes that changed)")
    figure.legend(frameon=False, loc="outside upper left", ncols=2)
    return figure


def scatter(comparison: Comparison) -> Figure | None:
    """Every class by its accuracy in fp32 and in int8; a disc's area counts classes at one place.

    None when no class's accuracy changed.
    """
    places = Counter((x.fp32_right / x.n, x.int8_right / x.n) for x in comparison.classes)
    if all(fp32 == int8 for fp32, int8 in places):
        return None
    figure, (ax,) = _figure(4.6)
    ax.plot([0, 100], [0, 100], color=GREY, linewidth=0.8)
    largest = max(places.values())
    for label, colour, sign in (("worse", LOST, -1), ("better", GAINED, 1), ("same", GREY, 0)):
        here = {(x, y): n for (x, y), n in places.items() if (y > x) - (y < x) == sign}
        xs, ys = ([100 * place[i] for place in here] for i in (0, 1))
        areas = [max(SMALLEST, LARGEST * n / largest) for n in here.values()]
        named = f"{label}: {sum(here.values()):,} classes"
        ax.scatter(xs, ys, areas, color=colour, alpha=0.7, linewidths=0, label=named)
    ax.set_xlabel("accuracy of a class in fp32, %; area: classes at that place")
    ax.set_ylabel("in int8, %")
    ax.set_aspect("equal", anchor="W")
    ax.margins(0.1)
    legend = figure.legend(frameon=False, loc="outside upper left", ncols=3)
    for handle in legend.legend_handles:
        cast(PathCollection, handle).set_sizes([2 * SMALLEST])
    return figure


def _ends(changed: list[ClassChange]) -> list[ClassChange]:
    """The classes that lost most and those that gained most, from a sorted list."""
    if len(changed) <= CLASSES_SHOWN:
        return changed
    worst = CLASSES_SHOWN * 3 // 4
    return changed[:worst] + changed[worst - CLASSES_SHOWN :]


def _class_label(c: ClassChange) -> str:
    name = c.name.split(",")[0][:28]
    return f"{name or 'class'} ({c.index}), {c.n} image{'' if c.n == 1 else 's'}"


def tradeoff(trials: Sequence[TrialRow]) -> Figure | None:
    """Every evaluated trial by speed and decline (KL without labels), the Pareto front joined."""
    shown = [t for t in trials if t.speedup is not None and t.agreement is not None]
    if len(shown) < 2:
        return None
    labelled = all(t.decline is not None for t in shown)
    costs = [100 * (t.decline or 0) if labelled else t.kl or 0 for t in shown]
    places = [(t.speedup or 0, cost) for t, cost in zip(shown, costs, strict=True)]
    figure, (ax,) = _figure(3.6)
    front = sorted(place for t, place in zip(shown, places, strict=True) if t.front)
    ax.plot([x for x, _ in front], [y for _, y in front], color=INT8, linewidth=1)
    for t, place in zip(shown, places, strict=True):
        size = 12 if t.chosen else 6
        colour = INT8 if t.front else GREY
        ax.plot(*place, "*" if t.chosen else "o", color=colour, markersize=size)
        if t.front:
            ax.annotate(t.recipe, place, (5, 5), fontsize=8, textcoords="offset points")
    ax.set_xlabel("speedup over fp32")
    ax.set_ylabel("top-1 decline, %" if labelled else "KL to fp32, nats")
    ax.margins(0.15)
    return figure


def confidence(comparison: Comparison) -> Figure:
    """How sure both models are, and how sure fp32 was where the answers differ."""
    data = comparison.confidence
    edges = np.linspace(0, 1, len(data.fp32) + 1)
    figure, (ax, below) = _figure(4.4, 2)
    ax.stairs(data.fp32, edges, color=FP32, linewidth=1.8, label="fp32")
    ax.stairs(data.int8, edges, color=INT8, linewidth=1.8, label="int8")
    ax.set_title("All images", loc="left", fontsize=10)
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    below.stairs(data.changed, edges, color=LOST, fill=True, alpha=0.8)
    below.set_title(
        "Images whose first answer changed, by fp32's probability", loc="left", fontsize=10
    )
    for panel in (ax, below):
        panel.set_xlim(0, 1)
        panel.set_ylabel("images")
    below.set_ylim(0, max(1, *data.changed) * 1.1)
    below.yaxis.set_major_locator(MaxNLocator(integer=True))
    below.set_xlabel("probability of the first answer")
    return figure


def layers(report: LayerReport) -> Figure:
    """SQNR of every layer, accumulated and its own, and of its weights."""
    figure, (ax,) = _figure(4.6, width=WIDE)
    places = np.arange(len(report.layers))
    lines = (
        ("accumulated", [x.accumulated for x in report.layers], FP32, "-"),
        ("this layer alone", [x.local for x in report.layers], INT8, "-"),
        ("its weights", [x.weight for x in report.layers], GREY, ":"),
    )
    for label, values, colour, style in lines:
        heights = np.array([np.nan if v is None else v for v in values], np.float64)
        shown = ~np.isnan(heights)
        ax.plot(places[shown], heights[shown], style, color=colour, label=label, marker=".", ms=4)
    for i, layer in enumerate(report.layers):
        if layer.tensor == report.first_break:
            ax.axvline(i, color=LOST, linewidth=1, linestyle="--", label="first break")
        if layer.node in report.exclude and layer.local is not None:
            ax.annotate(layer.node, (i, layer.local), fontsize=7, color=LOST, rotation=45)
    ax.set_xticks(places[:: max(1, len(places) // 24)])
    ax.set_xticklabels([x.node or x.tensor for x in report.layers][:: max(1, len(places) // 24)])
    ax.tick_params(axis="x", labelrotation=90, labelsize=7)
    ax.set_ylabel("SQNR, dB")
    figure.legend(frameon=False, loc="outside upper left", ncols=4)
    return figure


def operators(profiles: Sequence[Profile]) -> Figure:
    """Each model's time in a run, stacked by operator: the slowest by name, the others together."""
    times = [profile.by_operator() for profile in profiles]
    names = sorted({n for t in times for n in t}, key=lambda n: -max(t.get(n, 0) for t in times))
    shown, rest = names[:OPERATORS_SHOWN], names[OPERATORS_SHOWN:]
    parts = {name: [t.get(name, 0.0) for t in times] for name in shown}
    if rest:
        parts["other operators"] = [sum(t.get(name, 0.0) for name in rest) for t in times]
    parts["between operators"] = [profile.between_ms for profile in profiles]
    figure, (ax,) = _figure(1.6 + 0.5 * len(profiles), width=WIDE)
    left = np.zeros(len(profiles))
    for i, (name, widths) in enumerate(parts.items()):
        colour = f"C{i}" if i < OPERATORS_SHOWN else GREY
        colour = PALE if name == "between operators" else colour
        ax.barh(np.arange(len(profiles)), widths, 0.6, left=left, color=colour, label=name)
        left += widths
    ax.set_yticks(np.arange(len(profiles)), [profile.model for profile in profiles], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(f"milliseconds a run, batch {profiles[0].batch_size}, profiled")
    figure.legend(frameon=False, loc="outside upper left", ncols=4, fontsize=8)
    return figure


def sensitivity(found: Sensitivity) -> Figure:
    """The costliest groups, alone and left out."""
    shown = found.groups[:GROUPS_SHOWN]
    figure, (ax,) = _figure(1.2 + 0.3 * len(shown), width=WIDE)
    rows = np.arange(len(shown))
    alone = [cost.alone.kl for cost in shown]
    left_out = [cost.gain for cost in shown]
    ax.barh(rows - 0.2, alone, 0.4, color=INT8, label="only this group in int8: KL")
    ax.barh(rows + 0.2, left_out, 0.4, color=FP32, label="all but this group: KL falls by")
    ax.axvline(0, color=GREY, linewidth=0.8)
    ax.set_yticks(rows, [cost.name for cost in shown], fontsize=8)
    for label in ax.get_yticklabels():
        if label.get_text() in found.exclude:
            label.set_color(LOST)
    ax.invert_yaxis()
    ax.set_xlabel(f"nats ({len(shown)} of {len(found.groups)} groups; red: worth excluding)")
    figure.legend(frameon=False, loc="outside upper left", ncols=2)
    return figure


def trend(series: Sequence[Series]) -> Figure:
    """A model's figures over runs with their intervals, a panel for each of the longest series;
    means between changes as lines, changes as dashed ones."""
    shown = foremost(series, PANELS)
    figure, axes = _figure(0.6 + 2.2 * len(shown), len(shown), WIDE)
    for ax, each in zip(axes, shown, strict=True):
        _trend_panel(ax, each)
    left_out = f", {len(series) - PANELS} more series are not drawn" if len(series) > PANELS else ""
    axes[-1].set_xlabel(f"runs, with 95% intervals{left_out}")
    return figure


def _trend_panel(ax: Axes, each: Series) -> None:
    scale = METRICS[each.metric].scale
    places = np.arange(len(each.points))
    values = scale * np.array([p.value for p in each.points])
    low = scale * np.array([p.interval.low if p.interval else p.value for p in each.points])
    high = scale * np.array([p.interval.high if p.interval else p.value for p in each.points])
    reach = [np.maximum(values - low, 0), np.maximum(high - values, 0)]
    ax.errorbar(places, values, reach, fmt="o", color=INT8, ecolor=GREY, ms=4, elinewidth=1)
    cuts = [c.index for c in each.changes]
    for first, end in pairwise([0, *cuts, len(values)] if cuts else []):
        mean = each.changes[cuts.index(end)].before if end in cuts else each.changes[-1].after
        ax.hlines(scale * mean, first - 0.4, end - 0.6, color=FP32, linewidth=1)
    for cut in cuts:
        ax.axvline(cut - 0.5, color=LOST, linewidth=1, linestyle="--")
    ticks = places[:: max(1, len(places) // 8)]
    ax.set_xticks(ticks, [each.points[i].started[:10] for i in ticks], fontsize=8)
    ax.set_ylabel(METRICS[each.metric].unit)
    ax.set_title(f"{each.metric}: {each.conditions}", loc="left", fontsize=8)
