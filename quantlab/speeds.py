"""Two models' measurements side by side: which is faster, and can the machine tell? Pure."""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.bench.measurement import Measurement
from quantlab.comparison import Latency, Speed, SpeedConclusion
from quantlab.errors import DataError
from quantlab.stats import Interval, bootstrap_ratio

Measured = Measurement | Sequence[Measurement] | None

NOISE_TOLERANCE = 0.05
"""A model may differ from itself by this fraction before the whole run is called too noisy."""
SAME_WITHIN = 0.10
"""A machine whose noise floor is higher cannot say that two models are equally fast."""


def listed(measured: Measured) -> Sequence[Measurement]:
    """One, several or no measurements as a sequence."""
    if measured is None:
        return ()
    return (measured,) if isinstance(measured, Measurement) else measured


def speeds_of(
    fp32: Sequence[Measurement],
    int8: Sequence[Measurement],
    noise: Sequence[Measurement],
    seed: int,
) -> tuple[Speed, ...]:
    """One Speed for every batch size that both models were measured at. Raises DataError."""
    others = {m.conditions.batch_size: m for m in int8}
    again = {m.conditions.batch_size: m for m in noise}
    return tuple(
        speed_of(m, others[size], again.get(size), seed=seed)
        for m in fp32
        if (size := m.conditions.batch_size) in others
    )


def speed_of(
    fp32: Measurement, int8: Measurement, noise: Measurement | None, *, seed: int = 0
) -> Speed:
    """Two measurements of one run side by side.

    Raises DataError when they were not made under the same conditions.
    """
    if any(m.conditions != fp32.conditions for m in (int8, noise) if m is not None):
        raise DataError(
            f"{fp32.model_name} and {int8.model_name} were measured under different conditions.",
            "Measure both in one run: quantlab bench FP32 INT8",
        )
    interval = bootstrap_ratio(fp32.rounds, int8.rounds, seed)
    itself = None if noise is None else bootstrap_ratio(fp32.rounds, noise.rounds, seed)
    speedup, floor = fp32.p50 / int8.p50, None if itself is None else _floor(itself)
    return Speed(
        batch_size=fp32.conditions.batch_size,
        threads=fp32.conditions.threads,
        fp32=_latency(fp32),
        int8=_latency(int8),
        speedup=speedup,
        interval=interval,
        noise=itself,
        noise_floor=floor,
        conclusion=_conclude(speedup, interval, itself),
    )


def slower_notes(speeds: Sequence[Speed]) -> tuple[str, ...]:
    """A sentence for every batch size at which the int8 model is surely slower."""
    return tuple(
        f"int8 is slower than fp32 on this machine at batch {s.batch_size} ({s.speedup:.2f}x): "
        "keep the fp32 model, or let quantlab inspect say which nodes do not run in int8."
        for s in speeds
        if s.conclusion == "slower"
    )


def _floor(noise: Interval) -> float:
    """How far from 1 a ratio may come out for one and the same model."""
    return max(noise.high, 1 / noise.low) - 1


def _conclude(speedup: float, interval: Interval, noise: Interval | None) -> SpeedConclusion:
    floor = 0.0 if noise is None else _floor(noise)
    if noise and max(noise.low, 1 / noise.high) > 1 + NOISE_TOLERANCE:
        return "too noisy"
    if 1 in interval:
        return "same" if floor <= SAME_WITHIN else "too noisy"
    if max(speedup, 1 / speedup) - 1 <= floor:
        return "too noisy"
    return "faster" if speedup > 1 else "slower"


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
