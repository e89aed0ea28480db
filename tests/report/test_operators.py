"""Operators' scales in three forms."""

from __future__ import annotations

import csv
import io
import json

from quantlab.inspect.output_scales import OperatorScale
from quantlab.report.operators import operators_text

ROWS = (
    OperatorScale(
        name="Conv, 0", operator="QLinearConv", output="y", type="uint8", Y_scale=0.1234567891,
        Y_zero_point=114,
    ),
    OperatorScale(
        name="Relu", operator="Relu", output="z", type=None, Y_scale=None, Y_zero_point=None
    ),
)  # fmt: skip


def test_the_table_ends_with_a_count() -> None:
    lines = operators_text(ROWS, "table").splitlines()
    assert lines[2] == "| Conv, 0 | QLinearConv | y      | uint8 | 0.123457 |          114 |"
    assert lines[3].endswith("|        – |            – |")
    assert lines[-1] == "1 of 2 operators have a quantized output."


def test_json_holds_every_digit() -> None:
    found = json.loads(operators_text(ROWS, "json"))
    assert [OperatorScale.model_validate(row) for row in found] == list(ROWS)


def test_csv_reads_back() -> None:
    first, second = csv.DictReader(io.StringIO(operators_text(ROWS, "csv")))
    assert (first["name"], float(first["Y_scale"])) == ("Conv, 0", 0.1234567891)
    assert (second["Y_scale"], second["type"]) == ("", "")
