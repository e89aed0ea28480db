"""Format the results of ``bench``: tables, sentences and figures. Nothing is measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from quantlab.bench.measurement import BenchResult, Conditions, Measurement
from quantlab.bench.queueing import Load, LoadResult
from quantlab.bench.throughput import Throughput, ThroughputResult
from quantlab.compare.speeds import WORTH_SEEING, Contrast, Ratio
from quantlab.report import comparison_tables
from quantlab.report.export import ExportedFigure
from quantlab.report.formats import megabytes, percent, table, times, times_span
from quantlab.runtime.providers import short_name

AnyBenchResult = BenchResult | ThroughputResult | LoadResult
AGAIN = " (A/A)"


def bench_page(result: AnyBenchResult, ratios: Sequence[Ratio]) -> str:
    """The table, how it was measured, then every later model against the first."""
    if isinstance(result, BenchResult):
        shown = _latency_table(result)
    elif isinstance(result, ThroughputResult):
        shown = _throughput_table(result)
    else:
        shown = _load_table(result)
    compared = "\n".join(line for r in ratios for line in _compared(result, r) if line)
    parts = [shown, "\n".join(how_measured(result)), compared]
    return "\n\n".join(part for part in parts if part)


def _compared(result: AnyBenchResult, r: Ratio) -> Iterable[str]:
    """The sentence, and why it is not the quotient of the medians in the table."""
    yield ratio_sentence(r)
    if isinstance(result, BenchResult):
        rows = [m for row in result.measurements for m in row]
        medians = {(m.model_name, m.conditions.batch_size): m.p50 for m in reversed(rows)}
        first, this = (medians[name, r.batch_size] for name in (r.first, r.name))
        yield comparison_tables.quotient_words(r.contrast.ratio, first / this)


def _latency_table(result: BenchResult) -> str:
    rows = [
        [
            name,
            str(m.conditions.batch_size),
            *(f"{x:.2f}" for x in (m.p50, m.p90, m.p99)),
            f"{m.images_per_second:.1f}",
            f"{m.session_ms:.0f}",
            megabytes(m.peak_rss_bytes),
        ]
        for name, m in _latencies(result)
    ]
    head = ["model", "batch", "ms/step", "p90", "p99", "images/s", "load ms", "memory"]
    return table(head, rows, right=" rrrrrrr")


def _throughput_table(result: ThroughputResult) -> str:
    rows = [
        [
            name,
            str(m.conditions.batch_size),
            f"{m.images_per_second:.1f}",
            _span(m.rates, 1),
            *(_span(m.of_instances(q), 2) for q in (50, 99)),
        ]
        for name, m in _throughputs(result)
    ]
    head = ["model", "batch", "images/s", "over rounds", "ms/step, each", "p99, each"]
    return table(head, rows, right=" rrrrr")


def _span(values: Iterable[float], decimals: int) -> str:
    ordered = sorted(values)
    low, high = (f"{x:.{decimals}f}" for x in (ordered[0], ordered[-1]))
    return low if low == high else f"{low} to {high}"


def _load_table(result: LoadResult) -> str:
    loads = _loads(result)
    batches = any(m.conditions.batch_size > 1 for _, m in loads)
    rows = [
        [
            name,
            *([str(m.conditions.batch_size)] if batches else []),
            f"{m.rate:g}",
            f"{m.achieved:.1f}",
            f"{m.utilization:.0%}",
            *(f"{m.percentile(q):.2f}" for q in (50, 90, 99)),
            "keeps up" if m.keeps_up else "grows",
        ]
        for name, m in loads
    ]
    head = ["model", *(["batch"] if batches else []), "images/s", "achieved", "busy"]
    head += ["p50 ms", "p90 ms", "p99 ms", "queue"]
    return table(head, rows, right=f" {'r' * (len(head) - 2)}")


def how_measured(result: AnyBenchResult) -> Iterable[str]:
    """Rounds, threads and provider, for all batch sizes together."""
    first = result.noise[0]
    c = first.conditions
    provider = f"provider {', '.join(map(short_name, c.providers))}"
    if isinstance(result, BenchResult):
        runs = sorted({m.conditions.runs for m in result.noise})
        rounds = sorted({m.conditions.rounds for m in result.noise})
        yield (
            f"{_numbers(rounds)} rounds of {_numbers(runs)} runs in turns, "
            f"{'fresh processes' if c.isolation == 'fresh' else 'one process'}, "
            f"{_plural(c.threads, 'thread')}, {provider}; ms/step is the median."
        )
    elif isinstance(result, ThroughputResult):
        yield (
            f"{_plural(result.noise[0].instances, 'instance')} of {_plural(c.threads, 'core')} at "
            f"once, {c.rounds} rounds in turns, fresh processes, {provider}; ms/step is an "
            "instance's median."
        )
    else:
        yield from _load_words(result, provider)


def _load_words(result: LoadResult, provider: str) -> Iterable[str]:
    first = result.noise[0]
    c, seconds = first.conditions, sorted({x.windows[0].seconds for x in result.noise})
    yield (
        f"Poisson arrivals, one queue, {_plural(first.instances, 'instance')} of "
        f"{_plural(c.threads, 'core')}, {c.rounds} rounds of {seconds[0]:.1f} s, fresh processes, "
        f"{provider}."
    )
    yield "A latency counts from a request's coming to its answer, waiting included."
    yield from (
        f"{m.model_name} cannot keep up with {m.rate:g} images/s, batch {m.conditions.batch_size}: "
        f"that takes {m.utilization:.0%} of {_plural(m.instances, 'instance')}"
        f"{f'; {m.unserved:,} requests were given up' if m.unserved else ''}."
        for row in result.measurements
        for m in row
        if not m.keeps_up
    )


def _numbers(values: Sequence[int]) -> str:
    return f"{values[0]}" if len(values) == 1 else f"{values[0]} to {values[-1]}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def ratio_sentence(r: Ratio) -> str:
    """Which model is faster and by how much; if that is not shown, what difference could be."""
    found = r.contrast
    floor = "" if found.noise_floor is None else f", noise floor {percent(found.noise_floor, 1)}"
    span = f"95% interval {times_span(found.interval)}{floor}"
    batch = f"batch {r.batch_size}: "
    if found.conclusion in ("faster", "slower"):
        words = comparison_tables.faster_words(found.ratio, found.conclusion)
        line = f"{batch}{r.name} is {words} than {r.first} ({span})"
    elif found.conclusion == "same":
        words = f"{comparison_tables.NO_DIFFERENCE} ({times(found.ratio)}, {span})"
        line = f"{batch}{r.name} and {r.first}: {words}"
    else:
        line = (
            f"{batch}{r.name} and {r.first}: too noisy to tell, {r.first} differs from itself "
            f"({times(found.ratio)}, {span})"
        )
    return "\n".join([line, *_coarse(found)])


def _coarse(found: Contrast) -> Iterable[str]:
    """What the run could show, where that is little."""
    if found.resolution > WORTH_SEEING:
        yield f"  {comparison_tables.coarse_sentence(found.resolution, found.rounds_needed)}"


def figures_of(result: AnyBenchResult) -> tuple[ExportedFigure, ...]:
    """All figures for export, the first model's second measurement included."""
    if isinstance(result, BenchResult):
        return tuple(f for name, m in _latencies(result) for f in _latency_figures(name, m))
    if isinstance(result, ThroughputResult):
        return tuple(f for name, m in _throughputs(result) for f in _throughput_figures(name, m))
    return tuple(f for name, m in _loads(result) for f in _load_figures(name, m))


