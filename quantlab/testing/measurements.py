"""Made-up latencies for tests: nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from quantlab.bench.measurement import BenchResult, Conditions, Measurement
from quantlab.model.model import Model


def fake_measurement(
    name: str, ms: float, *, seed: int = 0, batch_size: int = 1, model: Model | None = None
) -> Measurement:
    """Ten rounds of ten runs of about ``ms`` milliseconds."""
    times = ms * (1 + 0.02 * np.random.default_rng(seed).exponential(size=(10, 10)))
    return Measurement(
        model_name=name,
        model_sha256=model.sha256 if model else "0" * 64,
        bytes=model.size_bytes if model else 1000,
        rounds=tuple(map(tuple, times.tolist())),
        session_ms=5.0,
        peak_rss_bytes=100_000_000,
        conditions=Conditions(threads=1, batch_size=batch_size, rounds=10, runs=10),
    )


def fake_bench(
    models: Sequence[Model],
    *,
    batch_sizes: Sequence[int] = (1,),
    progress: Callable[[int, str], None] | None = None,
    int8_ms: float = 5,
    **_: object,
) -> BenchResult:
    """``bench`` without a process: the first model takes 10 ms an image, others ``int8_ms``."""

    def measured(model: Model, ms: float, seed: int) -> tuple[Measurement, ...]:
        return tuple(
            fake_measurement(model.name, ms * b, seed=seed, batch_size=b, model=model)
            for b in batch_sizes
        )

    if progress is not None:
        progress(1, "")
    return BenchResult(
        measurements=tuple(measured(m, int8_ms if i else 10, i) for i, m in enumerate(models)),
        noise=measured(models[0], 10, len(models)),
    )
