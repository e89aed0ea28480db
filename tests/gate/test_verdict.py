from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison
from quantlab.errors import RecipeError
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criteria import (
    AccuracyCriterion,
    AgreementCriterion,
    ClassCriterion,
    DivergenceCriterion,
    LatencyCriterion,
)
from quantlab.gate.notation import parse_criterion, parse_decline
from quantlab.gate.verdict import Verdict, judge
from quantlab.report.verdict import rounded_up
from quantlab.stats.paired import clopper_pearson
from quantlab.testing.predictions import fake_predictions


def _models(both: int, lost: int, gained: int, neither: int) -> tuple[Predictions, Predictions]:
    """Two models over three classes with exactly these counts; every label is 0, and every output
    of the second is twice as large as the first's would be."""
    n = both + lost + gained + neither
    fp32 = [0] * (both + lost) + [1] * (gained + neither)
    int8 = [0] * both + [1] * lost + [0] * gained + [1] * neither
    outputs = np.eye(3, dtype=np.float32)
    made = replace(fake_predictions(n, 3, 0, 0), labels=np.zeros(n, np.int64))
    other = replace(made, model_sha256="f" * 64, outputs=2 * outputs[int8])
    return replace(made, outputs=outputs[fp32]), other


def _comparison(both: int, lost: int, gained: int, neither: int) -> Comparison:
    return compare(*_models(both, lost, gained, neither))


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
    policy = parse_decline(text)
    assert (policy.max_decline, policy.kind, policy.limit_text) == (limit, kind, shown)


@pytest.mark.parametrize("text", ["", "1", "0.01", "-1%", "100%", "1e-2%", "nan%", "one%", "1%pp"])
def test_other_limits_are_refused(text: str) -> None:
    with pytest.raises(RecipeError, match="Write 1%"):
        parse_decline(text)


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
    verdict = judge(_comparison(*counts), parse_decline(limit))
    assert (verdict.status, verdict.exit_code) == (status, code)
    assert verdict.interval is not None
    assert verdict.measured is not None
    assert verdict.measured in verdict.interval
    assert bool(verdict.remedy) is (status != "pass")
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_reason_and_remedy_are_sentences_with_numbers() -> None:
    verdict = judge(_comparison(960, 40, 30, 270), parse_decline("1%"))
    assert verdict.reason == (
        "The top-1 decline on 1,300 images is 1% (95% interval -0.66% to 2.68%), on both sides of "
        "the limit of 1%: 40 lost, 30 gained."
    )
    assert verdict.leads_with == "accuracy"


def test_an_estimate_on_the_limit_cannot_be_decided() -> None:
    assert judge(_comparison(960, 40, 30, 270), parse_decline("2%")).images_needed is not None
    verdict = judge(_comparison(960, 40, 30, 270), parse_decline("1%"))
    assert verdict.images_needed is None
    assert "no practical number of images" in verdict.remedy


def test_few_images_lead_with_agreement() -> None:
    verdict = judge(_comparison(15, 1, 0, 4), AccuracyCriterion())
    assert verdict.leads_with == "agreement"
    assert verdict.reason.startswith("The two models give the same first answer on 19 of 20")
    assert verdict.images_needed is not None
    assert f"About {rounded_up(verdict.images_needed):,} images would decide it" in verdict.remedy
    assert verdict.smallest_decline is not None
    assert verdict.smallest_decline > 0.1


def test_unlabelled_images_decide_nothing() -> None:
    made = [fake_predictions(500, 5, flip, 0, labelled=False) for flip in (0.0, 0.1)]
    verdict = judge(compare(*made), AccuracyCriterion())
    assert (verdict.status, verdict.leads_with) == ("inconclusive", "agreement")
    assert "no labels" in verdict.reason
    assert "list file" in verdict.remedy


def test_a_model_that_is_never_right_decides_nothing() -> None:
    verdict = judge(_comparison(0, 0, 0, 30), parse_decline("1pp"))
    assert verdict.status == "inconclusive"
    assert "none of 30 images right" in verdict.reason
    assert "--pipeline" in verdict.remedy


def test_top5_policy_judges_top5() -> None:
    fp32, int8 = fake_predictions(3000, 50, 0, 1), fake_predictions(3000, 50, 0.3, 1)
    c = compare(fp32, int8)
    assert judge(c, parse_decline("1%", "top1")).status == "fail"
    five = judge(c, parse_decline("1%", "top5"))
    assert five.status == "pass"
    assert "top-5" in five.reason


