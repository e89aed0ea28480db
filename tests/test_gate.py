from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantlab.compare import compare
from quantlab.comparison import Comparison
from quantlab.errors import RecipeError
from quantlab.gate import Policy, Verdict, judge, parse_policy, rounded_up
from quantlab.testing.predictions import fake_predictions


def _comparison(both: int, lost: int, gained: int, neither: int) -> Comparison:
    """Two models over three classes with exactly these counts; every label is 0."""
    n = both + lost + gained + neither
    fp32 = [0] * (both + lost) + [1] * (gained + neither)
    int8 = [0] * both + [1] * lost + [0] * gained + [1] * neither
    outputs = np.eye(3, dtype=np.float32)
    made = replace(fake_predictions(n, 3, 0, 0), labels=np.zeros(n, np.int64))
    return compare(replace(made, outputs=outputs[fp32]), replace(made, outputs=outputs[int8]))


@pytest.mark.parametrize(
    ("text", "limit", "kind", "shown"),
    [
        ("1%", 0.01, "relative", "1%"),
        (" 0.25 % ", 0.0025, "relative", "0.25%"),
        ("1pp", 0.01, "absolute", "1 point"),
        ("0.5PP", 0.005, "absolute", "0.5 points"),
        (".5 points", 0.005, "absolute", "0.5 points"),
        ("0%", 0.0, "relative", "0%"),
    ],
)
def test_limits_are_read(text: str, limit: float, kind: str, shown: str) -> None:
    policy = parse_policy(text)
    assert (policy.max_decline, policy.kind, policy.limit_text) == (limit, kind, shown)


@pytest.mark.parametrize("text", ["", "1", "0.01", "-1%", "100%", "1e-2%", "nan%", "one%", "1%pp"])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="Write 1%"):
        parse_policy(text)


@pytest.mark.parametrize(
    ("counts", "limit", "status", "code"),
    [
        ((1000, 0, 0, 200), "1%", "pass", 0),
        ((990, 10, 40, 160), "1%", "pass", 0),
        ((900, 60, 5, 235), "1%", "fail", 1),
        ((900, 60, 5, 235), "10%", "pass", 0),
        ((960, 40, 30, 270), "1%", "inconclusive", 3),
        ((960, 40, 30, 270), "1.5pp", "inconclusive", 3),
        ((960, 40, 30, 270), "4pp", "pass", 0),
        ((16, 0, 0, 4), "1%", "inconclusive", 3),
    ],
)
def test_verdicts(counts: tuple[int, int, int, int], limit: str, status: str, code: int) -> None:
    verdict = judge(_comparison(*counts), parse_policy(limit))
    assert (verdict.status, verdict.exit_code) == (status, code)
    assert verdict.interval is not None
    assert verdict.decline is not None
    assert verdict.decline in verdict.interval
    assert bool(verdict.remedy) is (status != "pass")
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_reason_and_remedy_are_sentences_with_numbers() -> None:
    verdict = judge(_comparison(960, 40, 30, 270), parse_policy("1%"))
    assert verdict.reason == (
        "The top-1 decline on 1,300 images is 1% (95% interval -0.66% to 2.68%), on both sides of "
        "the limit of 1%: 40 lost, 30 gained."
    )
    assert verdict.leads_with == "accuracy"


def test_an_estimate_on_the_limit_cannot_be_decided() -> None:
    assert judge(_comparison(960, 40, 30, 270), parse_policy("2%")).images_needed is not None
    verdict = judge(_comparison(960, 40, 30, 270), parse_policy("1%"))
    assert verdict.images_needed is None
    assert "no practical number of images" in verdict.remedy


def test_few_images_lead_with_agreement() -> None:
    verdict = judge(_comparison(15, 1, 0, 4), Policy())
    assert verdict.leads_with == "agreement"
    assert verdict.reason.startswith("The two models give the same first answer on 19 of 20")
    assert verdict.images_needed is not None
    assert f"About {rounded_up(verdict.images_needed):,} images would decide it" in verdict.remedy
    assert verdict.smallest_decline is not None
    assert verdict.smallest_decline > 0.1


def test_unlabelled_images_decide_nothing() -> None:
    made = [fake_predictions(500, 5, flip, 0, labelled=False) for flip in (0.0, 0.1)]
    verdict = judge(compare(*made), Policy())
    assert (verdict.status, verdict.leads_with) == ("inconclusive", "agreement")
    assert "no labels" in verdict.reason
    assert "list file" in verdict.remedy


def test_a_model_that_is_never_right_decides_nothing() -> None:
    verdict = judge(_comparison(0, 0, 0, 30), parse_policy("1pp"))
    assert verdict.status == "inconclusive"
    assert "none of 30 images right" in verdict.reason
    assert "--pipeline" in verdict.remedy


def test_top5_policy_judges_top5() -> None:
    fp32, int8 = fake_predictions(3000, 50, 0, 1), fake_predictions(3000, 50, 0.3, 1)
    c = compare(fp32, int8)
    assert judge(c, parse_policy("1%", "top1")).status == "fail"
    five = judge(c, parse_policy("1%", "top5"))
    assert five.status == "pass"
    assert "top-5" in five.reason


def test_rounding_up_keeps_two_digits() -> None:
    counts = (7, 99, 101, 5641, 160000)
    assert [rounded_up(n) for n in counts] == [7, 99, 110, 5700, 160000]
