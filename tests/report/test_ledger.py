"""The ledger's page and CSV."""

from __future__ import annotations

import csv
import io

from quantlab.report.ledger import COLUMNS, HEAD, ledger_csv, ledger_page
from quantlab.runs.ledger import LedgerRow

ROWS = (
    LedgerRow("mindcv", "m", "published", 2.66, 256, 224, 155.94, 13133.26, 69.98, top5=89.32,
        recipe="m", note="MindCV"),
    LedgerRow("mindcv", "m", "nobody", weight="model not available here"),
    LedgerRow("", "net", "here", 3.487816, 1, 224, 8.25, 121.2, 79.692, (77.42, 81.79), 94.0,
        (92.6, 95.2), 1300, "val1300", weight="net.onnx", note="Z80, threads: 1"),
)  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_has_mindcvs_columns() -> None:
    lines = ledger_page(ROWS, 7).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert cells(tables[0]) == list(HEAD)
    assert cells(tables[2]) == [
        "m", "published", "2.66", "256", "224x224", "155.94", "13133.26", "69.98", "89.32",
        "[yaml](../tuning/m.yaml)", "",
    ]  # fmt: skip
    assert cells(tables[3]) == ["m", "–", *[""] * 8, "model not available here"]
    assert cells(tables[6])[1:3] == ["here, 1,300 of val1300", "3.49"]
    assert cells(tables[6])[7] == "79.69 (77.42 to 81.79)"


def test_projects_link_to_their_pages_and_notes_come_last() -> None:
    page = ledger_page(ROWS, 7)
    assert "from 7 runs" in page
    assert "## MindCV: [recipes/mindcv.md](../docs/recipes/mindcv.md)" in page
    assert page.index("## Others") > page.index("## MindCV")
    assert page.rstrip().endswith("## Timed here on\n\n- Z80, threads: 1")


def test_the_csv_has_the_same_figures() -> None:
    rows = list(csv.DictReader(io.StringIO(ledger_csv(ROWS))))
    assert list(rows[0]) == list(COLUMNS)
    assert (rows[0]["figures"], rows[0]["img/s"], rows[0]["images"]) == ("published", "13133.3", "")
    assert (rows[1]["figures"], rows[1]["weight"]) == ("", "model not available here")
    assert (rows[2]["acc@top1 low"], rows[2]["images"]) == ("77.42", "1300")