def test_rounding_up_keeps_two_digits() -> None:
    counts = (7, 99, 101, 5641, 160000)
    assert [rounded_up(n) for n in counts] == [7, 99, 110, 5700, 160000]


def _pair(n: int, flip: float, *, labelled: bool = True) -> tuple[Predictions, Predictions]:
    return (
        fake_predictions(n, 20, 0, 3, labelled=labelled),
        fake_predictions(n, 20, flip, 3, labelled=labelled),
    )


@pytest.mark.parametrize(
    ("limit", "status", "side"),
    [
        ("agreement >= 80%", "pass", "wholly above the limit of 80%"),
        ("agreement >= 99%", "fail", "wholly below the limit of 99%"),
        ("kl <= 1", "pass", "wholly within the limit of 1 nats"),
        ("kl <= 0.001", "fail", "wholly beyond the limit of 0.001 nats"),
    ],
)
def test_fidelity_is_judged_without_labels(limit: str, status: str, side: str) -> None:
    comparison = compare(*_pair(3000, 0.1, labelled=False))
    verdict = judge(comparison, parse_criterion(limit))
    assert verdict.status == status
    assert verdict.meets is (status == "pass")
    assert side in verdict.reason
    assert "--max-decline" not in verdict.remedy
    assert verdict.leads_with == "agreement"
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_agreement_is_judged_by_the_exact_interval() -> None:
    comparison = compare(*_pair(1000, 0.05))
    share = comparison.fidelity.agreement
    verdict = judge(comparison, AgreementCriterion(least=share.value))
    assert verdict.status == "inconclusive"
    assert verdict.interval is not None
    expected = clopper_pearson(share.count, 1000)
    assert (1 - verdict.interval.high, 1 - verdict.interval.low) == pytest.approx(
        (expected.low, expected.high)
    )
    assert verdict.measured == pytest.approx(1 - share.value)
    assert (verdict.meets, verdict.images_needed) == (True, None)
    assert "no practical number of images" in verdict.remedy


def test_fidelity_says_how_many_images_would_decide() -> None:
    comparison = compare(*_pair(400, 0.05))
    assert comparison.fidelity.kl is not None
    for policy in (
        AgreementCriterion(least=comparison.fidelity.agreement.value - 0.005),
        DivergenceCriterion(most=comparison.fidelity.kl * 1.05),
    ):
        verdict = judge(comparison, policy)
        assert verdict.status == "inconclusive"
        assert verdict.images_needed is not None
        assert verdict.images_needed > 400
        more = f"About {rounded_up(verdict.images_needed):,} images would decide it"
        assert verdict.remedy.startswith(more)


def test_an_int8_model_that_gives_nan_never_holds_a_kl() -> None:
    fp32, int8 = _pair(300, 0.0)
    outputs = int8.outputs.copy()
    outputs[7] = np.nan
    verdict = judge(compare(fp32, replace(int8, outputs=outputs)), parse_criterion("kl <= 1"))
    assert (verdict.status, verdict.meets, verdict.excess) == ("fail", False, float("inf"))
    assert "NaN or an infinity on 1 of 300 images" in verdict.reason
    few = compare(*_pair(19, 0.2))
    verdict = judge(few, parse_criterion("kl <= 9"))
    assert (verdict.status, verdict.meets, verdict.measured) == (
        "inconclusive",
        True,
        few.fidelity.kl,
    )
    assert "19 images do not tell" in verdict.reason
    assert not judge(few, parse_criterion("kl <= 0.0001")).meets
    nothing = replace(fp32, outputs=np.full_like(outputs, np.nan))
    verdict = judge(compare(nothing, nothing), parse_criterion("kl <= 1"))
    assert (verdict.status, verdict.meets) == ("inconclusive", True)


