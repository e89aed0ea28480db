"""A decision's forms: nothing from elsewhere becomes markup, a command or broken XML."""

from __future__ import annotations

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from quantlab.errors import DataError
from quantlab.gate.rules import Decision, combine, parse_rule
from quantlab.gate.verdict import Verdict
from quantlab.report.gate import (
    GateContext,
    benchmark_json,
    comment,
    error_annotation,
    failure_page,
    gate_summary,
    junit,
    junit_error,
    marker,
    workflow_commands,
)
from quantlab.stats.paired import Interval

NASTY = "a<b>|*x*\n::error::no%0A\x00--> `c`"


def decision(status: str, level: str = "required", reason: str = NASTY) -> Decision:
    rule = parse_rule(f"top1.decline <= 1%, {level}")
    verdict = Verdict.model_validate(
        {
            "status": status,
            "reason": reason,
            "remedy": "Do this.",
            "criterion": rule.criterion,
            "measured": 0.02,
            "interval": Interval(0.011, 0.03),
            "p": 0.001,
        }
    )
    return combine([(rule, verdict)]).model_copy(update={"stored": (NASTY,)})


CONTEXT = GateContext(
    subject=NASTY,
    reference="fp32",
    images=1800,
    command="quantlab gate a b --require 'x > `1`'",
    conditions={"CPU": NASTY},
    notes=(NASTY,),
)


def test_that_int8_does_not_pay_is_the_second_line() -> None:
    context = replace(CONTEXT, subject="a", pays="int8 does not pay: slower.")
    lines = gate_summary(decision("pass"), context).splitlines()
    assert lines[:3] == ["PASS: a against fp32 on 1,800 images", "int8 does not pay: slower.", ""]
    assert comment(decision("pass"), context).split("\n\n")[1] == "int8 does not pay: slower."
    assert "::warning title=a::int8 does not pay: slower." in workflow_commands(
        decision("pass"), context
    )
    nothing = gate_summary(decision("pass"), replace(CONTEXT, subject="a"))
    assert nothing.splitlines()[1] == ""


@pytest.mark.parametrize(
    ("status", "level", "kind", "case"),
    [
        ("fail", "required", "error", "failure"),
        ("inconclusive", "required", "warning", "error"),
        ("fail", "advisory", "warning", "skipped"),
        ("inconclusive", "advisory", "warning", "skipped"),
        ("pass", "required", None, "system-out"),
    ],
)
def test_levels(status: str, level: str, kind: str | None, case: str) -> None:
    found = decision(status, level)
    lines = workflow_commands(found, CONTEXT)
    assert len(lines) == (2 if kind else 1)  # the alarm is one
    assert kind is None or lines[0].startswith(f"::{kind} title=")
    suite = ElementTree.fromstring(junit(found, CONTEXT).encode())[0]
    assert [inner.tag for inner in suite[0]] == [case]
    counted = {"failure": "failures", "error": "errors", "skipped": "skipped"}.get(case)
    for name in ("failures", "errors", "skipped"):
        assert suite.get(name) == ("1" if name == counted else "0")


def test_a_workflow_command_is_one_line_with_one_title() -> None:
    for line in [*workflow_commands(decision("fail"), CONTEXT), error_annotation(DataError(NASTY))]:
        assert "\n" not in line
        assert "%0A" in line
        assert "%250A" in line
        _, properties, message = line.split("::", 2)
        assert properties.count(":") == properties.count(",") == 0
        assert message


def test_a_comment_holds_no_markup_from_elsewhere() -> None:
    for text in (
        comment(decision("fail"), CONTEXT),
        failure_page(DataError(NASTY), NASTY, CONTEXT.command),
    ):
        *body, last = text.splitlines()
        assert last == marker(NASTY)
        assert last.count("--") == 2
        assert not any("-->" in line and "<" in line for line in body)
        assert "<b>" not in text
        assert not any(line.startswith("::") for line in body)


def test_a_summary_for_the_terminal() -> None:
    text = gate_summary(decision("fail", reason="It is lost."), CONTEXT)
    assert "| top1.decline <= 1% | required | fail    | 2%       | 1.10% to 3.00% |" in text
    assert "top1.decline <= 1%: It is lost. Do this." in text


def test_trends_are_finite_numbers() -> None:
    (entry,) = json.loads(benchmark_json(decision("fail"), CONTEXT))
    assert (entry["unit"], entry["value"], entry["range"]) == ("%", 2.0, "1.1 to 3")


def test_an_error_is_a_case_of_its_own() -> None:
    suite = ElementTree.fromstring(junit_error(DataError("No.", "Do."), "m").encode())[0]
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    assert suite[0][0].get("message") == "No. Do."
