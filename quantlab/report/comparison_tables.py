"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from quantlab._util.timeline import TimedStep
from quantlab.compare.comparison import (
    Answer,
    Change,
    Comparison,
    Flip,
    Latency,
    RuntimeGain,
    RuntimeSpeed,
    ScoreChange,
    Speed,
)
from quantlab.compare.speeds import WORTH_SEEING
from quantlab.inspect.layers import LayerReport
from quantlab.report.context import FrontRow, ReportContext, TrialRow
from quantlab.report.document import Code, Gallery, Inline, Table
from quantlab.report.formats import (
    NOTHING,
    megabytes,
    number,
    p_value,
    percent,
    percents,
    points,
    points_span,
    times,
    times_span,
)
from quantlab.stats.paired import Interval, Share
from quantlab.tune.reverted_groups import Reverted

FLIPS_SHOWN = 12
LAYERS_SHOWN = 10
BAR = 30
"""Characters of the timeline."""


def summary(c: Comparison) -> Table:
    """fp32 and int8 side by side: accuracy, size, speed."""
    rows = [
        _accuracy_row("Top-1", c.fp32.top1, c.int8.top1, c.top1),
        _accuracy_row("Top-5", c.fp32.top5, c.int8.top5, c.top5),
        *[_score_row(name, change) for name, change in c.custom.items()],
        _size_row(c),
        [] if c.macs is None else ["MACs in int8", NOTHING, percent(c.macs.int8, 1), ""],
        *[_speed_row(speed) for speed in c.speeds],
    ]
    shown = [row for row in rows if row]
    return Table(
        ["", "fp32", "int8", "change"], shown, " rrr", "fp32 and int8 side by side", sheet=True
    )


SAME_RATIO = 0.02
"""A ratio and the quotient of two medians that differ by no more need no word."""
ZOO = ("Model", "Download", "Top-1 accuracy (%)", "Top-5 accuracy (%)")
"""The columns of the ONNX model zoo's README."""


def zoo(c: Comparison) -> Table:
    """Both models as the ONNX model zoo's README lists them; no rows for unlabelled images."""
    rows = [
        [m.name, megabytes(m.size_bytes), f"{100 * m.top1.value:.2f}", f"{100 * m.top5.value:.2f}"]
        for m in (c.fp32, c.int8)
        if m.top1 is not None and m.top5 is not None
    ]
    return Table(ZOO, rows, " rrr", "As the ONNX model zoo lists models")


def _accuracy_row(
    name: str, fp32: Share | None, int8: Share | None, change: Change | None
) -> list[str]:
    if fp32 is None or int8 is None or change is None:
        return []
    return [name, percent(fp32.value), percent(int8.value), _rise(-change.difference)]


def _rise(fraction: float) -> str:
    return f"{100 * fraction:+.2f} points" if fraction else "none"


def _size_row(c: Comparison) -> list[str]:
    if c.size_ratio is None:
        return []
    sizes = [megabytes(model.size_bytes) for model in (c.fp32, c.int8)]
    ratio = c.size_ratio
    change = f"{times(ratio)} smaller" if ratio > 1 else f"{times(1 / ratio)} larger"
    return ["File size", *sizes, "none" if ratio == 1 else change]


def _speed_row(speed: Speed) -> list[str]:
    name = f"Latency p50, batch {speed.batch_size}"
    return [name, _ms(speed.fp32.p50), _ms(speed.int8.p50), speed_words(speed)]


NO_DIFFERENCE = "no difference that this machine can show"


def speed_words(speed: Speed) -> str:
    """``2.05x faster``, or that no difference was shown; short, for a table."""
    if speed.conclusion == "too noisy":
        return f"{times(speed.speedup)}, too noisy to tell"
    if speed.conclusion == "same":
        return f"{times(speed.speedup)}, no difference shown"
    return faster_words(speed.speedup, speed.conclusion)


def faster_words(ratio: float, conclusion: str) -> str:
    """``2.05x faster``, or how much slower."""
    return f"{times(ratio)} faster" if conclusion == "faster" else f"{times(1 / ratio)} slower"


def quotient_words(ratio: float, quotient: float) -> str:
    """Why a ratio is not that of the medians beside it, where it visibly is not."""
    if abs(ratio / quotient - 1) <= SAME_RATIO:
        return ""
    return (
        f"  The medians' quotient is {times(quotient)}; the ratio is taken round by round, where "
        "both models meet the machine in one state."
    )


