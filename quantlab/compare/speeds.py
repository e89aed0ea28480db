"""Compare two models' measured latencies: which is faster, and is it more than noise? Pure.

The unit is the round: fresh processes, so that rounds are independent of each other. A round's
ratio is the median over its turns of the ratio of the two models' median runs in that turn. Turns
lie milliseconds apart, so that what slows the machine slows both. The rounds' ratios give one
estimate and its signed-rank interval (``stats.signed_rank``), on the logarithm, so that a/b and b/a
are treated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, exp, log
from statistics import NormalDist
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from quantlab.bench.measurement import BenchResult, Measurement
from quantlab.bench.throughput import Throughput, ThroughputResult
from quantlab.compare.comparison import (
    Latency,
    RuntimeGain,
    RuntimeSpeed,
    Speed,
    SpeedConclusion,
)
from quantlab.errors import DataError
from quantlab.stats.paired import Interval, centre, signed_rank, z_value

MeasuredTimes = Measurement | Sequence[Measurement] | None
Doubles = NDArray[np.float64]

NOISE_TOLERANCE = 0.05
"""A model may differ from itself by this fraction before the whole run is called too noisy."""
WORTH_SEEING = 0.03
"""A run should be able to show a difference of this fraction."""
POWER = 0.9
"""What a run is said to show, it would find so often."""


def listed(measured: MeasuredTimes) -> Sequence[Measurement]:
    """One, several or no measurements as a tuple."""
    if measured is None:
        return ()
    return (measured,) if isinstance(measured, Measurement) else measured


def speeds_of(
    fp32: Sequence[Measurement], int8: Sequence[Measurement], noise: Sequence[Measurement]
) -> tuple[Speed, ...]:
    """One Speed for every batch size that both models were measured at. Raises DataError."""
    others = {m.conditions.batch_size: m for m in int8}
    again = {m.conditions.batch_size: m for m in noise}
    return tuple(
        speed_of(m, others[size], again.get(size))
        for m in fp32
        if (size := m.conditions.batch_size) in others
    )


def speed_of(fp32: Measurement, int8: Measurement, noise: Measurement | None) -> Speed:
    """Two measurements of one run side by side.

    Raises DataError when they were not made under the same conditions, or in fewer than two rounds.
    """
    found = contrast_of(fp32, int8, noise)
    return Speed(
        batch_size=fp32.conditions.batch_size,
        threads=fp32.conditions.threads,
        fp32=_latency(fp32),
        int8=_latency(int8),
        speedup=found.ratio,
        interval=found.interval,
        noise=found.noise,
        noise_floor=found.noise_floor,
        conclusion=found.conclusion,
        resolution=found.resolution,
        rounds=found.rounds,
        rounds_needed=found.rounds_needed,
    )


def runtime_gains(
    fp32: Sequence[Measurement],
    there: Sequence[Measurement],
    int8: Sequence[Measurement],
    runtimes: tuple[str, str],
) -> tuple[RuntimeGain, ...]:
    """What of each speedup is the runtime's: ``there`` is the fp32 model in the second of the
    ``runtimes``, int8's, measured in the same run. Raises DataError as ``speed_of``."""
    found = []
    for own, other, quantized in zip(fp32, there, int8, strict=True):
        moved, made = contrast_of(own, other, None), contrast_of(other, quantized, None)
        found.append(
            RuntimeGain(
                batch_size=own.conditions.batch_size,
                fp32_runtime=runtimes[0],
                runtime=runtimes[1],
                by_runtime=moved.ratio,
                by_runtime_interval=moved.interval,
                by_quantization=made.ratio,
                by_quantization_interval=made.interval,
            )
        )
    return tuple(found)


def in_other_runtime(
    own: Measurement, there: Measurement, runtime: str, version: str
) -> RuntimeSpeed:
    """A file's speed in another runtime, measured in the same run. Raises DataError as
    ``speed_of``."""
    found = contrast_of(own, there, None)
    return RuntimeSpeed(
        runtime=runtime,
        version=version,
        speedup=found.ratio,
        interval=found.interval,
        conclusion=found.conclusion,
    )


def contrast_of(first: Measurement, second: Measurement, noise: Measurement | None) -> Contrast:
    """The latencies of two models of one run. Raises DataError as ``speed_of``."""
    same_conditions(first, second, noise)
    itself = None if noise is None else round_ratios(first, noise)
    return contrast(round_ratios(first, second), itself)


def throughput_contrast(first: Throughput, second: Throughput, noise: Throughput) -> Contrast:
    """Their images a second. Raises DataError as ``speed_of``."""
    same_conditions(first, second, noise)
    return contrast(np.log(second.rates / first.rates), np.log(noise.rates / first.rates))


@dataclass(frozen=True)
class Ratio:
    """How many times faster the model ``name`` is than the ``first`` one."""

    name: str
    first: str
    batch_size: int
    contrast: Contrast


def ratios_of(result: BenchResult | ThroughputResult) -> tuple[Ratio, ...]:
    """Every later model against the first, in latency or in images a second. Raises DataError."""
    if isinstance(result, BenchResult):
        return _ratios(result.measurements, result.noise, contrast_of)
    return _ratios(result.measurements, result.noise, throughput_contrast)


_Any = TypeVar("_Any", Measurement, Throughput)


def _ratios(
    measurements: Sequence[Sequence[_Any]],
    noise: Sequence[_Any],
    compare: Callable[[_Any, _Any, _Any], Contrast],
) -> tuple[Ratio, ...]:
    return tuple(
        Ratio(b.model_name, a.model_name, a.conditions.batch_size, compare(a, b, again))
        for others in measurements[1:]
        for a, b, again in zip(measurements[0], others, noise, strict=True)
    )


