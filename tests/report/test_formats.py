from __future__ import annotations

import re

import pytest

from quantlab._util.terminal import table_width
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


def test_no_cell_is_cut_where_nothing_limits_the_width() -> None:
    got = formats.table(["name", "long"], [["a", "x" * 300], ["b" * 40, "y"]])
    assert {len(line) for line in got.splitlines()} == {347}
    assert "x" * 300 in got
    assert "…" in formats.table(["a"], [["x" * 1001]]), "but what nobody reads"


@pytest.mark.parametrize("width", [30, 60, 100])
def test_tables_fold_on_a_terminal(width: int) -> None:
    rows = [["a-model-with-a-long-name.onnx", "12.34", "a sentence of several words"]] * 2
    with table_width(width):
        got = formats.table(["model", "ms/step", "what it is"], rows, right=" r")
    assert all(len(line) <= width for line in got.splitlines())
    words = "".join(re.sub(r"[|:\s-]|ms/step|model|what|it|is", "", got).split())
    for word in ("12.34", "sentence", "several"):
        assert word in words
    assert formats.table(["model", "ms/step", "what it is"], rows).count("\n") == 3


def test_a_table_that_no_folding_helps_becomes_a_list() -> None:
    with table_width(30):
        got = formats.table(["model", "p50", "p90", "p99", "memory"], [["m", *["1234.56"] * 4]])
    assert got.splitlines() == [
        "model   m",
        "p50     1234.56",
        "p90     1234.56",
        "p99     1234.56",
        "memory  1234.56",
    ]


def test_shortened_keeps_both_ends() -> None:
    assert formats.shortened("abcdefghij", 10) == "abcdefghij"
    assert formats.shortened("abcdefghij", 5) == "ab…ij"