def speed_sentence(speed: Speed) -> str:
    """The speedup with its interval, and what the run could not show."""
    at = f"at batch {speed.batch_size}, threads {speed.threads}"
    span = f"95% interval {times_span(speed.interval)}"
    words = {"same": f": {NO_DIFFERENCE}", "too noisy": ": too noisy to tell"}
    line = f"Speedup {times(speed.speedup)} ({span}) {at}{words.get(speed.conclusion, '')}"
    more = [quotient_words(speed.speedup, speed.fp32.p50 / speed.int8.p50)]
    if (speed.resolution or 0) > WORTH_SEEING:
        more.append(f"  {coarse_sentence(speed.resolution, speed.rounds_needed)}")
    return "\n".join([line, *filter(None, more)])


def runtime_sentence(gain: RuntimeGain) -> str:
    """What of the speedup is the runtime's, and what quantization's."""
    moved, made = gain.by_runtime_interval, gain.by_quantization_interval
    return (
        f"Of that at batch {gain.batch_size}: {times(gain.by_runtime)} ({times_span(moved)}) is "
        f"the runtime's, {gain.runtime} in the place of {gain.fp32_runtime} for fp32; "
        f"{times(gain.by_quantization)} ({times_span(made)}) is quantization's in {gain.runtime}."
    )


def other_runtime_sentence(other: RuntimeSpeed) -> str:
    """How fast the file would be in a runtime that was not chosen, and how to choose it."""
    where = f"In {other.runtime} {other.version} the same file"
    span = f"95% interval {times_span(other.interval)}"
    if other.conclusion == "faster":
        return (
            f"{where} is {times(other.speedup)} faster still ({span}); --runtime auto also makes "
            f"files for {other.runtime}."
        )
    if other.conclusion == "slower":
        return f"{where} is {times(1 / other.speedup)} slower ({span})."
    return f"{where} is about as fast ({times(other.speedup)}, {span})."


def coarse_sentence(resolution: float | None, rounds_needed: int | None) -> str:
    """``This run could show a difference of 5.0% or more; 3% would take about 42 rounds.``"""
    if resolution is None or rounds_needed is None:
        return ""
    return (
        f"This run could show a difference of {percent(resolution, 1)} or more; "
        f"{percent(WORTH_SEEING, 0)} would take about {rounds_needed:,} rounds (--rounds)."
    )


def decline(c: Comparison) -> Table:
    """The paired statistics of top-1 and top-5."""
    if c.top1 is None or c.top5 is None or c.fp32.top1 is None or c.fp32.top5 is None:
        return Table([], [], sheet=True)
    assert c.int8.top1 is not None
    assert c.int8.top5 is not None
    first, fifth = c.top1, c.top5
    rows = [
        ["fp32 accuracy", _share(c.fp32.top1), _share(c.fp32.top5)],
        ["int8 accuracy", _share(c.int8.top1), _share(c.int8.top5)],
        ["Decline", points(first.difference), points(fifth.difference)],
        ["  95% interval", *[points_span(x.difference_interval) for x in (first, fifth)]],
        ["Decline ratio", percent(first.ratio), percent(fifth.ratio)],
        ["  95% interval", percents(first.ratio_interval), percents(fifth.ratio_interval)],
        ["Images lost", f"{first.lost:,}", f"{fifth.lost:,}"],
        ["Images gained", f"{first.gained:,}", f"{fifth.gained:,}"],
        ["McNemar exact p", p_value(first.mcnemar_p), p_value(fifth.mcnemar_p)],
    ]
    return Table(["", "top-1", "top-5"], rows, " rr", "Accuracy, image by image", sheet=True)


def _share(share: Share) -> str:
    return f"{percent(share.value)} ({percents(share.interval)})"


def fidelity(c: Comparison) -> Table:
    """How near int8 stays to fp32."""
    f = c.fidelity
    same = f.agreement
    sqnr = "no difference at all" if f.identical else _decibels(f.sqnr_db)
    kl = _nats(f.kl)
    if f.kl_interval is not None:
        kl += f" ({f.kl_interval.low:.5f} to {f.kl_interval.high:.5f})"
    rows = [
        ["Same first answer", f"{percent(same.value)} ({percents(same.interval)})"],
        ["KL(fp32 ‖ int8), mean", kl],
        ["  99th percentile of the images", _nats(f.kl_p99)],
        ["  largest of an image", _nats(f.kl_max)],
        [f"SQNR of the {f.compared}", sqnr],
        ["  1st percentile of the images", _decibels(f.sqnr_p1_db)],
    ]
    head = ["int8 against fp32", "value (95% interval)"]
    return Table(head, rows, " r", "How near int8 stays to fp32", sheet=True)


def _nats(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.5f} nats"


def _decibels(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f} dB"


def metrics(c: Comparison) -> Table:
    """The metrics of the user's own."""
    rows = [
        [
            name,
            _score_span(x.difference, x.difference_interval),
            NOTHING if x.ratio is None else f"{percent(x.ratio)} ({percents(x.ratio_interval)})",
            f"{x.lower:,}",
            f"{x.higher:,}",
        ]
        for name, x in c.custom.items()
    ]
    head = ["metric", "decline (95% interval)", "decline ratio", "lower", "higher"]
    return Table(head, rows, " rrrr", "Metrics of your own")


