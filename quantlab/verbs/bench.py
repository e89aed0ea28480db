"""bench: models timed side by side, several instances at once, or under an offered load."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from quantlab._util.reporter import Reporter
from quantlab.bench import instances as at_once
from quantlab.bench import load, measurement
from quantlab.bench.harness import Enough, bench, steps
from quantlab.bench.instances import throughput
from quantlab.bench.load import offered_load
from quantlab.bench.machine import busy_note, machine_notes
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
from quantlab.verbs.options.shared import check_provider
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


def bench_named_models(spec: BenchOptions, reporter: Reporter) -> Benched:
    """Measure the named models."""
    check_exports(spec.exports)
    models = [inputs.find_model(text, spec, reporter) for text in spec.models]
    if note := busy_note():
        reporter.warn(note)
    return measure(models, spec, reporter)


def measure(models: Sequence[Model], spec: BenchOptions, reporter: Reporter) -> Benched:
    """Time the models side by side: latency, several instances at once, or an offered load."""
    check_provider(spec.provider, *(model.runtime for model in models))
    result: BenchResult | ThroughputResult | LoadResult
    cores = spec.cores_per_instance
    if spec.rates:
        waits = partial(
            offered_load,
            rates=spec.rates,
            instances=spec.instances or 1,
            cores=cores or spec.threads,
        )
        total = len(spec.rates) * (spec.rounds or load.ROUNDS)
        result = _measured(waits, models, spec, reporter, "Serving", total)
    elif spec.instances is not None:
        together = partial(throughput, instances=spec.instances, cores=cores or 1)
        total = spec.rounds or at_once.ROUNDS
        result = _measured(together, models, spec, reporter, "Timing", total)
    else:
        result = timed(models, spec, reporter)
    inputs.check_all_unchanged(models)
    return Benched(tuple(models), result, spec.exports)


def timed(
    models: Sequence[Model],
    spec: BenchOptions,
    reporter: Reporter,
    enough: Enough | None = None,
    *,
    costs: bool = True,
) -> BenchResult:
    """Latency, with a progress bar; in fewer rounds where these are ``enough``. See ``bench`` for
    ``costs``."""
    alone = partial(
        bench, threads=spec.threads, isolation=spec.isolation, enough=enough, costs=costs
    )
    return _measured(alone, models, spec, reporter, "Timing", steps(1, spec.rounds))


def _measured(
    benchmark: Callable[..., M],
    models: Sequence[Model],
    spec: BenchOptions,
    reporter: Reporter,
    label: str,
    steps: int,
) -> M:
    """The benchmark of the models, in so many steps a batch size. Warns of stolen time and of a
    clock rate that moved."""
    with reporter.progress(label, steps * len(spec.batch_sizes)) as advance:
        result = benchmark(
            models,
            batch_sizes=spec.batch_sizes,
            rounds=spec.rounds,
            seconds=spec.seconds,
            seed=spec.seed,
            providers=providers_of(spec.provider),
            progress=advance,
        )
    every = [m.conditions for m in result.noise]
    steal = [share for c in every for share in c.steal]
    for note in machine_notes(steal, [mhz for c in every for mhz in c.mhz]):
        reporter.warn(note)
    return result


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
