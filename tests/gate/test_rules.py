"""Rules as people write them, and the decision over several of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison
from quantlab.errors import RecipeError
from quantlab.gate.criteria import (
    AccuracyCriterion,
    AgreementCriterion,
    DivergenceCriterion,
    LatencyCriterion,
)
from quantlab.gate.notation import examples
from quantlab.gate.rules import Decision, Rule, combine, decide, parse_rule, parse_rules
from quantlab.gate.verdict import ALPHA, Verdict, judge
from quantlab.report.verdict import family
from quantlab.stats.paired import holm
from quantlab.testing.measurements import fake_measurement
from quantlab.testing.predictions import fake_predictions


def models(*classes: tuple[int, int, int, int], int8_bytes: int = 1000) -> Comparison:
    """Two models whose classes have these counts of both right, lost, gained, neither; where they
    answer the same, the second is surer of it."""
    labels, first, second = [], [], []
    size = len(classes) + 1
    for label, (both, lost, gained, neither) in enumerate(classes):
        right, wrong = label, (label + 1) % size
        labels += [label] * (both + lost + gained + neither)
        first += [right] * (both + lost) + [wrong] * (gained + neither)
        second += [right] * both + [wrong] * lost + [right] * gained + [wrong] * neither
    made = replace(fake_predictions(len(labels), size, 0, 0), labels=np.array(labels, np.int64))
    outputs = 5 * np.eye(size, dtype=np.float32)
    return compare(
        replace(made, outputs=outputs[first]),
        replace(made, model_sha256="f" * 64, outputs=1.1 * outputs[second]),
        int8_bytes=int8_bytes,
        class_names=[f"kind {i}, also" for i in range(size)],
    )


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("top1.decline <= 1%", Rule(criterion=AccuracyCriterion(), level="required")),
        ("kl <= 0.02, off", Rule(criterion=DivergenceCriterion(most=0.02), level="off")),
        ("agree < 95%", Rule(criterion=AgreementCriterion(least=0.95), level="required")),
        ("latency.p50.ratio <= 1", Rule(criterion=LatencyCriterion(ratio=1), level="advisory")),
        (
            "latency.p50.ratio <= 1, required",
            Rule(criterion=LatencyCriterion(ratio=1), level="required"),
        ),
    ],
)
def test_rules_are_required_but_those_of_the_latency(text: str, rule: Rule) -> None:
    assert parse_rule(text) == rule


def test_one_twice_and_nothing_left() -> None:
    for again in ("kl  <=  0.02, advisory", "kl > 0.020"):
        with pytest.raises(RecipeError, match="is given twice"):
            parse_rules(["kl <= 0.02", again])
    for nothing in ([], ["kl <= 0.02, off"]):
        with pytest.raises(RecipeError, match="no rule is left"):
            parse_rules(nothing)


def test_rules_and_decisions_of_older_records_are_read() -> None:
    rule = {"text": "agree < 95%", "limit": {"least": 0.95, "tolerance": 0.0}, "level": "required"}
    verdict = {
        "status": "fail",
        "reason": "It was so.",
        "remedy": "Do that.",
        "policy": {"least": 0.95, "tolerance": 0.0},
        "decline": 0.07,
        "p": 0.001,
    }
    old = {"status": "fail", "judged": [{"rule": rule, "verdict": verdict, "adjusted_p": 0.001}]}
    found = Decision.model_validate(old)
    (judged,) = found.judged
    assert judged.rule.text == "agreement >= 95%"
    assert judged.verdict.criterion == AgreementCriterion(least=0.95)
    assert (judged.verdict.measured, judged.verdict.reason) == (0.07, "It was so.")
    assert Decision.model_validate_json(found.model_dump_json()) == found


def decision(comparison: Comparison, *rules: str) -> Decision:
    return decide(comparison, parse_rules(rules))


def test_required_rules_decide_and_advisory_ones_are_told() -> None:
    c = models((900, 60, 5, 235))  # a decline of 5.7%
    assert decision(c, "top1.decline <= 10%", "kl <= 9").status == "pass"
    assert decision(c, "top1.decline <= 1%", "kl <= 9").status == "fail"
    found = decision(c, "top1.decline <= 1%, advisory", "kl <= 9", "agreement >= 99%, off")
    assert (found.status, found.exit_code) == ("pass", 0)
    assert [j.verdict.status for j in found.judged] == ["fail", "pass"]
    undecided = decision(c, "top1.decline <= 5.7%", "kl <= 9")
    assert (undecided.status, undecided.exit_code) == ("inconclusive", 3)
    both = decision(c, "top1.decline <= 5.7%", "agreement >= 99%")
    assert (both.status, both.exit_code) == ("fail", 1)
    assert Decision.model_validate_json(both.model_dump_json()) == both


def test_size() -> None:
    c = models((90, 0, 0, 10), int8_bytes=5000)
    small, large = (decision(c, f"size <= {limit}") for limit in ("5000 B", "4999 B"))
    assert (small.status, large.status) == ("pass", "fail")
    assert "5,000 bytes, wholly beyond the limit of 4,999" in large.judged[0].verdict.reason
    unknown = c.model_copy(update={"int8": c.int8.model_copy(update={"size_bytes": None})})
    assert decision(unknown, "size <= 5000 B").status == "inconclusive"


@pytest.mark.parametrize(
    ("limit", "status"), [("0.6", "pass"), ("0.4", "fail"), ("0.5", "inconclusive")]
)
def test_latency(limit: str, status: str) -> None:
    fp32, int8 = fake_predictions(60, 5, 0, 0), fake_predictions(60, 5, 0.1, 0)
    speeds = {
        "fp32_speed": fake_measurement("a", 10.0),
        "int8_speed": fake_measurement("b", 5.0, seed=1),
        "noise": fake_measurement("a", 10.0, seed=2),
    }
    c = compare(fp32, int8, **speeds)
    verdict = judge(c, parse_rule(f"latency.p50.ratio <= {limit}").criterion)
    assert verdict.status == status
    assert verdict.measured == pytest.approx(1 / c.speeds[0].speedup)
    assert verdict.interval is not None
    assert (verdict.p is not None and verdict.p < ALPHA) is (status == "fail")
    assert decision(c, f"latency.p50.ratio <= {limit}").status == "pass"  # advisory
    nothing = judge(compare(fp32, int8), parse_rule("latency.p50.ratio <= 1").criterion)
    assert (nothing.status, nothing.reason) == ("inconclusive", "No latency was measured.")


def test_the_class_that_fell_is_named() -> None:
    whole = [(45, 0, 0, 5)] * 20
    whole[7] = (3, 42, 0, 5)
    found = decision(models(*whole), "class.decline <= 10pp")
    assert found.status == "fail"
    verdict = found.judged[0].verdict
    assert [c.index for c in verdict.classes] == [c.index for c in found.fell] == [7]
    assert "1 of 20 classes surely falls by more than 10 points: 7 kind 7 (42" in verdict.reason
    assert verdict.measured == pytest.approx(42 / 50)
    assert found.rose == ()


def test_few_images_a_class_decide_nothing() -> None:
    verdict = decision(models(*[(4, 0, 0, 1)] * 19, (0, 4, 0, 1)), "class.decline <= 10pp").judged[
        0
    ]
    assert verdict.verdict.status == "inconclusive"
    assert "needs 35 images to be cleared; there are 5.0 a class" in verdict.verdict.remedy
    cleared = decision(models(*[(35, 0, 0, 0)] * 3), "class.decline <= 10pp")
    assert cleared.status == "pass"
    assert decision(models(*[(34, 0, 0, 0)] * 3), "class.decline <= 10pp").status == "inconclusive"


def test_a_rise_is_an_alarm() -> None:
    whole = [(40, 0, 2, 8)] * 10
    whole[3] = (10, 0, 40, 0)
    found = decision(models(*whole), "top1.decline <= 1%")
    assert found.status == "pass"
    assert [c.index for c in found.rose] == [3]
    assert "top-1 accuracy surely rose, by 11.60 points" in found.alarms[0]
    stored = found.model_dump(mode="json")
    assert Decision.model_validate(stored) == found
    del stored["risen"]
    assert Decision.model_validate(stored).alarms == found.alarms
    assert decision(models((900, 40, 45, 15)), "top1.decline <= 9%").alarms == ()


def verdicts(*p: float) -> list[tuple[Rule, Verdict]]:
    rules = [parse_rule(f"kl <= {i + 1}") for i in range(len(p))]
    return [
        (
            rule,
            Verdict(
                status="fail" if x <= ALPHA else "pass",
                criterion=rule.criterion,
                measured=1.0,
                p=x,
            ),
        )
        for rule, x in zip(rules, p, strict=True)
    ]


def test_failures_are_held_to_holms_procedure() -> None:
    """Of p = 0.02 and 0.5 the first would fail alone; of two it needs 0.0125."""
    assert combine(verdicts(0.02)).status == "fail"
    held = combine(verdicts(0.02, 0.5))
    assert held.status == "inconclusive"
    assert "Alone it would fail" in held.judged[0].verdict.reason
    assert combine(verdicts(0.012, 0.5)).status == "fail"
    found = combine(verdicts(0.012, 0.02, 0.9))
    assert [j.verdict.status for j in found.judged] == ["inconclusive", "inconclusive", "pass"]
    stepped = combine(verdicts(0.008, 0.0124, 0.9))
    assert [j.verdict.status for j in stepped.judged] == ["fail", "fail", "pass"]
    assert [j.adjusted_p for j in stepped.judged] == list(holm([0.008, 0.0124, 0.9]))
    assert "3 required rules" in family(stepped)
    assert family(combine(verdicts(0.02))) == ""


def test_advisory_rules_and_certain_ones_do_not_weaken_the_required() -> None:
    pairs = verdicts(0.02, 0.5, 0.5)
    advisory = [(r.model_copy(update={"level": "advisory"}), v) for r, v in pairs[1:]]
    assert combine([pairs[0], *advisory]).status == "fail"
    size = parse_rule("size <= 10B")
    certain = Verdict(status="fail", criterion=size.criterion)
    assert combine([(size, certain), *verdicts(0.5)]).status == "fail"


def test_the_whole_passes_by_each_rules_own_interval() -> None:
    """More rules do not make it harder for each to pass: one that is broken must pass by itself."""
    c = models((1000, 0, 0, 200))
    many = decision(c, *examples().values())
    own = [judge(c, rule.criterion).status for rule in parse_rules(examples().values())]
    assert [j.verdict.status for j in many.judged] == own


def test_unlabelled_images() -> None:
    made = [fake_predictions(500, 5, flip, 0, labelled=False) for flip in (0.0, 0.1)]
    found = decision(
        compare(*made), "top1.decline <= 1%", "class.decline <= 10pp", "agreement >= 80%"
    )
    said = [j.verdict.status for j in found.judged]
    assert said == ["inconclusive", "inconclusive", "pass"]
    assert "no labels" in found.judged[1].verdict.reason
    assert found.status == "inconclusive"
