from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.linalg import norm
from numpy.typing import NDArray

from quantlab.bench.measurement import Conditions, Measurement
from quantlab.compare.compare import FLIPS_KEPT, compare
from quantlab.compare.comparison import Comparison
from quantlab.evaluate.predictions import Predictions
from quantlab.testing.predictions import fake_predictions


def _pair(n: int = 400, classes: int = 10, flip: float = 0.2) -> tuple[Predictions, Predictions]:
    return fake_predictions(n, classes, 0, 1), fake_predictions(n, classes, flip, 1)


def _measurement(
    name: str, ms: float, *, batch: int = 1, seed: int = 0, drift: float = 0.0
) -> Measurement:
    rng = np.random.default_rng(seed)
    times = ms * (1 + drift * rng.normal(size=(12, 1)) + 0.02 * rng.exponential(size=(12, 8)))
    rounds = tuple(tuple(row) for row in np.abs(times).tolist())
    return Measurement(name, "ab", 1000, rounds, 5.0, 10**8, Conditions(1, batch, 12, 8))


def _judges_figures(fp32: Predictions, int8: Predictions) -> dict[str, float]:
    """The same figures by other formulas: argsort, one image at a time."""
    a, b = fp32.outputs.astype(np.float64), int8.outputs.astype(np.float64)
    labels = fp32.labels
    assert labels is not None
    first, second = a.argsort(1)[:, ::-1][:, :5], b.argsort(1)[:, ::-1][:, :5]
    ok1, ok2 = first[:, 0] == labels, second[:, 0] == labels
    divergence = []
    for x, y in zip(a, b, strict=True):
        p, q = np.exp(x) / np.exp(x).sum(), np.exp(y) / np.exp(y).sum()
        divergence.append(float((p * np.log(p / q)).sum()))
    return {
        "top1": ok2.mean(),
        "top5": (second == labels[:, None]).any(1).mean(),
        "decline": (ok1.mean() - ok2.mean()) / ok1.mean(),
        "lost": (ok1 & ~ok2).sum(),
        "gained": (ok2 & ~ok1).sum(),
        "agree": (first[:, 0] == second[:, 0]).mean(),
        "kl": np.mean(divergence),
        "kl_p99": _percentile(divergence, 99),
        "kl_max": sorted(divergence)[-1],
        "sqnr": 10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()),
        "sqnr_p1": _percentile(
            [20 * np.log10(norm(x) / norm(x - y)) for x, y in zip(a, b, strict=True)], 1
        ),
    }


def _percentile(values: list[float], percent: int) -> float:
    """Sorted, with the two nearest in proportion."""
    ordered, place = sorted(values), percent / 100 * (len(values) - 1)
    low, part = int(place), place % 1
    return ordered[low] + part * (ordered[low + 1] - ordered[low])


def test_figures_equal_an_independent_judges() -> None:
    fp32, int8 = _pair()
    c, expected = compare(fp32, int8), _judges_figures(fp32, int8)
    assert c.top1 is not None
    assert c.int8.top1 is not None
    assert c.int8.top5 is not None
    got = {
        "top1": c.int8.top1.value,
        "top5": c.int8.top5.value,
        "decline": c.top1.ratio,
        "lost": c.top1.lost,
        "gained": c.top1.gained,
        "agree": c.fidelity.agreement.value,
        "kl": c.fidelity.kl,
        "kl_p99": c.fidelity.kl_p99,
        "kl_max": c.fidelity.kl_max,
        "sqnr": c.fidelity.sqnr_db,
        "sqnr_p1": c.fidelity.sqnr_p1_db,
    }
    assert got == pytest.approx(expected, rel=1e-5)
    assert c.top1.difference in c.top1.difference_interval
    assert c.top1.ratio_interval is not None
    assert c.top1.ratio is not None
    assert c.top1.ratio in c.top1.ratio_interval


@given(st.integers(1, 60), st.integers(2, 12), st.floats(0, 0.3), st.booleans())
@settings(deadline=None, max_examples=60)
def test_comparison_goes_to_json_and_back(
    n: int, classes: int, flip: float, labelled: bool
) -> None:
    c = compare(
        fake_predictions(n, classes, 0, 2, labelled),
        fake_predictions(n, classes, flip, 2, labelled),
    )
    assert Comparison.model_validate_json(c.model_dump_json()) == c
    assert sum(c.confidence.fp32) == sum(c.confidence.int8) == n
    assert sum(c.confidence.changed) == n - c.fidelity.agreement.count
    assert len(c.flips) == n - c.fidelity.agreement.count
    if labelled:
        assert sum(x.n for x in c.classes) == n
        assert c.top1 is not None
        assert sum(x.net_loss for x in c.classes) == c.top1.lost - c.top1.gained


def test_a_model_with_itself() -> None:
    fp32, _ = _pair()
    c = compare(fp32, fp32)
    assert c.top1 is not None
    assert (c.top1.difference, c.top1.lost, c.top1.gained, c.top1.mcnemar_p) == (0, 0, 0, 1)
    assert c.top1.ratio_interval is not None
    assert 0 in c.top1.ratio_interval
    assert c.fidelity.identical
    assert c.fidelity.kl == pytest.approx(0, abs=1e-12)
    assert c.fidelity.sqnr_db is None
    assert c.fidelity.sqnr_p1_db is None
    assert c.fidelity.kl_max == pytest.approx(0, abs=1e-12)
    assert not c.flips
    assert not c.notes


