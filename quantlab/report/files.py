"""The files of a report: the page in each form, and the plots beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantlab._util.files import write_whole
from quantlab.compare.comparison import Comparison
from quantlab.errors import OutputError
from quantlab.gate.notation import parse_criterion
from quantlab.gate.verdict import judge
from quantlab.report.comparison_page import report_page
from quantlab.report.context import ReportContext
from quantlab.report.document import Page
from quantlab.report.html import html
from quantlab.report.markdown import markdown
from quantlab.report.plots import draw
from quantlab.runtime.environment import environment

MARKDOWN, HTML = "report.md", "report.html"


def write_page(folder: Path, page: Page, plots: Mapping[str, bytes]) -> None:
    """A page in each form, whole, and its ``plots``, SVG files by name. Raises OutputError."""
    files = {name: f"{name}.svg" for name in plots}
    for name, content in plots.items():
        write_whole(folder / files[name], content)
    write_whole(folder / MARKDOWN, markdown(page, files))
    write_whole(folder / HTML, html(page, plots))


def write_comparison(path: Path, comparison: Comparison, criterion: str) -> Path:
    """A comparison's report as the one file ``path``: HTML with its plots, or markdown without.

    ``criterion`` is what its verdict is on. Raises OutputError, RecipeError.
    """
    limit, ending = parse_criterion(criterion), path.suffix.lower()
    if ending not in (".html", ".md"):
        raise OutputError(f"cannot write {path}: a report is .html or .md.", "Name it so.")
    context = ReportContext(command="", environment=environment())
    plots = draw(comparison, context) if ending == ".html" else {}
    page = report_page(comparison, judge(comparison, limit), context, plots)
    write_whole(path, html(page, plots) if ending == ".html" else markdown(page, {}))
    return path
