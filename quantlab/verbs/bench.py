"""bench: models timed side by side, several instances at once, or under an offered load."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from quantlab._util.reporter import Reporter
from quantlab.bench import instances as at_once
from quantlab.bench import load, measurement
from quantlab.bench.harness import bench, steps
from quantlab.bench.instances import throughput
from quantlab.bench.load import offered_load
from quantlab.bench.machine import machine_notes
from quantlab.bench.measurement import BenchResult
from quantlab.bench.queueing import LoadResult
from quantlab.bench.throughput import ThroughputResult
from quantlab.compare.speeds import Ratio, ratios_of
from quantlab.model.model import Model
from quantlab.report.bench import bench_page, figures_of
from quantlab.report.export import check_exports, export
from quantlab.runtime.providers import providers_of
from quantlab.verbs import inputs
from quantlab.verbs.inputs import model_facts
from quantlab.verbs.options.bench import BenchOptions as BenchOptions
from quantlab.verbs.publish import Artifact, PageConditions, VerbResult

M = TypeVar("M", BenchResult, ThroughputResult, LoadResult)


@dataclass(frozen=True)
class Benched(VerbResult):
    """The measurements, and every later model's speed against the first (none under a load);
    ``exports`` are files that are to have the figures."""

    models: tuple[Model, ...]
    result: BenchResult | ThroughputResult | LoadResult
    exports: tuple[Path, ...] = ()

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """Every later model's speed against the first."""
        return () if isinstance(self.result, LoadResult) else ratios_of(self.result)

    def facts(self) -> dict[str, Any]:
        """The figures; the raw samples are an artifact."""
        return {
            "models": [model_facts(model) for model in self.models],
            "conditions": _conditions_facts(self.result.noise[0].conditions),
            "figures": [vars(figure) for figure in figures_of(self.result)],
            "ratios": [_ratio_facts(ratio) for ratio in self.ratios],
        }

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        """The raw samples."""
        yield Artifact("measurements", "measurements.json", self.result.save)

    def deliver(self, conditions: PageConditions, reporter: Reporter) -> None:
        """Export the figures."""
        for path in self.exports:
            export(path, figures_of(self.result), bench_page(self.result, self.ratios))
            reporter.say(f"Wrote {path}")


def bench_job(spec: BenchOptions, reporter: Reporter) -> Benched:
    """Measure the named models."""
    check_exports(spec.exports)
    models = [inputs.find_model(text, spec, reporter) for text in spec.models]
    return measure(models, spec, reporter)


def measure(models: Sequence[Model], spec: BenchOptions, reporter: Reporter) -> Benched:
    """Time the models side by side: latency, several instances at once, or an offered load."""
    result: BenchResult | ThroughputResult | LoadResult
    if spec.rates:
        result = _loaded(models, spec, reporter)
    elif spec.instances is not None:
        result = _together(models, spec, reporter)
    else:
        result = timed(models, spec, reporter)
    inputs.check_all_unchanged(models)
    return Benched(tuple(models), result, spec.exports)


def _conditions_facts(c: measurement.Conditions) -> dict[str, Any]:
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


def _noted(result: M, reporter: Reporter) -> M:
    """Warns of stolen time and of a clock rate that moved."""
    every = [m.conditions for m in result.noise]
    steal = [share for c in every for share in c.steal]
    for note in machine_notes(steal, [mhz for c in every for mhz in c.mhz]):
        reporter.warn(note)
    return result
