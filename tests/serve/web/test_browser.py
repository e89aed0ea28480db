"""The pages in a real browser, from a server that listens."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import holdings
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from browsers import HANGS_MS, launched
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from seeds import LONG, compared, furnish
from served import served
from worksite import working

from quantlab.serve.alerts import Result, events_of
from quantlab.serve.datasets import add_dataset
from quantlab.serve.sandbox import available
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Tokens
from quantlab.serve.watching import Watching
from quantlab.serve.web import assets
from quantlab.testing.images import image_folder
from quantlab.testing.models import taught, tiny_classifier

pytestmark = pytest.mark.browser

Show = Callable[..., Page]


@pytest.fixture(scope="module")
def browser(browser_path: str) -> Iterator[Browser]:
    assert assets.HTMX in assets.assets(), "install again where the npm registry is in reach"
    with launched(browser_path) as found:
        yield found


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str, Service]]:
    """A server with a history, and the run of its tune."""
    settings = Settings(home=tmp_path_factory.mktemp("server") / "home", machine="here")
    with Service.open(settings) as service:
        holdings.add_model(service)
        holdings.add_dataset(service)
        compared(service, 3, LONG)
        run = furnish(service)
        watch(service)
        with served(service) as url:
            yield url, run, service


def watch(service: Service) -> None:
    """A monitor that has failed, and one that is paused."""
    watching = Watching(service.database)
    watching.add_receiver("a-receiver", "webhook", "https://hooks.example.org/")
    asked = {"verb": "compare", "fp32": LONG, "int8": f"{LONG}.int8", "data": "val"}
    how = {"on_version": True, "on_environment": True, "enabled": True, "schedule": "0 3 * * 1-5"}
    for name, last in (
        ("nightly", Result(time=1.8e9, verdict="fail")),
        ("weekly", Result(time=1.8e9, problem="the service has no dataset called val.")),
    ):
        watching.create(name, "local", request=asked, receivers=["a-receiver"], **how)
        values = {"asked": False, "last": last.model_dump(mode="json")}
        watching.advance(watching.monitor(name), values, events_of(None, last))
    (taken, *_) = watching.take()
    watching.sent(taken, "hooks.example.org answered 503 Service Unavailable.", taken=False)


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Opens a page. Whatever it logs, throws or loads from elsewhere fails the test."""
    wrong: list[str] = []

    def opened(address: str, width: int = 1280, scheme: Any = "light", **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme, **options
        )
        context.set_default_timeout(HANGS_MS)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda asked: loaded(asked.url, address))
        page.goto(address)
        return page

    def loaded(url: str, address: str) -> None:
        if not url.startswith(("/".join(address.split("/")[:3]), "data:")):
            wrong.append(url)

    yield opened
    for context in browser.contexts:
        context.close()
    assert wrong == []


def pages(service: Service, run: str) -> list[str]:
    compared = service.queue.recent(verb="compare")
    runs = [job.run for job in compared]
    jobs = {job.state: job.id for job in service.queue.recent()}
    return [
        "/runs", f"/runs/{run}", f"/runs/{runs[0]}", f"/compare?old={runs[1]}&new={runs[0]}",
        "/trends", "/trends/tiny-int8", f"/trends/{LONG}", "/jobs",
        *(f"/jobs/{jobs[state]}" for state in ("running", "queued", "failed", "done")),
        "/monitors", "/monitors/nightly", f"/jobs/{compared[0].id}/watch",
        "/models", "/datasets", "/submit", "/submit/tune", "/submit/gate", "/sign-in",
    ]  # fmt: skip


SCHEMES: tuple[tuple[Literal["light", "dark"], dict[str, Any]], ...] = (
    ("light", {"resultTypes": ["violations"]}),
    ("dark", {"resultTypes": ["violations"], "runOnly": ["color-contrast"]}),
)
"""With axe's options: the schemes differ in their colours alone."""


@pytest.mark.parametrize("width", [1280, 390, 320])
def test_every_page_fits_and_all_can_use_it(
    show: Show, furnished: tuple[str, str, Service], width: int
) -> None:
    url, run, service = furnished
    page = show(url, width)
    for address in pages(service, run):
        page.goto(url + address)
        for scheme, options in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function("[...document.images].every((x) => x.complete)")
            assert page.locator("h1").count() == 1
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert page.evaluate("[...document.images].every((x) => x.naturalWidth > 0)")
            found = Axe().run(page, options=options)
            report = f"{address}, {scheme}: {found.generate_report()}"
            assert found.violations_count == 0, report


def test_problem_pages_fit_too(browser: Browser, furnished: tuple[str, str, Service]) -> None:
    page = browser.new_page(viewport={"width": 320, "height": 800})
    page.set_default_timeout(HANGS_MS)
    page.goto(f"{furnished[0]}/jobs/abc")
    expect(page.locator("h1")).to_contain_text("Not Found")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.goto(f"{furnished[0]}/submit/tune")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was submitted.")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "alert"
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.close()


def brightness(page: Page) -> float:
    with Image.open(io.BytesIO(page.locator("body").screenshot())) as image:
        return float(np.asarray(image.convert("L"))[:4, :4].mean())


