from __future__ import annotations

from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest

from quantlab.bench.measurement import BenchResult, Conditions, Measurement
from quantlab.bench.schedule import LEAST_ROUNDS
from quantlab.bench.throughput import Throughput, ThroughputResult
from quantlab.compare.speeds import (
    contrast,
    contrast_of,
    is_exact,
    ratios_of,
    round_ratios,
    rounds_to_show,
    smallest_shown,
    speed_of,
    told_apart,
)
from quantlab.errors import DataError
from quantlab.stats.paired import Interval

ROUNDS, TURNS = 15, 8


def _measurement(name: str, ms: float, *, seed: int = 0, spread: float = 0.02) -> Measurement:
    """15 rounds of 8 turns of one run; a round's process is ``spread`` faster or slower."""
    rng = np.random.default_rng(seed)
    luck = 1 + spread * rng.normal(size=(ROUNDS, 1))
    times = ms * luck * (1 + 0.02 * rng.exponential(size=(ROUNDS, TURNS)))
    rounds = tuple(tuple(row) for row in np.abs(times).tolist())
    conditions = Conditions(1, 1, ROUNDS, TURNS, turns=TURNS)
    return Measurement(name, "ab", 1000, rounds, 5.0, 10**8, conditions)


@pytest.mark.parametrize(
    ("int8_ms", "noise_ms", "spread", "conclusion"),
    [
        (5.0, 10.0, 0.01, "faster"),
        (20.0, 10.0, 0.01, "slower"),
        (10.0, 10.0, 0.01, "same"),
        (9.7, 10.4, 0.001, "same"),
        (5.0, 12.0, 0.01, "too noisy"),
        (10.5, 10.0, 0.3, "same"),
    ],
)
def test_conclusions(int8_ms: float, noise_ms: float, spread: float, conclusion: str) -> None:
    speed = speed_of(
        _measurement("a", 10.0, seed=1, spread=spread),
        _measurement("b", int8_ms, seed=2, spread=spread),
        _measurement("a", noise_ms, seed=3, spread=spread),
    )
    assert speed.conclusion == conclusion
    assert speed.too_noisy is (conclusion == "too noisy")
    assert speed.speedup in speed.interval
    assert speed.rounds == ROUNDS


def test_speeds_of_different_conditions_are_refused() -> None:
    a = _measurement("a", 1.0)
    b = replace(a, conditions=replace(a.conditions, threads=4))
    with pytest.raises(DataError, match="different conditions"):
        speed_of(a, b, None)
    noticed = replace(a, conditions=replace(a.conditions, steal=(0.5,), mhz=(1.0,)))
    assert speed_of(a, noticed, None).conclusion == "same"


def test_one_round_has_no_interval() -> None:
    a = replace(_measurement("a", 1.0), rounds=((1.0, 2.0),))
    with pytest.raises(DataError, match="one round"):
        speed_of(a, a, None)


def test_turns_are_compared_side_by_side() -> None:
    """The machine gets ten times slower within the round: that is in both, and cancels."""
    drift = np.repeat(np.geomspace(1, 10, 8), 3)
    a = replace(_measurement("a", 1.0), rounds=(tuple(2 * drift),) * 2)
    b = replace(a, rounds=(tuple(drift),) * 2)
    assert round_ratios(a, b) == pytest.approx([log(2)] * 2)


def test_rounds_without_runs_are_left_out() -> None:
    a = replace(_measurement("a", 1.0), rounds=((2.0,), (), (2.0, 2.0)))
    b = replace(a, rounds=((1.0,), (1.0,), (1.0,)))
    assert round_ratios(a, b) == pytest.approx([log(2)] * 2)


def _simulated(rng: Any, difference: float, rounds: int, spread: float) -> Any:
    """A run of ``bench`` on processes whose luck differs: logs of A/B and A/A′."""
    luck = rng.standard_t(4, size=(3, rounds)) * spread
    return contrast(luck[0] - luck[1] - log(1 + difference), luck[0] - luck[2])


def test_a_model_and_its_copy_are_rarely_told_apart() -> None:
    rng = np.random.default_rng(1)
    found = [_simulated(rng, 0.0, ROUNDS, 0.01) for _ in range(1000)]
    assert np.mean([1 not in c.interval for c in found]) < 0.07
    assert np.mean([c.conclusion != "same" for c in found]) < 0.03


@pytest.mark.parametrize("spread", [0.003, 0.008, 0.02])
def test_three_percent_is_found_or_said_to_be_out_of_sight(spread: float) -> None:
    rng = np.random.default_rng(2)
    found = [_simulated(rng, 0.03, ROUNDS, spread) for _ in range(400)]
    honest = [c.conclusion == "slower" or c.resolution > 0.03 for c in found]
    assert np.mean(honest) >= 0.9


