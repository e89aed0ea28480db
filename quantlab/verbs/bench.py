"""bench: models timed side by side, several instances at once, or under an offered load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from quantlab._util.reporter import Reporter
from quantlab.bench import instances as at_once
from quantlab.bench import load
from quantlab.bench.harness import bench, steps
from quantlab.bench.instances import throughput
from quantlab.bench.load import offered_load
from quantlab.bench.machine import machine_notes
from quantlab.bench.measurement import BenchResult, Conditions
from quantlab.bench.queueing import LoadResult
from quantlab.bench.throughput import ThroughputResult
from quantlab.compare.speeds import Ratio, ratios_of
from quantlab.model.model import Model
from quantlab.report.bench import bench_page, figures_of
from quantlab.report.export import check_exports, export
from quantlab.runs.run import Run
from quantlab.runtime.providers import providers_of
from quantlab.verbs import inputs
from quantlab.verbs.inputs import ModelOptions, model_facts
from quantlab.verbs.options.bench import BenchOptions as BenchOptions

Result = TypeVar("Result", BenchResult, ThroughputResult, LoadResult)


@dataclass(frozen=True)
class Benched:
    """The measurements and every later model's speed against the first; none under a load."""

    result: BenchResult | ThroughputResult | LoadResult
    ratios: tuple[Ratio, ...]


def bench_job(spec: BenchOptions, run: Run, reporter: Reporter) -> Benched:
    """Every model's measurements and the A/A check; the raw samples go into the run folder."""
    check_exports(spec.exports)
    options = ModelOptions(size=spec.size)
    models = [inputs.find_model(text, options, reporter) for text in spec.models]
    result = _measured(models, spec, reporter)
    result.save(run.artifact("measurements", "measurements.json"))
    inputs.check_all_unchanged(models)
    ratios = () if isinstance(result, LoadResult) else ratios_of(result)
    figures = figures_of(result)
    run.record.results = facts(models, result, ratios)
    for path in spec.exports:
        export(path, figures, bench_page(result, ratios))
        reporter.say(f"Wrote {path}")
    return Benched(result, ratios)


def facts(
    models: Sequence[Model],
    result: BenchResult | ThroughputResult | LoadResult,
    ratios: Sequence[Ratio],
) -> dict[str, object]:
    """The figures for the record."""
    return {
        "models": [model_facts(model) for model in models],
        "conditions": _conditions_facts(result.noise[0].conditions),
        "figures": [vars(figure) for figure in figures_of(result)],
        "ratios": [_ratio_facts(ratio) for ratio in ratios],
    }


def _measured(
    models: Sequence[Model], spec: BenchOptions, reporter: Reporter
) -> BenchResult | ThroughputResult | LoadResult:
    if spec.rates:
        return _loaded(models, spec, reporter)
    return (
        timed(models, spec, reporter)
        if spec.instances is None
        else _together(models, spec, reporter)
    )


def _conditions_facts(c: Conditions) -> dict[str, Any]:
    """What holds for all figures; the batch size and what follows from it is theirs."""
    return {
        "threads": c.threads,
        "rounds": c.rounds,
        "seed": c.seed,
        "providers": list(c.providers),
        "isolation": c.isolation,
        "steal": list(c.steal),
        "mhz": list(c.mhz),
    }


def _ratio_facts(r: Ratio) -> dict[str, Any]:
    found = r.contrast
    return {
        "model": r.name,
        "first": r.first,
        "batch_size": r.batch_size,
        "speedup": found.ratio,
        "interval": [found.interval.low, found.interval.high],
        "conclusion": found.conclusion,
        "noise_floor": found.noise_floor,
        "resolution": found.resolution,
        "rounds": found.rounds,
        "rounds_needed": found.rounds_needed,
    }


def timed(models: Sequence[Model], spec: BenchOptions, reporter: Reporter) -> BenchResult:
    """Latency, with a progress bar."""
    total = steps(len(spec.batch_sizes), spec.rounds)
    with reporter.progress("Timing", total) as advance:
        result = bench(
            models,
            batch_sizes=spec.batch_sizes,
            rounds=spec.rounds,
            threads=spec.threads,
            seconds=spec.seconds,
            seed=spec.seed,
            providers=providers_of(spec.provider),
            isolation=spec.isolation,
            progress=advance,
        )
    return _noted(result, reporter)


def _together(models: Sequence[Model], spec: BenchOptions, reporter: Reporter) -> ThroughputResult:
    """Several instances, with a progress bar."""
    total = len(spec.batch_sizes) * (spec.rounds or at_once.ROUNDS)
    with reporter.progress("Timing", total) as advance:
        result = throughput(
            models,
            instances=spec.instances or 1,
            cores=spec.cores_per_instance or 1,
            batch_sizes=spec.batch_sizes,
            rounds=spec.rounds,
            seconds=spec.seconds,
            seed=spec.seed,
            providers=providers_of(spec.provider),
            progress=advance,
        )
    return _noted(result, reporter)


def _loaded(models: Sequence[Model], spec: BenchOptions, reporter: Reporter) -> LoadResult:
    """An offered load, with a progress bar."""
    total = len(spec.batch_sizes) * len(spec.rates) * (spec.rounds or load.ROUNDS)
    with reporter.progress("Serving", total) as advance:
        result = offered_load(
            models,
            spec.rates,
            instances=spec.instances or 1,
            cores=spec.cores_per_instance or spec.threads,
            batch_sizes=spec.batch_sizes,
            rounds=spec.rounds,
            seconds=spec.seconds,
            seed=spec.seed,
            providers=providers_of(spec.provider),
            progress=advance,
        )
    return _noted(result, reporter)


def _noted(result: Result, reporter: Reporter) -> Result:
    """Warns of stolen time and of a clock rate that moved."""
    every = [m.conditions for m in result.noise]
    steal = [share for c in every for share in c.steal]
    for note in machine_notes(steal, [mhz for c in every for mhz in c.mhz]):
        reporter.warn(note)
    return result
