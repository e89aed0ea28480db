"""bench: models timed side by side."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from quantlab.bench.harness import ROUNDS, SECONDS, bench, steps
from quantlab.bench.measurement import BenchResult
from quantlab.comparison import Speed
from quantlab.jobs import inputs
from quantlab.jobs.inputs import ModelOptions, model_facts
from quantlab.model import Model
from quantlab.speeds import speed_of
from quantlab.store import Run
from quantlab.talk import Talk


class BenchSpec(BaseModel):
    """The options of ``quantlab bench``."""

    models: tuple[str, ...]
    batch_sizes: tuple[int, ...] = (1,)
    rounds: int = ROUNDS
    threads: int = 1
    seconds: float = SECONDS
    seed: int = 0


@dataclass(frozen=True)
class Ratio:
    """``speed`` of the model ``name`` against the first one."""

    name: str
    first: str
    speed: Speed


@dataclass(frozen=True)
class Benched:
    """The measurements and every later model's speed against the first."""

    result: BenchResult
    ratios: tuple[Ratio, ...]


def bench_job(spec: BenchSpec, run: Run, talk: Talk) -> Benched:
    """Every model's Measurements and the A/A check; the raw samples go into the run folder."""
    models = [inputs.find_model(text, ModelOptions(), talk) for text in spec.models]
    result = timed(models, spec, talk)
    result.save(run.artifact("measurements", "measurements.json"))
    inputs.check_all_unchanged(models)
    ratios = _ratios(result, spec.seed)
    run.record.results = {
        "models": [model_facts(model) for model in models],
        "p50_ms": [[m.p50 for m in row] for row in result.measurements],
        "noise_p50_ms": [m.p50 for m in result.noise],
        "ratios": [
            {
                "model": r.name,
                "first": r.first,
                "batch_size": r.speed.batch_size,
                "speedup": r.speed.speedup,
                "interval": [r.speed.interval.low, r.speed.interval.high],
                "conclusion": r.speed.conclusion,
                "noise_floor": r.speed.noise_floor,
            }
            for r in ratios
        ],
    }
    return Benched(result, ratios)


def _ratios(result: BenchResult, seed: int) -> tuple[Ratio, ...]:
    first = result.measurements[0]
    return tuple(
        Ratio(b.model_name, a.model_name, speed_of(a, b, again, seed=seed))
        for others in result.measurements[1:]
        for a, b, again in zip(first, others, result.noise, strict=True)
    )


def timed(models: list[Model], spec: BenchSpec, talk: Talk) -> BenchResult:
    """The harness with a progress bar."""
    total = steps(len(models), len(spec.batch_sizes), spec.rounds)
    with talk.progress("Timing", total) as advance:
        return bench(
            models,
            batch_sizes=spec.batch_sizes,
            rounds=spec.rounds,
            threads=spec.threads,
            seconds=spec.seconds,
            seed=spec.seed,
            progress=advance,
        )
