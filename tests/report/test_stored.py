"""A check against stored data in words."""

from __future__ import annotations

from quantlab.inspect.stored import SetCheck, StoredCheck
from quantlab.report.stored import stored_summary


def made(name: str, beyond: int) -> SetCheck:
    return SetCheck(
        name=name, images=1, values=1000, beyond=beyond, largest=0.5, relative=0.01, agreeing=1
    )


def test_pass() -> None:
    said = stored_summary(StoredCheck(model="net", sets=(made("a", 0),)))
    assert said.startswith(
        "PASS: as stored: net against its test data (rtol 0.001, atol 1e-05)\n\n| set "
    )
    assert "0 of 1,000" in said


def test_fail_names_the_sets() -> None:
    said = stored_summary(StoredCheck(model="net", sets=(made("a", 0), made("b", 7))))
    assert said.startswith("FAIL: 1 of 2 sets differ: net")
    assert "| b   | FAIL   | 7 of 1,000 |     0.5 |     0.01 |     1 of 1 |" in said
