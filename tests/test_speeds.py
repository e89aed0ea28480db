from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantlab.bench.measurement import Conditions, Measurement
from quantlab.errors import DataError
from quantlab.speeds import slower_notes, speed_of


def _measurement(
    name: str, ms: float, *, batch: int = 1, seed: int = 0, drift: float = 0.0
) -> Measurement:
    rng = np.random.default_rng(seed)
    times = ms * (1 + drift * rng.normal(size=(12, 1)) + 0.02 * rng.exponential(size=(12, 8)))
    rounds = tuple(tuple(row) for row in np.abs(times).tolist())
    return Measurement(name, "ab", 1000, rounds, 5.0, 10**8, Conditions(1, batch, 12, 8))


@pytest.mark.parametrize(
    ("int8_ms", "noise_ms", "drift", "conclusion"),
    [
        (5.0, 10.0, 0.0, "faster"),
        (20.0, 10.0, 0.0, "slower"),
        (10.0, 10.0, 0.0, "same"),
        (9.7, 10.4, 0.0, "too noisy"),
        (5.0, 12.0, 0.0, "too noisy"),
        (10.0, 10.0, 0.5, "too noisy"),
    ],
)
def test_conclusions(int8_ms: float, noise_ms: float, drift: float, conclusion: str) -> None:
    speed = speed_of(
        _measurement("a", 10.0, seed=1, drift=drift),
        _measurement("b", int8_ms, seed=2, drift=drift),
        _measurement("a", noise_ms, seed=3, drift=drift),
    )
    assert speed.conclusion == conclusion
    assert speed.too_noisy is (conclusion == "too noisy")


def test_a_slower_int8_model_is_told() -> None:
    fp32, noise = _measurement("a", 10.0, seed=1), _measurement("a", 10.0, seed=3)
    speeds = [speed_of(fp32, _measurement("b", ms, seed=2), noise) for ms in (20.0, 5.0)]
    (note,) = slower_notes(speeds)
    assert note.startswith("int8 is slower than fp32 on this machine at batch 1 (0.50x): keep")


def test_speeds_of_different_conditions_are_refused() -> None:
    a = _measurement("a", 1.0)
    b = replace(a, conditions=replace(a.conditions, threads=4))
    with pytest.raises(DataError, match="different conditions"):
        speed_of(a, b, None)