def _score_row(name: str, x: ScoreChange) -> list[str]:
    return [name, f"{x.fp32:.4g}", f"{x.int8:.4g}", f"{-x.difference:+.4g}"]


def _score_span(value: float, interval: Interval) -> str:
    return f"{value:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def classes(c: Comparison) -> Table:
    """The ten classes that lost most."""
    rows = [
        [str(x.index), x.name, *map(str, (x.n, x.fp32_right, x.int8_right, x.lost, x.gained))]
        for x in c.worst_classes()
    ]
    head = ["class", "name", "images", "fp32 right", "int8 right", "lost", "gained"]
    return Table(head, rows, "r rrrrr", "Images of each class, right by fp32 and by int8")


def shown_flips(c: Comparison) -> tuple[Flip, ...]:
    """The images that int8 lost, or without labels those it answers differently: the first few."""
    return c.flips_of("lost" if c.labelled else "changed")[:FLIPS_SHOWN]


def flips(c: Comparison, thumbnails: Mapping[str, bytes]) -> Gallery:
    """These images with both answers; ``thumbnails`` maps names to JPEG files."""
    shown = shown_flips(c)
    right, wrong = (" (right)", " (wrong)") if c.labelled else ("", "")
    head = ["image", f"fp32{right}", f"int8{wrong}"]
    found = Table(head, [_flip_row(flip) for flip in shown], caption="Images and both answers")
    return Gallery(found, tuple(thumbnails.get(flip.image) for flip in shown))


def _flip_row(flip: Flip) -> list[str]:
    return [flip.image, _answer(flip.fp32), _answer(flip.int8)]


def _answer(answer: Answer) -> str:
    name = answer.name or f"class {answer.index}"
    return "NaN" if answer.index < 0 else f"{name} ({answer.probability:.0%})"


def speed(c: Comparison) -> Table:
    """Latency and throughput of both models at every batch size."""
    rows = [
        [str(s.batch_size), name, *_latency_cells(latency)]
        for s in c.speeds
        for name, latency in (("fp32", s.fp32), ("int8", s.int8))
    ]
    head = ["batch", "model", "p50 ms", "p90 ms", "p99 ms", "mean ± σ ms", "images/s", "load ms"]
    return Table([*head, "peak memory"], rows, "r rrrrrrr", "Latency of each model by itself")


def _latency_cells(x: Latency) -> list[str]:
    figures = [f"{x.p50:.2f}", f"{x.p90:.2f}", f"{x.p99:.2f}", f"{x.mean:.2f} ± {x.std:.2f}"]
    return [
        *figures,
        f"{x.images_per_second:,.1f}",
        f"{x.session_ms:.0f}",
        megabytes(x.peak_rss_bytes),
    ]


def ratios(c: Comparison) -> Table:
    """The speedup at every batch size with its interval, beside the machine's own noise."""
    rows = [
        [
            str(s.batch_size),
            speed_words(s),
            times_span(s.interval),
            _span_or_dash(s.noise),
            percent(s.noise_floor, 1),
        ]
        for s in c.speeds
    ]
    head = ["batch", "int8 is", "95% interval", "fp32 against itself", "noise floor"]
    return Table(head, rows, "r rrr", "Speed of int8 against fp32")


def _span_or_dash(interval: Interval | None) -> str:
    return NOTHING if interval is None else times_span(interval)


def trials(rows: tuple[TrialRow, ...]) -> Table:
    """The recipes that tuning tried."""
    head = ["recipe", *TRIAL_FIGURES]
    cells = [[_mark(row) + row.recipe, *_figures_of(row)] for row in rows]
    evaluated = {row.images for row in rows if row.images is not None}
    shown = [
        i
        for i, title in enumerate(head)
        if any(line[i] != NOTHING for line in cells) and (title != "images" or len(evaluated) > 1)
    ]
    return Table(
        [head[i] for i in shown],
        [[line[i] for i in shown] for line in cells],
        " " + "r" * (len(shown) - 1),
        "Recipes that were tried",
    )


TRIAL_FIGURES = (
    "KL calib.", "images", "top-1", "decline", "agree", "KL eval.", "KL p99", "speed", "MB",
    "int8 MACs",
)  # fmt: skip
"""Columns of figures; those without any are left out, and the number of images where all trials saw
the same."""