def test_unlabelled_keeps_the_fidelity() -> None:
    fp32, int8 = _pair()
    c = compare(replace(fp32, labels=None), replace(int8, labels=None))
    assert (c.labelled, c.top1, c.top5, c.fp32.top1, c.classes) == (False, None, None, None, ())
    assert c.fidelity.agreement.value < 1
    assert {flip.kind for flip in c.flips} == {"changed"}


def test_classes_and_flips_tell_who_lost_what() -> None:
    labels = np.array([0, 0, 0, 2, 2])
    fp32 = replace(fake_predictions(5, 3, 0, 1), labels=labels, outputs=_answers([0, 0, 1, 2, 1]))
    int8 = replace(fp32, outputs=_answers([1, 2, 0, 2, 0]))
    c = compare(fp32, int8, class_names=["cat", "dog", "fox"])
    zero, two = c.classes
    assert (zero.name, zero.n, zero.fp32_right, zero.lost, zero.gained) == ("cat", 3, 2, 2, 1)
    assert (two.name, two.n, two.fp32_right, two.int8_right, two.lost) == ("fox", 2, 1, 1, 0)
    assert c.worst_classes() == (zero,)
    assert [flip.kind for flip in c.flips] == ["lost", "lost", "gained", "changed"]
    lost = c.flips_of("lost")[0]
    assert (lost.image, lost.label_name, lost.fp32.name, lost.int8.name) == (
        "00000.png",
        "cat",
        "cat",
        "dog",
    )
    assert lost.fp32.probability == pytest.approx(np.exp(3) / (np.exp(3) + 2))


def _answers(classes: list[int]) -> NDArray[np.float32]:
    return 3 * np.eye(3, dtype=np.float32)[classes]


def test_flips_are_bounded() -> None:
    fp32, int8 = _pair(6000, 10, 0.3)
    c = compare(fp32, int8)
    assert len(c.flips_of("lost")) == FLIPS_KEPT
    probabilities = [flip.fp32.probability for flip in c.flips_of("lost")]
    assert probabilities == sorted(probabilities, reverse=True)


def test_probabilities_are_compared_as_log_probabilities() -> None:
    fp32, _ = _pair()
    soft = np.exp(fp32.outputs) / np.exp(fp32.outputs).sum(1, keepdims=True)
    probabilities = replace(fp32, outputs=soft, output_kind="probabilities")
    c = compare(fp32, probabilities)
    assert c.fidelity.compared == "log-probabilities"
    assert c.fidelity.kl == pytest.approx(0, abs=1e-4)
    assert c.fidelity.sqnr_db is not None
    assert c.fidelity.sqnr_db > 40
    assert not c.fidelity.identical


def test_answers_that_are_not_numbers_count_as_wrong_and_are_told() -> None:
    fp32, int8 = _pair(flip=0)
    broken = int8.outputs.copy()
    broken[:3] = np.nan
    c = compare(fp32, replace(int8, outputs=broken))
    assert c.int8.nonfinite == 3
    assert c.fidelity.agreement.count == 397
    assert c.fidelity.kl == pytest.approx(0, abs=1e-12)
    assert "NaN or an infinity on 3 images" in c.notes[0]
    assert Comparison.model_validate_json(c.model_dump_json()) == c
    everything = compare(fp32, replace(int8, outputs=np.full_like(broken, np.nan)))
    assert everything.fidelity.kl is None
    assert everything.fidelity.kl_p99 is None
    assert everything.fidelity.sqnr_p1_db is None


def test_notes_name_what_makes_the_figures_doubtful() -> None:
    fp32, int8 = _pair()
    assert fp32.labels is not None
    few = compare(fp32, int8.subset(np.arange(50)))
    assert (few.n, few.unmatched) == (50, 350)
    assert "Only the 50 images" in few.notes[0]
    other = compare(fp32, replace(int8, pipeline={"name": "caffe"}))
    assert "fake and caffe" in other.notes[0]
    shuffled = (fp32.labels + 1) % 10
    guess = compare(replace(fp32, labels=shuffled), replace(int8, labels=shuffled))
    assert "hardly better than guessing" in guess.notes[0]


def test_sizes_and_speeds() -> None:
    fp32, int8 = _pair()
    batches = (1, 8)
    c = compare(
        fp32,
        int8,
        fp32_speed=[_measurement("a", 10.0 * b, batch=b, seed=b) for b in batches],
        int8_speed=[_measurement("b", 5.0 * b, batch=b, seed=b + 9) for b in batches],
        noise=[_measurement("a", 10.0 * b, batch=b, seed=b + 5) for b in batches],
        int8_bytes=250,
    )
    assert c.size_ratio == 4
    assert [s.batch_size for s in c.speeds] == [1, 8]
    assert c.speedup == pytest.approx(2, abs=0.05)
    assert c.speeds[0].conclusion == "faster"
    assert c.speeds[0].speedup in c.speeds[0].interval
    assert len(c.speeds[0].fp32.samples) == 96
    assert c.speeds[1].fp32.images_per_second == pytest.approx(100, abs=3)
    assert Comparison.model_validate_json(c.model_dump_json()) == c
    bare = compare(fp32, int8)
    assert (bare.size_ratio, bare.speedup, bare.speeds) == (None, None, ())
