"""Format operators' scales as a table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Literal

from quantlab.inspect.output_scales import OperatorScale
from quantlab.report.formats import NOTHING, number, table

Form = Literal["table", "csv", "json"]
_COLUMNS = tuple(OperatorScale.model_fields)


def operators_text(rows: Sequence[OperatorScale], form: Form) -> str:
    """All operators; the table ends with how many have a quantized output."""
    if form == "json":
        return json.dumps([row.model_dump() for row in rows], indent=1, ensure_ascii=False)
    if form == "csv":
        return _csv(rows)
    cells = [
        [x.name, x.operator, x.output, x.type or NOTHING, number(x.Y_scale, ".6g"),
         number(x.Y_zero_point, "d")]
        for x in rows
    ]  # fmt: skip
    quantized = sum(x.type is not None for x in rows)
    return "\n".join(
        [
            table(_COLUMNS, cells, right="    rr"),
            "",
            f"{quantized} of {len(rows)} operators have a quantized output.",
        ]
    )


def _csv(rows: Sequence[OperatorScale]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in rows)
    return text.getvalue().rstrip("\n")