def test_pages_take_the_readers_side(show: Show, furnished: tuple[str, str, Service]) -> None:
    assert brightness(show(f"{furnished[0]}/jobs", scheme="light")) > 240
    assert brightness(show(f"{furnished[0]}/jobs", scheme="dark")) < 60


def test_the_keyboard_reaches_the_points(show: Show, furnished: tuple[str, str, Service]) -> None:
    page = show(f"{furnished[0]}/runs/{furnished[1]}")
    page.keyboard.press("Tab")
    assert page.locator(".skip").evaluate("(x) => x === document.activeElement")
    point = page.get_by_role("link", name=re.compile("^Trial 4: qoperator, decline 1.40%"))
    point.focus()
    page.keyboard.press("Enter")
    expect(page.locator("tr:target")).to_contain_text("qoperator")
    assert page.url.endswith(page.locator("tr:target").get_attribute("id") or "-")


def test_without_scripts_all_is_there(show: Show, furnished: tuple[str, str, Service]) -> None:
    url, run, _ = furnished
    page = show(f"{url}/runs/{run}", java_script_enabled=False)
    assert page.locator(".trials tbody tr").count() == 5
    page.get_by_label("An earlier run").select_option(index=1)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("h1")).to_have_text("Compare two runs")
    page.goto(f"{url}/models")
    assert page.locator("[data-upload]").is_hidden()


def test_a_job_shows_what_becomes_of_it(show: Show, furnished: tuple[str, str, Service]) -> None:
    url, _, service = furnished
    (job,) = service.queue.recent(states=["running"])
    page = show(f"{url}/jobs/{job.id}")
    expect(page.get_by_text("Evaluating: 812 of 1,300, top-1 79.1%")).to_be_visible()
    page.locator("#cancel").focus()
    service.queue.tell(job, [("say", "Trial 2")], {"label": "Timing", "total": 30, "done": 3})
    expect(page.get_by_text("Timing: 3 of 30")).to_be_visible()
    expect(page.get_by_text("Trial 2")).to_be_visible()
    expect(page.locator("#said")).to_have_text("Running: Timing")
    assert page.evaluate("document.activeElement.id") == "cancel"
    listed = show(f"{url}/jobs")
    service.queue.tell(job, [], {"label": "Timing", "total": 30, "done": 29})
    expect(listed.get_by_text("Timing: 29 of 30")).to_be_visible()
    page.locator("#cancel").click()
    expect(page.get_by_text("It was told to stop.")).to_be_visible()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, str]]:
    """A server with a worker, a model to upload, and a token."""
    root = tmp_path_factory.mktemp("real")
    confined = available().complete
    settings = Settings(home=root / "home", machine="here", confine=confined)
    settings = settings.model_copy(update={"max_chunk": 2000})
    images = image_folder(root / "val", classes=10, per_class=6)
    model = taught(
        tiny_classifier(root / "first model.onnx", batch_norm=True), images, "torchvision"
    )
    with Service.open(settings) as service:
        add_dataset(service.catalog, "val", images)
        _, token = Tokens(service.database).create("me", "submit")
        with served(service) as url, working(service):
            yield url, model, token


def run_of(page: Page) -> str:
    """Waits for the job of this page; the name of its run."""
    page.get_by_role("link", name="See the run").click()
    expect(page.locator("h1")).to_be_visible()
    return page.url.rpartition("/")[2]


def test_from_an_upload_to_a_trend(show: Show, real: tuple[str, Path, str]) -> None:
    url, model, token = real
    page = show(f"{url}/submit/tune")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/submit/tune")
    page.get_by_label("File").set_input_files(model)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("first-model can be used now.")).to_be_visible()
    assert model.stat().st_size > 2000  # several chunks
    page.get_by_label("Dataset", exact=True).select_option("val")
    page.get_by_text("More options").click()
    page.get_by_label("Leave the timing out").check()
    page.get_by_label("Strategy (optional)", exact=True).select_option("exhaustive")
    page.get_by_label("Max trials").fill("3")
    page.get_by_label("Max decline").fill("50%")
    page.get_by_role("button", name="Submit").click()

    page.wait_for_url("**/jobs/*")
    expect(page.get_by_role("heading", name=re.compile("tune first-model", re.I))).to_be_visible()
    run = run_of(page)
    assert "tune" in run
    page.get_by_role("link", name="Read the report").click()
    expect(page.locator("h1")).to_contain_text("first-model")
    page.go_back()
    pick = page.get_by_role("button", name=re.compile("^Pick trial")).first
    trial = (pick.get_attribute("aria-label") or "").split(",")[0].removeprefix("Pick ")
    pick.click()
    expect(page.get_by_role("link", name=f"Download the file of {trial}")).to_be_visible()
    page.get_by_role("link", name=f"Compare {trial} with fp32").click()

    page.get_by_label("Dataset", exact=True).select_option("val")
    page.get_by_text("More options").click()
    page.get_by_label("Leave the timing out").check()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/jobs/*")
    assert "compare" in run_of(page)
    page.get_by_label("An earlier run").select_option(run)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="What changed")).to_be_visible()

    page.get_by_role("link", name="Trends").click()
    page.get_by_role("link", name="first-model", exact=True).click()
    expect(page.get_by_role("img")).to_have_attribute("alt", re.compile("first-model over runs"))
    expect(page.get_by_role("row").filter(has_text=run[-6:]).first).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