def _right(outputs: NDArray[np.float32], labels: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    assert labels is not None
    return np.asarray(outputs.argmax(1) == labels)


@pytest.mark.parametrize("counts", [(900, 60, 5, 235), (990, 10, 40, 160), (960, 40, 30, 270)])
@pytest.mark.parametrize("limit", ["1%", "1.5pp", "10%"])
def test_top1_as_a_users_metric_is_judged_like_top1(
    counts: tuple[int, int, int, int], limit: str
) -> None:
    _, lost, gained, _ = counts
    comparison = compare(*_models(*counts), metrics={"my:top1": _right})
    own = judge(comparison, parse_criterion(f"my:top1.decline <= {limit}"))
    top1 = judge(comparison, parse_decline(limit))
    assert own.status == top1.status
    assert own.measured == pytest.approx(top1.measured)
    assert own.interval is not None
    assert top1.interval is not None
    assert own.interval.low == pytest.approx(top1.interval.low, abs=0.0015)
    assert own.interval.high == pytest.approx(top1.interval.high, abs=0.0015)
    assert f"{lost} images score lower, {gained} higher" in own.reason


def test_few_unchanged_images_do_not_pass_a_users_metric() -> None:
    comparison = compare(*_models(18, 0, 0, 2), metrics={"my:top1": _right})
    verdict = judge(comparison, parse_criterion("my:top1.decline <= 1%"))
    assert (verdict.status, verdict.meets) == ("inconclusive", True)
    assert verdict.reason.startswith("The two models give the same first answer on 20 of 20")


def test_a_users_metric_that_is_not_positive_has_no_share() -> None:
    comparison = compare(*_pair(300, 0.1), metrics={"my:loss": lambda out, _: -out.max(1)})
    verdict = judge(comparison, parse_criterion("my:loss.decline <= 1%"))
    assert verdict.status == "inconclusive"
    assert "so a share of it says nothing" in verdict.reason
    assert "'my:loss.decline <= 1pp'" in verdict.remedy
    assert judge(comparison, parse_criterion("my:loss.decline <= 1pp")).measured is not None


def test_a_metric_that_was_not_computed_is_told() -> None:
    with pytest.raises(RecipeError, match="does not hold the metric my:f"):
        judge(_comparison(9, 1, 0, 0), parse_criterion("my:f.decline <= 1%"))


def test_meets_and_excess() -> None:
    comparison = _comparison(970, 30, 15, 285)  # a decline of 1.5% of fp32's accuracy

    def verdict(limit: str, tolerance: float = 0.0) -> Verdict:
        return judge(comparison, parse_criterion(limit, tolerance=tolerance))

    assert (verdict("1%").meets, verdict("1%").excess) == (False, pytest.approx(0.5))
    assert (verdict("1.5%").meets, verdict("1.5%").excess) == (True, pytest.approx(0))
    assert (verdict("2%").meets, verdict("2%").excess) == (True, pytest.approx(-0.25))
    assert (verdict("1%", 0.005).meets, verdict("1%", 0.004).meets) == (True, False)
    assert (verdict("0%").meets, verdict("0%").excess) == (False, pytest.approx(0.015))
    unlabelled = judge(compare(*_pair(50, 0.1, labelled=False)), AccuracyCriterion())
    assert (unlabelled.meets, unlabelled.excess) == (True, 0)


def test_old_verdicts_and_comparisons_still_load() -> None:
    old = {
        "status": "pass",
        "reason": "",
        "policy": {"max_decline": 0.02, "kind": "absolute", "metric": "top5"},
    }
    criterion = Verdict.model_validate(old).criterion
    assert criterion == AccuracyCriterion(max_decline=0.02, kind="absolute", metric="top5")
    fields = _comparison(9, 1, 0, 0).model_dump(mode="json")
    del fields["custom"], fields["fidelity"]["kl_interval"]
    loaded = Comparison.model_validate(fields)
    assert (loaded.custom, loaded.fidelity.kl_interval) == ({}, None)
    assert judge(loaded, parse_criterion("kl <= 1")).status == "inconclusive"


EVERY_CRITERION = (
    "0%",
    "0pp",
    "top5.decline <= 0%",
    "agreement >= 100%",
    "kl <= 0",
    "my:top1.decline <= 0%",
)


def _other_file(made: Predictions, outputs: NDArray[np.float32] | None = None) -> Predictions:
    return replace(
        made, model_sha256="f" * 64, outputs=made.outputs if outputs is None else outputs
    )


@pytest.mark.parametrize("n", [1, 20, 300])
@pytest.mark.parametrize("labelled", [True, False])
def test_one_file_passes_whatever_is_limited(n: int, labelled: bool) -> None:
    made = fake_predictions(n, 20, 0, 1, labelled=labelled)
    metrics = {"my:top1": lambda out, _: np.asarray(out.argmax(1), np.float64)}
    comparison = compare(made, made, metrics=metrics)
    assert comparison.same_file
    for limit in (*map(parse_criterion, EVERY_CRITERION), ClassCriterion(of_class=0.01)):
        verdict = judge(comparison, limit)
        assert (verdict.status, verdict.measured, verdict.interval) == ("pass", 0, None)
        assert verdict.meets
        assert (verdict.unchanged, verdict.p, verdict.images_needed) == (True, None, None)
        assert verdict.reason.startswith("Both are one and the same file (sha256 ")
    assert judge(comparison, parse_criterion("1%"), anytime=True).status == "pass"


@pytest.mark.parametrize("n", [20, 300])
@pytest.mark.parametrize("text", EVERY_CRITERION)
def test_another_file_with_the_same_outputs_passes_and_says_on_how_many(n: int, text: str) -> None:
    made = fake_predictions(n, 20, 0, 1)
    comparison = compare(made, _other_file(made), metrics={"my:top1": _right})
    assert not comparison.same_file
    verdict = judge(comparison, parse_criterion(text))
    assert (verdict.status, verdict.unchanged) == ("pass", True)
    assert f"on all {n} images" in verdict.reason
    most = 1 - 0.025 ** (1 / n)  # of which none is seen with a chance of 2.5%
    assert f"at most {most:.1%} can have another output" in verdict.reason


def test_float_rounding_changes_nothing() -> None:
    made = fake_predictions(100, 20, 0, 1)
    rounded = (made.outputs * np.float32(1 + 2e-6)).astype(np.float32)
    verdict = judge(compare(made, _other_file(made, rounded)), parse_criterion("1%"))
    assert (verdict.status, verdict.unchanged) == ("pass", True)
    assert "but for float32 rounding" in verdict.reason
    halved = made.outputs.astype(np.float16).astype(np.float32)
    assert not judge(compare(made, _other_file(made, halved)), parse_criterion("1%")).unchanged
    one = rounded.copy()
    one[50, 3] += 0.01
    assert not judge(compare(made, _other_file(made, one)), parse_criterion("1%")).unchanged
    chances = replace(made, output_kind="probabilities", outputs=np.eye(20)[made.top(1)[:, 0]])
    nearly = _other_file(chances, (chances.outputs * (1 - 1e-6)).astype(np.float32))
    assert not judge(compare(chances, nearly), parse_criterion("1%")).unchanged


def test_the_same_answers_by_other_outputs_are_judged_by_the_interval() -> None:
    """No image lost or gained is no proof that none will be: models that differ are sampled."""
    made = fake_predictions(60, 20, 0, 1)
    comparison = compare(made, _other_file(made, 1.01 * made.outputs))
    assert comparison.fidelity.agreement.value == 1
    verdict = judge(comparison, parse_criterion("1%"))
    assert (verdict.status, verdict.unchanged) == ("inconclusive", False)
    many = fake_predictions(600, 20, 0, 1)
    verdict = judge(compare(many, _other_file(many, 1.01 * many.outputs)), parse_criterion("1%"))
    assert (verdict.status, verdict.unchanged) == ("pass", False)


def test_one_file_whose_answers_differ_is_judged_by_them() -> None:
    """As a baseline's are when it was made on another kind of CPU."""
    fp32 = fake_predictions(600, 20, 0, 1)
    int8 = replace(fake_predictions(600, 20, 0.3, 1), model_sha256=fp32.model_sha256)
    comparison = compare(fp32, int8)
    assert not comparison.same_file
    assert any("the same file, and yet its answers differ" in note for note in comparison.notes)
    assert judge(comparison, parse_criterion("1%")).status == "fail"


def test_outputs_that_end_because_of_what_was_seen_are_left_to_their_own_test() -> None:
    made = fake_predictions(60, 20, 0, 1)
    verdict = judge(compare(made, _other_file(made)), parse_criterion("1%"), anytime=True)
    assert (verdict.status, verdict.unchanged) == ("inconclusive", False)


@pytest.mark.parametrize(("ratio", "status"), [(0.99, "fail"), (1.0, "pass"), (1.05, "pass")])
def test_one_file_takes_its_own_time(ratio: float, status: str) -> None:
    made = fake_predictions(20, 20, 0, 1)
    verdict = judge(compare(made, made), LatencyCriterion(ratio=ratio))
    assert (verdict.status, verdict.measured, verdict.p) == (status, 1, None)
    assert judge(compare(made, _other_file(made)), LatencyCriterion(ratio=2)).measured is None
