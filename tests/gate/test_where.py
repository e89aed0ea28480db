"""Rules about where int8's answers hold: other CPUs, another runtime."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta

from quantlab.compare.compare import compare, fidelity
from quantlab.compare.comparison import Comparison, OtherCpus, OtherRuntime, Where
from quantlab.errors import RecipeError
from quantlab.gate.baseline import Baseline, decide_unpaired
from quantlab.gate.criteria import PortableCriterion, RuntimeAgreementCriterion
from quantlab.gate.notation import parse_criterion, parse_line
from quantlab.gate.rules import decide, parse_rules
from quantlab.gate.sequential import watch
from quantlab.gate.verdict import Verdict, judge
from quantlab.report.comparison_page import headline
from quantlab.report.gate import GateContext, benchmark_json, gate_summary, junit
from quantlab.testing import fake_predictions

BOUND = OtherCpus(state="impossible", layers=3)
OVERFLOWS = OtherCpus(
    state="saturates", layers=3, at_risk=2, saturating=1, images=8, share=0.0001,
    agreement=0.875, kl=0.25, sqnr_db=9.5,
)  # fmt: skip
QUIET = OtherCpus(state="not seen", layers=3, at_risk=2, images=8)
STATES = {
    "not quantized": (OtherCpus(state="not quantized"), "pass", "nothing is quantized"),
    "no pairs": (OtherCpus(state="no pairs"), "pass", "no layer sums u8s8 products in pairs"),
    "impossible": (BOUND, "pass", "no 16-bit pair sum can overflow"),
    "saturates": (OVERFLOWS, "fail", "agreement 87.5% there (emulated on 8 images), KL 0.2500"),
    "not seen": (QUIET, "inconclusive", "the weights of 2 of 3 u8s8 layers allow it"),
    "not emulated": (
        OtherCpus(state="not emulated", layers=2, at_risk=1), "inconclusive", "dynamic activation",
    ),
    "unknown": (OtherCpus(state="unknown"), "inconclusive", "not known"),
}  # fmt: skip


def compared(
    cpus: OtherCpus = BOUND, other: OtherRuntime | None = None, runtime: str = "onnxruntime"
) -> Comparison:
    found = compare(*(fake_predictions(400, 10, rate, seed=0) for rate in (0, 0.02)))
    where = Where(
        runtime=runtime, version="1.32.0", on="avx512-vnni", cpus=cpus, other_runtime=other
    )
    return found.model_copy(update={"where": where})


def elsewhere(n: int, changed: int, *, not_finite: int = 0) -> OtherRuntime:
    """Answers of which the other runtime gives ``changed`` of ``n`` otherwise."""
    rng = np.random.default_rng(0)
    own = replace(
        fake_predictions(n, 4, 0, 0, labelled=False),
        outputs=rng.permuted(np.tile(np.float32([3, 1, 0, -1]), (n, 1)), axis=1),
    )
    outputs = own.outputs + np.float32(0.01) * rng.standard_normal(own.outputs.shape)
    outputs[:changed] = -outputs[:changed]
    there = replace(own, outputs=outputs.astype(np.float32))
    return OtherRuntime(
        runtime="openvino",
        version="2026.4.1",
        fidelity=fidelity(own, there),
        not_finite=not_finite,
    )


@pytest.mark.parametrize("state", STATES)
def test_portable_by_what_is_known_of_other_cpus(state: str) -> None:
    cpus, status, words = STATES[state]
    verdict = judge(compared(cpus), PortableCriterion())
    assert verdict.status == status
    assert verdict.reason.startswith("Other CPUs: ")
    assert words in verdict.reason
    assert ("portable: true" in verdict.remedy) == (status != "pass")
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    title = headline(compared(cpus), verdict)
    assert title.startswith(f"{status.upper()}: ")
    assert "limit" not in title


def test_the_remedy_of_onnx_runtime_is_not_openvinos() -> None:
    remedies = [
        judge(compared(OVERFLOWS, runtime=name), PortableCriterion()).remedy
        for name in ("onnxruntime", "openvino")
    ]
    assert ["x64quantprecision" in remedy for remedy in remedies] == [True, False]


def test_portable_is_settled_by_the_int8_file_not_by_answers_that_did_not_change() -> None:
    same = compare(*[fake_predictions(400, 10, 0, seed=0)] * 2)
    where = Where(runtime="onnxruntime", version="1", on="avx2", cpus=OVERFLOWS)
    same = same.model_copy(update={"where": where})
    assert same.same_file
    assert judge(same, PortableCriterion()).status == "fail"
    assert judge(same, parse_criterion("runtime.kl <= 1")).status == "inconclusive"


def test_rules_of_where_are_in_one_decision_and_all_its_outputs() -> None:
    rules = parse_rules(["portable", "runtime.agreement >= 95%", "runtime.kl <= 1, advisory"])
    found = decide(compared(OVERFLOWS, elsewhere(1000, 10)), rules)
    assert [j.verdict.status for j in found.judged] == ["fail", "pass", "pass"]
    assert found.status == "fail"
    assert type(found).model_validate_json(found.model_dump_json()) == found
    context = GateContext("b", "a", 400, where="Measured in onnxruntime 1.32.0.")
    lines = gate_summary(found, context).splitlines()
    assert lines[1] == "Measured in onnxruntime 1.32.0."
    row = next(line for line in lines if line.startswith("| portable "))
    assert [cell.strip() for cell in row.split("|")[2:6]] == ["required", "fail", "0.01%", "–"]
    assert 'name="portable"' in junit(found, context)
    figures = benchmark_json(found, context)
    for name in ("16-bit pair sums that overflow", "answers changed by the runtime", "runtime.kl"):
        assert f'"name": "b {name}"' in figures


@pytest.mark.parametrize(
    ("n", "changed", "status"),
    [(1000, 2, "pass"), (1000, 40, "fail"), (1000, 10, "inconclusive"), (100, 0, "inconclusive")],
)
def test_agreement_between_runtimes_is_judged_by_the_exact_interval(
    n: int, changed: int, status: str
) -> None:
    verdict = judge(compared(other=elsewhere(n, changed)), RuntimeAgreementCriterion(least=0.99))
    assert verdict.status == status
    assert verdict.measured == pytest.approx(changed / n)
    assert verdict.interval is not None
    low = beta.ppf(0.025, changed, n - changed + 1) if changed else 0.0
    high = beta.ppf(0.975, changed + 1, n - changed)
    ends = verdict.interval.low, verdict.interval.high
    assert ends == pytest.approx((low, high))
    assert verdict.reason.startswith("Beside onnxruntime the file ran in openvino. ")
    assert f"on {n:,} images is " in verdict.reason
    if status == "inconclusive" and changed != 10:
        assert verdict.images_needed is not None
        assert verdict.images_needed > n
    assert ("--runtime" in verdict.remedy) == (status == "fail")
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@pytest.mark.parametrize(
    ("limit", "n", "bad", "status"),
    [
        ("0.01", 1000, 0, "pass"),
        ("0.000001", 1000, 0, "fail"),
        ("0.01", 40, 0, "inconclusive"),
        ("10", 1000, 3, "fail"),
    ],
)
def test_kl_between_runtimes(limit: str, n: int, bad: int, status: str) -> None:
    other = elsewhere(n, 0, not_finite=bad)
    verdict = judge(compared(other=other), parse_criterion(f"runtime.kl <= {limit}"))
    assert verdict.status == status
    if not bad:
        assert verdict.measured == other.fidelity.kl
    else:
        assert "There alone it gives a NaN or an infinity on 3 images." in verdict.reason
    if n < 50:
        assert "40 images do not tell what it would be on others." in verdict.reason
    assert verdict.reason.startswith("Beside onnxruntime the file ran in openvino. ")


def test_a_kl_near_its_limit_is_inconclusive() -> None:
    other = elsewhere(1000, 0)
    limit = f"{other.fidelity.kl:.6f}"
    assert judge(compared(other=other), parse_criterion(f"runtime.kl <= {limit}")).status == (
        "inconclusive"
    )


@pytest.mark.parametrize("text", ["portable", "runtime.agreement >= 99%", "runtime.kl <= 0.001"])
def test_answers_alone_do_not_tell_and_the_verdict_says_what_is_needed(text: str) -> None:
    pair = [fake_predictions(400, 10, rate, seed=0) for rate in (0, 0.02)]
    verdict = judge(compare(*pair), parse_criterion(text))
    assert verdict.status == "inconclusive"
    assert "that needs " in verdict.reason
    assert verdict.remedy.startswith("Give two models and this rule: quantlab gate FP32 INT8")
    assert "agrees with fp32" in headline(compare(*pair), verdict)


@pytest.mark.parametrize("text", ["portable", "runtime.agreement >= 99%", "runtime.kl <= 0.001"])
def test_they_are_for_a_gate_and_stop_nothing_early(text: str) -> None:
    with pytest.raises(RecipeError, match="is for judge and gate"):
        parse_criterion(text, tuning=True)
    with pytest.raises(RecipeError, match="no sequential test"):
        watch(parse_criterion(text))


def test_a_baseline_without_answers_tells_as_much() -> None:
    before = fake_predictions(400, 10, 0, seed=0)
    accepted = Baseline.model_validate(
        {
            "model": {"name": "m", "sha256": "0" * 64, "bytes": 4_000_000},
            "data": {"digest": before.dataset_digest, "images": 400},
            "pipeline": {},
            "metrics": {},
            "isa": "avx2",
            "versions": {},
            "predictions": None,
        }
    )
    rules = parse_rules(["portable", "runtime.agreement >= 95%"])
    where = compared(other=elsewhere(1000, 1)).where
    for same in (False, True):
        found = decide_unpaired(accepted, None, 1, rules, accepted_file=same, where=where)
        assert [j.verdict.status for j in found.judged] == ["pass", "pass"]
        found = decide_unpaired(accepted, None, 1, rules, accepted_file=same)
        assert [j.verdict.status for j in found.judged] == ["inconclusive", "inconclusive"]


def test_a_bare_word_with_its_level() -> None:
    for text, level, old in (
        ("portable", None, False),
        ("portable, advisory", "advisory", False),
        (" portable ,off ", "off", False),
        ("Portable", None, True),
    ):
        line = parse_line(text)
        assert (line.criterion, line.level, line.old) == (PortableCriterion(), level, old)
    assert parse_line("portable, advisory").written == "portable, advisory"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("portable <= 1", "portable has no limit.\nWrite 'portable'."),
        ("portable >= 99%", "portable has no limit.\nWrite 'portable'."),
        ("portabel", "there is no portabel.\nDid you mean 'portable'?"),
        ("portable, must", "required, advisory or off, not 'must'"),
        ("portable 1", "does not say what must hold"),
        ("runtime.agreement", "does not say what must hold"),
        ("runtime.agrement >= 99%", "Did you mean runtime.agreement"),
        ("runtime.kl <= 1%", "For example 'runtime.kl <= 0.001'"),
    ],
)
def test_what_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_line(text)
    assert words in str(caught.value)