def _latency_figures(name: str, m: Measurement) -> Iterable[ExportedFigure]:
    figure = _maker(name, m.conditions)
    yield figure(metric="p50", unit="ms", value=m.p50, spread=m.std)
    yield figure(metric="p90", unit="ms", value=m.p90)
    yield figure(metric="p99", unit="ms", value=m.p99)
    yield figure(metric="throughput", unit="images/s", value=m.images_per_second)
    yield figure(metric="load", unit="ms", value=m.session_ms)
    if m.peak_rss_bytes is not None:
        yield figure(metric="peak memory", unit="bytes", value=m.peak_rss_bytes)


def _throughput_figures(name: str, m: Throughput) -> Iterable[ExportedFigure]:
    figure = _maker(name, m.conditions, instances=m.instances)
    rate = m.images_per_second
    yield figure(metric="p50", unit="ms", value=m.percentile(50))
    yield figure(metric="p99", unit="ms", value=m.percentile(99))
    yield figure(metric="time per image", unit="ms/image", value=1000 / rate)
    yield figure(metric="throughput", unit="images/s", value=rate, spread=float(m.rates.std()))


def _load_figures(name: str, m: Load) -> Iterable[ExportedFigure]:
    figure = _maker(name, m.conditions, instances=m.instances, rate=m.rate)
    for q in (50, 90, 99):
        yield figure(metric=f"p{q}", unit="ms", value=m.percentile(q))
    yield figure(metric="achieved", unit="images/s", value=m.achieved)
    yield figure(metric="busy", unit="share", value=m.utilization)
    yield figure(metric="unserved", unit="requests", value=m.unserved)


def _maker(name: str, c: Conditions, **more: Any) -> Callable[..., ExportedFigure]:
    """Makes figures with what all figures of one measurement share."""
    return partial(
        ExportedFigure,
        model=name,
        batch=c.batch_size,
        threads=c.threads,
        provider=", ".join(map(short_name, c.providers)),
        **more,
    )


def _latencies(result: BenchResult) -> list[tuple[str, Measurement]]:
    rows = [(m.model_name, m) for row in result.measurements for m in row]
    return rows + [(m.model_name + AGAIN, m) for m in result.noise]


def _throughputs(result: ThroughputResult) -> list[tuple[str, Throughput]]:
    rows = [(m.model_name, m) for row in result.measurements for m in row]
    return rows + [(m.model_name + AGAIN, m) for m in result.noise]


def _loads(result: LoadResult) -> list[tuple[str, Load]]:
    rows = [(m.model_name, m) for row in result.measurements for m in row]
    return rows + [(m.model_name + AGAIN, m) for m in result.noise]
