from __future__ import annotations

import pytest

from quantlab.report import formats
from quantlab.stats.paired import Interval


def test_numbers() -> None:
    assert formats.percent(0.79692) == "79.69%"
    assert formats.percent(-0.000001) == "0.00%"
    assert formats.percent(None) == "–"
    assert formats.percents(Interval(0.1, 0.2), 0) == "10% to 20%"
    assert formats.points(0.0015) == "0.15 points"
    assert formats.times_span(Interval(1.999, 2.1)) == "2.00x to 2.10x"
    assert formats.megabytes(13_964_571) == "13.96 MB"
    assert formats.megabytes(512) == "512 bytes"
    assert formats.number(None, ".2f") == "–"


@pytest.mark.parametrize(
    ("p", "text"), [(1.0, "1"), (0.4412, "0.44"), (0.00312, "0.0031"), (1e-9, "below 0.0001")]
)
def test_p_values(p: float, text: str) -> None:
    assert formats.p_value(p) == text


def test_tables_are_aligned_and_escaped() -> None:
    got = formats.table(["a", "b"], [["x|y", "1"], ["<b>", "22"]], right=" r")
    assert got.splitlines() == [
        "| a      |   b |",
        "| ------ | --: |",
        "| x\\|y   |   1 |",
        "| &lt;b> |  22 |",
    ]
    assert formats.table(["a"], []) == ""


def test_wide_tables_are_narrowed() -> None:
    got = formats.table(["name", "long"], [["a", "x" * 300], ["b" * 40, "y"]])
    assert {len(line) for line in got.splitlines()} == {formats.MAX_WIDTH}
    assert "b" * 40 in got
    assert "…" in got


def test_shortened_keeps_both_ends() -> None:
    assert formats.shortened("abcdefghij", 10) == "abcdefghij"
    assert formats.shortened("abcdefghij", 5) == "ab…ij"