def same_conditions(
    first: Measurement | Throughput,
    second: Measurement | Throughput,
    noise: Measurement | Throughput | None,
) -> None:
    """Raises DataError when measurements that are to be compared are not of one run."""
    if any(m.conditions != first.conditions for m in (second, noise) if m is not None):
        raise DataError(
            f"{first.model_name} and {second.model_name} were measured under different conditions.",
            "Measure both in one run: quantlab bench FP32 INT8",
        )


def round_ratios(a: Measurement, b: Measurement) -> Doubles:
    """Every round's logarithm of how many times longer ``a`` takes than ``b``: float64 [rounds].

    Rounds in which one of them has no runs are left out.
    """
    turns = max(1, a.conditions.turns)
    pairs = [(x, y) for x, y in zip(a.rounds, b.rounds, strict=True) if x and y]
    return np.array([_round_ratio(x, y, turns) for x, y in pairs])


def told_apart(samples: Sequence[Sequence[Sequence[float]]], turns: int) -> bool:
    """Whether each model's speed against the first is known to within WORTH_SEEING: its 95%
    interval, from end to end, is no wider. ``samples`` are milliseconds by model, round and run.

    Rounds may be added until this is true: an interval of fixed width keeps its coverage as it
    narrows (Chow and Robbins 1965).
    """
    first, *others = samples
    for other in others:
        pairs = [(a, b) for a, b in zip(first, other, strict=True) if a and b]
        found = signed_rank(np.array([_round_ratio(a, b, max(1, turns)) for a, b in pairs]))
        if not found.high - found.low <= log(1 + WORTH_SEEING):
            return False
    return True


def is_exact(result: BenchResult) -> bool:
    """Whether every speed of the result is known as well as ``told_apart`` asks."""
    return all(
        told_apart([m.rounds for m in (*models, control)], control.conditions.turns)
        for *models, control in zip(*result.measurements, result.noise, strict=True)
    )


def _round_ratio(a: Sequence[float], b: Sequence[float], turns: int) -> float:
    turns = min(turns, len(a), len(b))
    pairs = zip(np.array_split(a, turns), np.array_split(b, turns), strict=True)
    return float(np.median([log(np.median(x) / np.median(y)) for x, y in pairs]))


@dataclass(frozen=True)
class Contrast:
    """How many times faster the second of two is, over ``rounds`` rounds; see Speed."""

    ratio: float
    interval: Interval
    noise: Interval | None
    noise_floor: float | None
    conclusion: SpeedConclusion
    resolution: float
    rounds: int
    rounds_needed: int


def contrast(logs: Doubles, noise: Doubles | None) -> Contrast:
    """From the rounds' log ratios of first to second, and of the first to itself.

    Raises DataError for fewer than two rounds.
    """
    if len(logs) < 2:
        raise DataError(
            "one round has no interval: which model is faster cannot be told.",
            "Measure in two rounds at least; 15 are usual.",
        )
    ratio, interval = exp(centre(logs)), _raised(signed_rank(logs))
    itself = None if noise is None else _raised(signed_rank(noise))
    floor = None if itself is None else noise_floor(itself)
    resolution = smallest_shown(interval, floor)
    return Contrast(
        ratio=ratio,
        interval=interval,
        noise=itself,
        noise_floor=floor,
        conclusion=conclude(ratio, interval, itself),
        resolution=resolution,
        rounds=len(logs),
        rounds_needed=rounds_to_show(WORTH_SEEING, resolution, len(logs)),
    )


def _raised(logs: Interval) -> Interval:
    return Interval(exp(logs.low), exp(logs.high))


def noise_floor(noise: Interval) -> float:
    """How far from 1 a ratio may come out for one and the same model: the farther end of its
    interval, as a fraction."""
    return max(noise.high, 1 / noise.low) - 1


def smallest_shown(interval: Interval, floor: float | None) -> float:
    """The smallest difference, as a fraction, that a run with this interval finds nine times in
    ten: its estimate must leave the interval's own reach and the noise floor behind it."""
    reach = log(interval.high / interval.low) / 2
    sure = NormalDist().inv_cdf(POWER) / z_value() * reach
    return exp(max(reach, log(1 + (floor or 0.0))) + sure) - 1


def rounds_to_show(difference: float, resolution: float, rounds: int) -> int:
    """How many rounds find ``difference``, when ``rounds`` find ``resolution``: what is found
    shrinks with the root of their number. Not fewer than were made."""
    return max(rounds, ceil(rounds * (log(1 + resolution) / log(1 + difference)) ** 2))


def conclude(ratio: float, interval: Interval, noise: Interval | None) -> SpeedConclusion:
    """A difference counts when the interval leaves 1 out and the noise floor is passed."""
    if noise and max(noise.low, 1 / noise.high) > 1 + NOISE_TOLERANCE:
        return "too noisy"
    floor = 0.0 if noise is None else noise_floor(noise)
    if 1 in interval or max(ratio, 1 / ratio) - 1 <= floor:
        return "same"
    return "faster" if ratio > 1 else "slower"


def _latency(m: Measurement) -> Latency:
    return Latency(
        p50=m.p50,
        p90=m.p90,
        p99=m.p99,
        mean=m.mean,
        std=m.std,
        images_per_second=m.images_per_second,
        session_ms=m.session_ms,
        peak_rss_bytes=m.peak_rss_bytes,
        samples=tuple(m.samples.tolist()),
    )
