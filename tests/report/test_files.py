from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from pages import CONTEXT, made

from quantlab.compare.compare import compare
from quantlab.errors import OutputError
from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import judge
from quantlab.report.comparison_page import report_page
from quantlab.report.document import Page, Plot
from quantlab.report.files import write_page
from quantlab.report.plots import draw
from quantlab.testing import fake_predictions


def test_both_forms_show_the_same_plots(tmp_path: Path) -> None:
    comparison = made()
    plots = draw(comparison, CONTEXT)
    page = report_page(comparison, judge(comparison, parse_decline("1%")), CONTEXT, plots)
    write_page(tmp_path / "run", page, plots)
    written = {path.name: path.read_text() for path in (tmp_path / "run").iterdir()}
    linked = re.findall(r"^!\[[^]]+\]\(([^)]+)\)$", written.pop("report.md"), re.M)
    held = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', written.pop("report.html"))
    assert linked == ["classes.svg", "scatter.svg", "confidence.svg", "latency.svg"]
    assert sorted(linked) == sorted(written)
    assert [base64.b64decode(x).decode() for x in held] == [written[name] for name in linked]


def test_without_speeds_and_changes_only_confidence_is_drawn(tmp_path: Path) -> None:
    same = fake_predictions(50, 5, 0, 1)
    comparison = compare(same, same)
    plots = draw(comparison, CONTEXT)
    page = report_page(comparison, judge(comparison, parse_decline("1%")), CONTEXT, plots)
    write_page(tmp_path, page, plots)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["confidence.svg", "report.html", "report.md"]
    text = (tmp_path / "report.md").read_text()
    assert "## Speed" not in text
    assert "performance improvement" not in text


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_page(tmp_path / "file" / "run", Page("", "t", (Plot("p", "c", "a"),), ()), {"p": b""})
