"""What two models are to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from quantlab.compare.compare import compare
from quantlab.compare.origin import Origin
from quantlab.compare.pairing import Named, chance_agreement, check_order, check_related, lead_of
from quantlab.errors import DataError
from quantlab.evaluate.predictions import Predictions
from quantlab.testing import fake_predictions

FP32 = Named("m.onnx", "a" * 64, quantized=False)
INT8 = Named("m8.onnx", "b" * 64, quantized=True)


def test_the_quantized_model_comes_second() -> None:
    check_order(FP32, INT8, "")
    check_order(INT8, replace(INT8, sha256="c" * 64), "")
    check_order(FP32, replace(FP32, sha256="c" * 64), "")
    with pytest.raises(DataError) as caught:
        check_order(INT8, FP32, "Exchange the two.")
    assert "m8.onnx is quantized and m.onnx is not" in caught.value.problem
    assert caught.value.remedy == "Exchange the two."


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        (FP32, INT8, []),
        (FP32, replace(INT8, source=FP32.sha256), []),
        (FP32, FP32, []),
        (FP32, replace(FP32, sha256="c" * 64), ["Neither model is quantized"]),
        (INT8, replace(INT8, sha256="c" * 64), ["Both models are quantized"]),
        (FP32, replace(INT8, source="d" * 64), ["was made from another fp32 file (sha256 dddddd"]),
        (
            replace(INT8, source="a" * 64),
            replace(INT8, sha256="c" * 64, source="d" * 64),
            ["Both models are quantized", "were made from different fp32 files"],
        ),
        (
            replace(INT8, source="a" * 64),
            replace(INT8, sha256="c" * 64, source="a" * 64),
            ["Both models are quantized"],
        ),
    ],
)
def test_what_is_unusual_is_said_first(first: Named, second: Named, said: list[str]) -> None:
    found = lead_of(first, second)
    assert len(found) == len(said)
    assert all(words in sentence for words, sentence in zip(said, found, strict=True))


def not_asked() -> Origin | None:
    raise AssertionError


def related(
    other: Predictions, origin: Callable[[], Origin | None], *named: Named, n: int = 400
) -> str:
    first = fake_predictions(n, 10, 0, 1)
    pair = named or (FP32, INT8)
    return check_related(pair[0], pair[1], compare(first, other), (first, other), origin)


def stranger(n: int = 400) -> Predictions:
    """Another model for the same images and labels: right as often, its outputs its own."""
    made = fake_predictions(n, 10, 0, 1)
    assert made.labels is not None
    noise = np.random.default_rng(7).standard_normal(made.outputs.shape).astype(np.float32)
    noise[np.arange(n), made.labels] += 2
    return replace(made, model_sha256="e" * 64, outputs=noise)


def test_near_outputs_and_a_named_source_are_not_asked_about() -> None:
    assert related(fake_predictions(400, 10, 0.01, 1), not_asked) == ""
    assert related(stranger(), not_asked, FP32, replace(INT8, source=FP32.sha256)) == ""
    assert related(fake_predictions(400, 10, 0, 1), not_asked) == ""  # no noise at all


def test_another_network_that_works_is_refused() -> None:
    for origin in (Origin(0, 0), Origin(1, 0.4)):
        with pytest.raises(DataError) as caught:
            related(stranger(), lambda origin=origin: origin)
        assert "m8.onnx is another network than m.onnx" in caught.value.problem
        assert "own quantized version" in caught.value.remedy


def test_a_broken_file_gets_its_verdict() -> None:
    assert related(stranger(), lambda: Origin(1, 0.9)) == ""
    broken = replace(stranger(), outputs=np.random.default_rng(3).random((400, 10), np.float32))
    assert "it is broken, or another network's" in related(broken, lambda: Origin(1, 0))
    stuck = replace(stranger(), outputs=np.tile(np.arange(10, dtype=np.float32), (400, 1)))
    assert "it is broken, or another network's" in related(stuck, lambda: Origin(0, 0))


def test_a_model_trained_anew_may_be_meant() -> None:
    other = replace(FP32, file="new.onnx", sha256="c" * 64)
    assert "trained anew" in related(stranger(), lambda: Origin(1, 0), FP32, other)
    with pytest.raises(DataError):
        related(stranger(), lambda: Origin(0.9, 0), FP32, other)


def test_without_weights_it_is_said() -> None:
    assert "if it is no version of the same network" in related(stranger(), lambda: None)


def test_agreement_by_chance_is_that_of_independent_answers() -> None:
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(5), 2)
    made = [fake_predictions(20_000, 5, 0, 1) for _ in shares]
    answers = [rng.choice(5, 20_000, p=p) for p in shares]
    pair = [
        replace(p, outputs=np.eye(5, dtype=np.float32)[a])
        for p, a in zip(made, answers, strict=True)
    ]
    assert chance_agreement(*pair) == pytest.approx(
        float((answers[0] == answers[1]).mean()), abs=0.01
    )
