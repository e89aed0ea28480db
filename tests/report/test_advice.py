"""By how much the best recipe misses, and what to try."""

from __future__ import annotations

from dataclasses import replace

from quantlab.compare.compare import compare
from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import Verdict, judge
from quantlab.report.advice import shortfall, suggestions, unfinished
from quantlab.report.context import Unfinished
from quantlab.testing import fake_predictions


def verdict(flip: float, limit: str, n: int = 2000, *, labelled: bool = True) -> Verdict:
    both = (fake_predictions(n, 20, rate, 1, labelled) for rate in (0.0, flip))
    return judge(compare(*both), parse_decline(limit))


def test_nothing_is_missed_when_the_limit_is_met() -> None:
    assert shortfall(verdict(0.0, "1%")) == ""
    assert shortfall(verdict(0.3, "50%")) == ""
    assert shortfall(verdict(0.1, "1%", labelled=False)) == ""


def test_the_amount_beyond_the_limit_is_told() -> None:
    for limit, unit in (("1%", "%"), ("1pp", "points")):
        found = verdict(0.5, limit)
        assert found.measured is not None
        text = shortfall(found)
        assert f"{100 * found.measured:.2f}".rstrip("0") in text
        assert f"{100 * (found.measured - 0.01):.2f}".rstrip("0") in text
        assert unit in text
        assert "It was written all the same." in text


def test_what_a_limit_left_undone() -> None:
    nothing = Unfinished("Ctrl-C", (), (), "", "quantlab tune --resume r")
    assert unfinished(nothing) == (
        "Ended by Ctrl-C: every recipe was tried. To go on: quantlab tune --resume r"
    )
    many = replace(nothing, untried=tuple(f"r{i}" for i in range(40)))
    assert "not tried: r0, r1, r2, r3, r4, r5 and 34 more." in unfinished(many)


def test_the_ideas_fit_the_reason() -> None:
    failed, unsure = verdict(0.5, "1%"), verdict(0.2, "1%", n=60)
    assert (failed.status, unsure.status) == ("fail", "inconclusive")
    assert any("--images-per-class" in idea for idea in suggestions(failed, "finished"))
    assert not any("--budget" in idea for idea in suggestions(failed, "finished"))
    assert "--budget" in suggestions(failed, "budget")[0]
    assert any("More evaluation images" in idea for idea in suggestions(unsure, "finished"))
