"""Criteria: how they are shown and stored, and that one more is one class."""

from __future__ import annotations

from typing import ClassVar, Self

import pytest
from pydantic import ValidationError

from quantlab.compare.comparison import Comparison
from quantlab.gate import criterion, notation
from quantlab.gate.criteria import AccuracyCriterion, AgreementCriterion, MetricCriterion
from quantlab.gate.criterion import Criterion, Finding, kinds, number
from quantlab.gate.notation import parse_criterion
from quantlab.gate.rules import Rule, decide, parse_rules
from quantlab.gate.verdict import Verdict
from quantlab.report.gate import GateContext, benchmark_json, gate_summary
from quantlab.stats.paired import Interval
from quantlab.testing import fake_predictions

EVERY = (
    "top1.decline <= 1%",
    "top5.decline <= 1pp",
    "m:f.decline <= 1%",
    "agreement >= 96%",
    "kl <= 0.01",
    "class.decline <= 10pp",
    "latency.p50.ratio <= 1.05",
    "size <= 4MB",
    "portable",
    "runtime.agreement >= 99%",
    "runtime.kl <= 0.001",
)


def test_losses_in_words() -> None:
    interval = Interval(0.0123, 0.04)
    shown = {
        c.title: (c.amount(0.028), c.gap(0.008), c.span(interval), c.unit)
        for c in map(parse_criterion, EVERY[:5])
    }
    assert shown == {
        "top-1 decline": ("2.8%", "0.8%", "1.23% to 4.00%", "fraction of fp32's"),
        "top-5 decline": ("2.8 points", "0.8 points", "1.23 to 4.00 points", "fraction of 1"),
        "m:f decline": ("2.8%", "0.8%", "1.23% to 4.00%", "fraction of fp32's"),
        "agreement with fp32": (
            *("97.2%", "0.8 points", "96.00% to 98.77%"),
            "fraction of the answers that changed",
        ),
        "KL divergence from fp32": ("0.028 nats", "0.008 nats", "0.0123 to 0.04 nats", "nats"),
    }


@pytest.mark.parametrize("text", EVERY)
def test_a_record_keeps_which_criterion_it_was(text: str) -> None:
    made = Rule(criterion=parse_criterion(text), level="advisory")
    assert Rule.model_validate_json(made.model_dump_json()) == made
    assert (made.text, made.metric) == (text, text.split()[0])


def test_a_record_of_no_criterion_is_refused() -> None:
    for fields in ({"most": -1}, {"most": 1, "least": 1}, {"max_decline": 0.1, "metric": "x"}):
        with pytest.raises(ValidationError, match="no kind of criterion has these fields"):
            Rule.model_validate({"criterion": fields, "level": "off"})


def test_only_a_function_of_the_users_is_a_metric_of_theirs() -> None:
    assert MetricCriterion(metric="a.b:c").metric_function == "a.b:c"
    assert AccuracyCriterion().metric_function is None
    with pytest.raises(ValidationError):
        MetricCriterion(metric="top1")
    with pytest.raises(ValidationError):
        AccuracyCriterion.model_validate({"metric": "a:b"})


def test_records_name_the_tolerance_last() -> None:
    """The identity of a tune's trials is made of this text."""
    assert AccuracyCriterion().model_dump_json() == (
        '{"max_decline":0.01,"kind":"relative","metric":"top1","tolerance":0.0}'
    )
    assert AgreementCriterion(least=0.5).model_dump_json() == '{"least":0.5,"tolerance":0.0}'


class NoiseCriterion(Criterion):
    """How many decibels of signal to noise there must be: all that a new kind has to say."""

    examples: ClassVar[tuple[str, ...]] = ("sqnr >= 20",)
    what: ClassVar[str] = "SQNR"
    measured_in: ClassVar[str] = "-dB"
    relation: ClassVar = ">="

    least_db: float
    tolerance: float = 0.0

    @property
    def limit(self) -> float:
        """The most that may be lost."""
        return -self.least_db

    def amount(self, loss: float) -> str:
        """In decibels."""
        return f"{-loss:.1f} dB"

    def span(self, interval: Interval) -> str:
        """It has none."""
        return ""

    @property
    def written_limit(self) -> str:
        """The number."""
        return f"{self.least_db:g}"

    @classmethod
    def read(cls, name: str, limit: str) -> Self:
        """A number."""
        return cls(least_db=number(limit))

    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """The figure of the comparison."""
        db = comparison.fidelity.sqnr_db
        return Finding(measured=None if db is None else -db, images=comparison.n)


class NoisierCriterion(NoiseCriterion):
    """Another kind with the very fields of the one that is found first."""


def test_a_record_names_the_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    found = (*kinds(), NoiseCriterion, NoisierCriterion)
    monkeypatch.setattr(criterion, "kinds", lambda: found)
    made = Rule(criterion=NoisierCriterion(least_db=3), level="required")
    stored = made.model_dump(mode="json")
    assert stored["criterion"]["type"] == "NoisierCriterion"
    assert type(Rule.model_validate(stored).criterion) is NoisierCriterion
    del stored["criterion"]["type"]
    assert type(Rule.model_validate(stored).criterion) is NoiseCriterion
    with pytest.raises(ValidationError, match="there is no kind of criterion 'Loudness'"):
        Rule.model_validate({"criterion": {"type": "Loudness", "least_db": 3}, "level": "off"})
    with pytest.raises(ValidationError, match="least_db"):
        Rule.model_validate({"criterion": {"type": "NoiseCriterion", "most": 3}, "level": "off"})


def test_one_more_kind_is_one_class(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantlab.compare.compare import compare

    known = kinds()
    for module in (criterion, notation):
        monkeypatch.setattr(module, "kinds", lambda: (*known, NoiseCriterion))
    comparison = compare(*(fake_predictions(300, 10, flip, 0) for flip in (0, 0.1)))
    rules = parse_rules(["sqnr >= 3", "sqnr < 90, advisory"])
    assert [rule.text for rule in rules] == ["sqnr >= 3", "sqnr >= 90"]
    found = decide(comparison, rules)
    assert [j.verdict.status for j in found.judged] == ["pass", "fail"]
    assert type(found).model_validate_json(found.model_dump_json()) == found
    context = GateContext("a", "b", comparison.n, "quantlab gate a b")
    shown = gate_summary(found, context)
    assert "wholly below the limit of 90.0 dB." in shown
    assert '"name": "a sqnr"' in benchmark_json(found, context)
    nothing = Verdict(status="inconclusive", criterion=NoiseCriterion(least_db=1))
    assert nothing.reason == ""


def test_every_kind_is_found_in_its_folder() -> None:
    from quantlab.gate import criteria

    assert {kind.__name__ for kind in kinds()} == set(criteria.__all__)