def test_what_a_run_says_it_could_show_it_finds_nine_times_in_ten() -> None:
    rng = np.random.default_rng(3)
    said = float(np.median([_simulated(rng, 0.0, ROUNDS, 0.01).resolution for _ in range(400)]))
    found = [_simulated(rng, said, ROUNDS, 0.01).conclusion == "slower" for _ in range(400)]
    assert np.mean(found) >= 0.85


def test_the_rounds_it_asks_for_are_enough() -> None:
    rng = np.random.default_rng(4)
    asked = [_simulated(rng, 0.0, ROUNDS, 0.03).rounds_needed for _ in range(200)]
    needed = int(np.median(asked))
    assert needed > 2 * ROUNDS
    found = [_simulated(rng, 0.03, needed, 0.03).conclusion == "slower" for _ in range(200)]
    assert np.mean(found) >= 0.85


def test_resolution_by_hand() -> None:
    sharp = Interval(1 / 1.01, 1.01)
    assert smallest_shown(sharp, None) == pytest.approx(0.01 * (1 + 1.2816 / 1.96), rel=0.01)
    assert smallest_shown(sharp, 0.05) == pytest.approx(0.05 + 0.01 * 1.2816 / 1.96, rel=0.02)
    assert rounds_to_show(0.03, 0.06, 15) == pytest.approx(4 * 15, abs=3)
    assert rounds_to_show(0.03, 0.01, 15) == 15


def _throughput(name: str, ms: float, seed: int) -> Throughput:
    times = ms * (1 + 0.01 * np.random.default_rng(seed).random((8, 2, 20)))
    rounds = tuple(tuple(map(tuple, part)) for part in times.tolist())
    return Throughput(name, "ab", 1, 2, rounds, Conditions(1, 4, 8, 0))


def test_every_later_model_against_the_first() -> None:
    latencies = [_measurement(n, ms, seed=i) for i, (n, ms) in enumerate([("a", 10), ("b", 5)])]
    result = BenchResult(tuple((m,) for m in latencies), (_measurement("a", 10, seed=9),))
    (ratio,) = ratios_of(result)
    assert (ratio.name, ratio.first, ratio.batch_size) == ("b", "a", 1)
    assert ratio.contrast == contrast_of(*latencies, result.noise[0])
    rates = [_throughput(n, ms, i) for i, (n, ms) in enumerate([("a", 10.0), ("b", 5.0)])]
    many = ThroughputResult(tuple((m,) for m in rates), (_throughput("a", 10.0, 9),))
    (ratio,) = ratios_of(many)
    assert ratio.contrast.ratio == pytest.approx(2, rel=0.01)
    assert ratio.contrast.conclusion == "faster"


def _samples(rng: np.random.Generator, ratio: float, spread: float) -> list[list[list[float]]]:
    """One more round of two models: one turn of one run each."""
    luck = np.exp(rng.normal(size=2) * spread)
    return [[[float(10 * luck[0])]], [[float(10 / ratio * luck[1])]]]


def test_speeds_are_told_apart_once_their_interval_is_narrow() -> None:
    def models(spread: float) -> list[list[list[float]]]:
        rng = np.random.default_rng(0)
        return [[[float(ms * np.exp(spread * rng.normal()))] for _ in range(12)] for ms in (10, 5)]

    assert told_apart(models(0.005), 1)
    assert not told_apart(models(0.05), 1)
    assert told_apart([models(0.005)[0]], 1), "one model has no speed over another"


def test_rounds_added_until_the_interval_is_narrow_keep_its_coverage() -> None:
    """Stopping when the interval is narrow must not make it miss the truth more often."""
    ratio, hits, runs = 2.0, 0, 300
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        samples: list[list[list[float]]] = [[], []]
        for number in range(1, 41):
            for model, more in zip(samples, _samples(rng, ratio, 0.02), strict=True):
                model += more
            if number >= LEAST_ROUNDS and told_apart(samples, 1):
                break
        logs = np.array([log(a[0] / b[0]) for a, b in zip(*samples, strict=True)])
        hits += ratio in contrast(logs, None).interval
    assert hits / runs >= 0.92


def test_a_result_is_exact_where_each_of_its_speeds_is() -> None:
    sharp = [_measurement(name, ms, seed=ms, spread=0.001) for name, ms in (("a", 10), ("b", 5))]
    assert is_exact(BenchResult(((sharp[0],), (sharp[1],)), (sharp[0],)))
    blurred = _measurement("c", 7, seed=3, spread=0.1)
    assert not is_exact(BenchResult(((sharp[0],), (sharp[1],), (blurred,)), (sharp[0],)))
