"""The files of a report: the page in each form, and the plots beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantlab.report.document import Page
from quantlab.report.html import html
from quantlab.report.markdown import markdown
from quantlab.store import write_whole

MARKDOWN, HTML = "report.md", "report.html"


def write_page(folder: Path, page: Page, plots: Mapping[str, bytes]) -> None:
    """A page in each form, whole, and its ``plots``, SVG files by name. Raises OutputError."""
    files = {name: f"{name}.svg" for name in plots}
    for name, content in plots.items():
        write_whole(folder / files[name], content)
    write_whole(folder / MARKDOWN, markdown(page, files))
    write_whole(folder / HTML, html(page, plots))
