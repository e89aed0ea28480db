"""The tables of a report."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from quantlab.comparison import (
    Answer,
    Change,
    Comparison,
    Flip,
    Latency,
    ScoreChange,
    Share,
    Speed,
)
from quantlab.report.context import ReportContext, TrialRow
from quantlab.report.formats import (
    NOTHING,
    megabytes,
    number,
    p_value,
    percent,
    percents,
    points,
    points_span,
    table,
    times,
    times_span,
)
from quantlab.speeds import WORTH_SEEING
from quantlab.stats import Interval
from quantlab.tune.reverted import Reverted

FLIPS_SHOWN = 10


def summary(c: Comparison) -> str:
    """fp32 and int8 side by side: accuracy, size, speed."""
    rows = [
        _accuracy_row("Top-1", c.fp32.top1, c.int8.top1, c.top1),
        _accuracy_row("Top-5", c.fp32.top5, c.int8.top5, c.top5),
        *[_score_row(name, change) for name, change in c.custom.items()],
        _size_row(c),
        *[_speed_row(speed) for speed in c.speeds],
    ]
    shown = [row for row in rows if row]
    return table(["", "fp32", "int8", "change"], shown, right=" rrr")


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
    """``2.05x faster``, or that nothing can be said; short, for a table."""
    if speed.conclusion == "too noisy":
        return f"{times(speed.speedup)}, too noisy to tell"
    if speed.conclusion == "same":
        return f"{times(speed.speedup)}, no difference shown"
    return faster_words(speed.speedup, speed.conclusion)


def faster_words(ratio: float, conclusion: str) -> str:
    """``2.05x faster``, or how much slower."""
    return f"{times(ratio)} faster" if conclusion == "faster" else f"{times(1 / ratio)} slower"


def speed_sentence(speed: Speed) -> str:
    """The speedup with its interval, and what the run could not show."""
    at = f"at batch {speed.batch_size}, threads {speed.threads}"
    span = f"95% interval {times_span(speed.interval)}"
    words = {"same": f": {NO_DIFFERENCE}", "too noisy": ": too noisy to tell"}
    line = f"Speedup {times(speed.speedup)} ({span}) {at}{words.get(speed.conclusion, '')}"
    if (speed.resolution or 0) <= WORTH_SEEING:
        return line
    return f"{line}\n  {coarse_sentence(speed.resolution, speed.rounds_needed)}"


def coarse_sentence(resolution: float | None, rounds_needed: int | None) -> str:
    """``This run could show a difference of 5.0% or more; 3% would take about 42 rounds.``"""
    if resolution is None or rounds_needed is None:
        return ""
    return (
        f"This run could show a difference of {percent(resolution, 1)} or more; "
        f"{percent(WORTH_SEEING, 0)} would take about {rounds_needed:,} rounds (--rounds)."
    )


def decline(c: Comparison) -> str:
    """The paired statistics of top-1 and top-5."""
    if c.top1 is None or c.top5 is None or c.fp32.top1 is None or c.fp32.top5 is None:
        return ""
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
    return table(["", "top-1", "top-5"], rows, right=" rr")


def _share(share: Share) -> str:
    return f"{percent(share.value)} ({percents(share.interval)})"


def fidelity(c: Comparison) -> str:
    """How near int8 stays to fp32."""
    f = c.fidelity
    same = f.agreement
    sqnr = "no difference at all" if f.identical else number(f.sqnr_db, ".2f") + " dB"
    kl = NOTHING if f.kl is None else f"{f.kl:.5f} nats"
    if f.kl_interval is not None:
        kl += f" ({f.kl_interval.low:.5f} to {f.kl_interval.high:.5f})"
    rows = [
        ["Same first answer", f"{percent(same.value)} ({percents(same.interval)})"],
        ["KL(fp32 ‖ int8), mean", kl],
        [f"SQNR of the {f.compared}", NOTHING if f.sqnr_db is None and not f.identical else sqnr],
    ]
    return table(["int8 against fp32", "value (95% interval)"], rows, right=" r")


def metrics(c: Comparison) -> str:
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
    return table(head, rows, right=" rrrr")


def _score_row(name: str, x: ScoreChange) -> list[str]:
    return [name, f"{x.fp32:.4g}", f"{x.int8:.4g}", f"{-x.difference:+.4g}"]


def _score_span(value: float, interval: Interval) -> str:
    return f"{value:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def classes(c: Comparison) -> str:
    """The ten classes that lost most."""
    rows = [
        [str(x.index), x.name, *map(str, (x.n, x.fp32_right, x.int8_right, x.lost, x.gained))]
        for x in c.worst_classes()
    ]
    head = ["class", "name", "images", "fp32 right", "int8 right", "lost", "gained"]
    return table(head, rows, right="r rrrrr")


def flips(c: Comparison) -> str:
    """The images that int8 lost, or without labels those it answers differently."""
    chosen = c.flips_of("lost" if c.labelled else "changed")[:FLIPS_SHOWN]
    right, wrong = (" (right)", " (wrong)") if c.labelled else ("", "")
    return table(["image", f"fp32{right}", f"int8{wrong}"], [_flip_row(flip) for flip in chosen])


def _flip_row(flip: Flip) -> list[str]:
    return [flip.image, _answer(flip.fp32), _answer(flip.int8)]


def _answer(answer: Answer) -> str:
    name = answer.name or f"class {answer.index}"
    return "NaN" if answer.index < 0 else f"{name} ({answer.probability:.0%})"


def speed(c: Comparison) -> str:
    """Latency and throughput of both models at every batch size."""
    rows = [
        [str(s.batch_size), name, *_latency_cells(latency)]
        for s in c.speeds
        for name, latency in (("fp32", s.fp32), ("int8", s.int8))
    ]
    head = ["batch", "model", "p50 ms", "p90 ms", "p99 ms", "mean ± σ ms", "images/s", "load ms"]
    return table([*head, "peak memory"], rows, right="r rrrrrrr")


def _latency_cells(x: Latency) -> list[str]:
    figures = [f"{x.p50:.2f}", f"{x.p90:.2f}", f"{x.p99:.2f}", f"{x.mean:.2f} ± {x.std:.2f}"]
    return [
        *figures,
        f"{x.images_per_second:,.1f}",
        f"{x.session_ms:.0f}",
        megabytes(x.peak_rss_bytes),
    ]


def ratios(c: Comparison) -> str:
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
    return table(head, rows, right="r rrr")


def _span_or_dash(interval: Interval | None) -> str:
    return NOTHING if interval is None else times_span(interval)


def trials(rows: tuple[TrialRow, ...]) -> str:
    """The recipes that tuning tried."""
    head = ["recipe", "format", "ranges", "top-1", "decline", "agree", "KL", "speed", "MB"]
    return table(head, [_trial_row(row) for row in rows], right="   rrrrrr")


def _trial_row(t: TrialRow) -> list[str]:
    figures = [
        percent(t.top1),
        percent(t.decline),
        percent(t.agreement, 1),
        number(t.kl, ".4f"),
        times(t.speedup),
        number(None if t.size_bytes is None else t.size_bytes / 1e6, ".2f"),
    ]
    mark = "→ " if t.chosen else "✗ " if t.error else ""
    return [mark + t.recipe, t.format, t.ranges, *figures]


def reverted(groups: tuple[Reverted, ...]) -> str:
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
    return table(head, rows, right=" rrr")


def _measured(value: float | None, form: str, by: str | None) -> str:
    return "not measured" if value is None else f"{value:{form}} ({by})"


def conditions(c: Comparison, context: ReportContext) -> str:
    """Everything the figures depend on."""
    rows = {
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
    return table(["", ""], [[name, value] for name, value in rows.items() if value])


def details(fields: Mapping[str, object]) -> str:
    """A mapping as YAML."""
    return yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True).rstrip()


def _fields(fields: Mapping[str, object]) -> str:
    return str(fields.get("name", "see below")) if fields else ""


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _ms(value: float) -> str:
    return f"{value:.2f} ms"