def _figures_of(t: TrialRow) -> list[str]:
    return [
        number(t.calibration_kl, ".4f"),
        number(t.images, ",d"),
        percent(t.top1),
        percent(t.decline),
        percent(t.agreement, 1),
        number(t.kl, ".4f"),
        number(t.kl_p99, ".4f"),
        times(t.speedup),
        number(None if t.size_bytes is None else t.size_bytes / 1e6, ".2f"),
        percent(t.int8_macs, 1),
    ]


def _mark(t: TrialRow) -> str:
    return "→ " if t.chosen else "✗ " if t.error else ""


def reverted(groups: tuple[Reverted, ...]) -> Table:
    """What the chosen recipe keeps in fp32, what that gains and what it costs."""
    rows = [
        [
            ", ".join(x.nodes),
            _measured(x.kl, ".5f", x.kl_by),
            "not measured" if x.top1 is None else points(x.top1),
            _measured(x.time, "+.1%", x.time_by),
        ]
        for x in groups
    ]
    head = ["kept in fp32", "KL gained (by)", "top-1 gained", "time it costs (by)"]
    return Table(head, rows, " rrr", "Nodes kept in fp32")


def front(rows: tuple[FrontRow, ...]) -> Table:
    """The placements that tune could choose from, predicted and, where tried, measured."""
    head = ["recipe", "fp32", "ms pred.", "KL pred.", "speed", "decline", "KL eval.", "meets"]
    cells = [
        [
            _mark(row.trial) + row.trial.recipe,
            str(row.nodes),
            f"{row.milliseconds:.2f}",
            f"{row.error:.4f}",
            times(row.trial.speedup),
            percent(row.trial.decline),
            number(row.trial.kl, ".4f"),
            {None: NOTHING, True: "yes", False: "no"}[row.trial.meets],
        ]
        for row in rows
    ]
    return Table(head, cells, " rrrrrr ", "Placements from fast to accurate")


def _measured(value: float | None, form: str, by: str | None) -> str:
    return "not measured" if value is None else f"{value:{form}} ({by})"


def layers(found: LayerReport) -> Table:
    """The layers that err most by themselves, the worst first."""
    known = [x for x in found.layers if x.local is not None]
    rows = [
        [x.node or "(input)", x.op_type, *map(_db, (x.local, x.weight, x.accumulated))]
        for x in sorted(known, key=lambda x: x.local or 0)[:LAYERS_SHOWN]
    ]
    head = ["layer", "operator", "local dB", "weights dB", "accumulated dB"]
    return Table(head, rows, "  rrr", "The layers with most noise of their own")


def break_words(found: LayerReport) -> str:
    """Where the noise first breaks out."""
    broken = next((x for x in found.layers if x.tensor == found.first_break), None)
    if broken is None:
        return "No tensor breaks: none loses 3 dB in one layer and ends below 20 dB."
    return (
        f"First break: {broken.node} ({broken.tensor}) loses {_db(broken.drop)} dB and leaves "
        f"{_db(broken.accumulated)} dB."
    )


def _db(value: float | None) -> str:
    return number(value, ".1f")


def timeline(steps: Sequence[TimedStep]) -> Table:
    """Each step with a bar from its start to its end, on the scale of all of them."""
    whole = max(step.end for step in steps) or 1.0
    rows: list[list[Inline]] = []
    for step in steps:
        first = min(BAR - 1, int(BAR * step.start / whole))
        last = max(first + 1, round(BAR * step.end / whole))
        bar = Code("·" * first + "█" * (last - first) + "·" * (BAR - last))
        times = (f"{step.start:.1f}", f"{step.end - step.start:.1f}")
        rows.append([step.name, *times, bar])
    return Table(["step", "starts at s", "takes s", ""], rows, " rr ", "Steps of the tune")


def conditions(c: Comparison, context: ReportContext) -> Table:
    """Everything the figures depend on."""
    rows: dict[str, Inline] = {
        "fp32 model": c.fp32.name,
        "fp32 sha256": _code(c.fp32.sha256),
        "int8 model": c.int8.name,
        "int8 sha256": _code(c.int8.sha256),
        "images": f"{c.n:,}" + ("" if c.labelled else ", without labels"),
        "data digest": _code(c.data_digest),
        **context.data,
        "preprocessing": _fields(c.pipeline),
        **{f"calibration {name}": value for name, value in context.calibration.items()},
        "recipe": _fields(context.recipe),
        "threads": ", ".join(sorted({str(s.threads) for s in c.speeds})),
        **context.environment,
    }
    shown = [(name, value) for name, value in rows.items() if value]
    return Table(["", ""], shown, caption="What the figures depend on", sheet=True)


def _fields(fields: Mapping[str, object]) -> str:
    return str(fields.get("name", "see below")) if fields else ""


def _code(text: str) -> Inline:
    return Code(text) if text else ""


def _ms(value: float) -> str:
    return f"{value:.2f} ms"
