"""The HTML report in a real browser."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import HANGS_MS, launched
from pages import CONTEXT, made
from PIL import Image
from playwright.sync_api import Browser, Page

from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import judge
from quantlab.report.comparison_page import report_page
from quantlab.report.context import TrialRow
from quantlab.report.files import write_page
from quantlab.report.plots import draw

pytestmark = pytest.mark.browser

Show = Callable[..., Page]
HOSTILE = "</script><script>console.error('ran')</script><img src=x onerror=console.error('ran')>"
TRIALS = (
    TrialRow(
        "b",
        top1=0.79,
        decline=0.012,
        agreement=0.95,
        kl=0.016,
        speedup=10.5,
        size_bytes=3_700_000,
        chosen=True,
        front=True,
    ),
    TrialRow(
        "a",
        top1=0.78,
        decline=0.022,
        agreement=0.95,
        kl=0.12,
        speedup=2.25,
        size_bytes=3_800_000,
        chosen=False,
        front=True,
    ),
    TrialRow("c", error="out of memory"),
)


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    with launched(browser_path) as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it, and with names that would like to be more."""
    comparison = made(kind=f"{HOSTILE} {{}}")
    file = io.BytesIO()
    Image.effect_noise((160, 160), 80).convert("RGB").save(file, "jpeg")
    context = replace(
        CONTEXT,
        trials=TRIALS,
        warnings=(HOSTILE,),
        thumbnails={flip.image: file.getvalue() for flip in comparison.flips},
    )
    plots = draw(comparison, context)
    folder = tmp_path_factory.mktemp("run")
    verdict = judge(comparison, parse_decline("1%"))
    write_page(folder, report_page(comparison, verdict, context, plots), plots)
    return folder / "report.html"


@pytest.fixture
def show(browser: Browser, report: Path) -> Iterator[Show]:
    """Opens the report. Whatever it logs, throws or loads from elsewhere fails the test."""
    wrong: list[str] = []

    def opened(width: int = 1280, scheme: Any = "light", **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        context.set_default_timeout(HANGS_MS)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: loaded(asked.url))
        page.goto(report.as_uri())
        return page

    def loaded(address: str) -> None:
        if address != report.as_uri() and not address.startswith("data:"):
            wrong.append(address)

    yield opened
    for context in browser.contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_it_is_whole_and_fits_and_all_can_use_it(show: Show, width: int, scheme: str) -> None:
    page = show(width, scheme)
    assert page.locator("h1").inner_text().startswith("INCONCLUSIVE")
    assert page.locator("img").count() == 5 + page.locator(".gallery img").count()
    assert page.locator(".gallery img").count() > 5
    assert page.evaluate("[...document.images].every((x) => x.complete && x.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def column(page: Page, table: str, index: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr td:nth-child({index + 1})")
    return [text.strip() for text in cells.all_inner_texts()]


TRIED = "table:has(caption:text('Recipes that were tried'))"


def test_rows_are_sorted_by_what_a_column_holds(show: Show) -> None:
    page = show()
    heads = page.locator(f"{TRIED} thead th")
    speed = heads.nth(5)
    assert column(page, TRIED, 5) == ["10.50x", "2.25x", "–"]
    speed.get_by_role("button").click()
    assert column(page, TRIED, 5) == ["2.25x", "10.50x", "–"]
    assert speed.get_attribute("aria-sort") == "ascending"
    assert page.get_by_role("status").inner_text() == "Sorted by speed, ascending"
    speed.get_by_role("button").click()
    assert column(page, TRIED, 5) == ["10.50x", "2.25x", "–"]
    assert speed.get_attribute("aria-sort") == "descending"
    heads.nth(0).get_by_role("button").click()
    assert column(page, TRIED, 0) == ["a", "→ b", "✗ c"]
    assert speed.get_attribute("aria-sort") is None


def test_the_keyboard_is_enough(show: Show) -> None:
    page = show(390)
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("(x) => x === document.activeElement")
    assert (skip.bounding_box() or {})["y"] >= 0
    page.keyboard.press("Enter")
    page.wait_for_function("document.activeElement.id == 'report'")
    page.locator(f"{TRIED} thead button").first.focus()
    page.keyboard.press("Enter")
    assert column(page, TRIED, 0) == ["a", "→ b", "✗ c"]
    wide = page.locator(".scroll").filter(has=page.locator(TRIED))
    assert wide.get_attribute("tabindex") == "0"
    assert wide.get_attribute("aria-label") == "Recipes that were tried"
    wide.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("(box) => box.scrollLeft > 0", arg=wide.element_handle())
    page.set_viewport_size({"width": 1280, "height": 800})
    page.wait_for_function("(box) => !box.hasAttribute('tabindex')", arg=wide.element_handle())


def test_sheets_keep_their_order(show: Show) -> None:
    page = show()
    assert page.locator("table:not(.sortable) button").count() == 0
    assert page.locator("table.sortable").count() >= 4


def brightness(page: Page, what: str) -> float:
    """Of the corner of an element, from 0 to 255."""
    with Image.open(io.BytesIO(page.locator(what).first.screenshot())) as image:
        return float(np.asarray(image.convert("L"))[:4, :4].mean())


@pytest.mark.parametrize("what", ["body", ".plot img"])
def test_page_and_plots_take_the_readers_side(show: Show, what: str) -> None:
    assert brightness(show(scheme="light"), what) > 240
    assert brightness(show(scheme="dark"), what) < 60


def test_without_scripts_all_is_there(show: Show) -> None:
    page = show(java_script_enabled=False)
    assert page.locator("table.sortable button").count() == 0
    assert page.locator(f"{TRIED} tbody tr").count() == len(TRIALS)
