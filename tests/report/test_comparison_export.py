"""A comparison's figures for other programs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from pages import made

from quantlab.report.comparison_export import compared_figures, export_comparison
from quantlab.report.comparison_tables import quotient_words
from quantlab.report.export import EXTRA, MARKER


def test_every_figure_is_the_comparisons(tmp_path: Path) -> None:
    c = made()
    export_comparison(tmp_path / "c.csv", c, "")
    with (tmp_path / "c.csv").open() as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert c.top1 is not None
    assert c.top1.ratio is not None
    assert c.fp32.top1 is not None
    assert float(rows["top1"]["fp32"]) == c.fp32.top1.value
    assert float(rows["top1.decline"]["change"]) == c.top1.ratio
    assert float(rows["speedup, batch 1"]["change"]) == c.speedup
    assert {"top5", "agreement", "kl", "size", "latency, batch 1"} <= rows.keys()
    assert "top1" not in {f.metric for f in compared_figures(made(labelled=False))}


def test_json_holds_what_is_better_when_smaller(tmp_path: Path) -> None:
    c = made()
    export_comparison(tmp_path / "c.json", c, "")
    found = json.loads((tmp_path / "c.json").read_text())
    assert all(entry["extra"].startswith(EXTRA) for entry in found)
    names = {entry["name"] for entry in found}
    assert {f"{c.int8.name} top1.decline", f"{c.int8.name} latency, batch 1"} <= names
    assert not any("agreement" in name or "speedup" in name for name in names)


def test_markdown_is_the_page_that_was_printed(tmp_path: Path) -> None:
    export_comparison(tmp_path / "c.md", made(), "the page")
    assert (tmp_path / "c.md").read_text() == f"the page\n\n{MARKER}\n"


@pytest.mark.parametrize(("quotient", "said"), [(2.0, False), (2.03, False), (2.5, True)])
def test_a_ratio_that_is_not_the_medians_is_explained(quotient: float, said: bool) -> None:
    assert (f"{quotient:.2f}x" in quotient_words(2.0, quotient)) == said
