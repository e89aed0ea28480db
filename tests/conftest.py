"""Fixtures that all tests share."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
from postgres_server import running_server, server_programs
from waiting import interrupts

# What is imported stays: looking through it for garbage takes a third of the collection's time.
gc.disable()

# How long an example takes is the machine's affair.
settings.register_profile("quantlab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quantlab")

# Tests share the CPUs: threads of BLAS that wait for each other would only wait longer.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
SERVICE = Path(__file__).parent / "serve"
DATA = os.environ.get("QUANTLAB_DATA", "")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), "")
FAMILIES = all(map(find_spec, ("torch", "torchvision", "timm", "onnxscript")))
NEEDED = {
    "data": DATA,
    "browser": BROWSER,
    "postgres": server_programs(),
    "emulator": shutil.which("qemu-x86_64-static"),
    "families": FAMILIES,
}
"""By marker, what a test so marked needs."""
LACKING_FAMILIES = (
    "tests marked families are deselected; pip install 'quantlab[families]' runs them"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Of the tests marked families some are enough for every day."""
    parser.addoption(
        "--every-family",
        action="store_true",
        help="test every family of timm and torchvision, with both exporters: an hour",
    )


def pytest_report_header(config: pytest.Config) -> list[str]:
    some = "" if config.getoption("--every-family") else ", some families: --every-family for all"
    return [
        f"QUANTLAB_DATA: {DATA or 'not set, tests marked data are deselected'}",
        f"Chromium: {BROWSER or 'not found, tests marked browser are deselected'}",
        f"PostgreSQL: {NEEDED['postgres'] or 'not found, tests marked postgres are deselected'}",
        f"qemu: {NEEDED['emulator'] or 'not found, tests marked emulator are deselected'}",
        "torch, torchvision, timm: "
        + (f"found{some}" if FAMILIES else f"not all found, {LACKING_FAMILIES}"),
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need what is not here are deselected, and counted so. The service's come first:
    they wait most, and others have the CPUs meanwhile."""
    found = {**NEEDED, "every_family": config.getoption("--every-family")}
    lacking = [marker for marker, here in found.items() if not here]
    needing = [item for item in items if any(map(item.get_closest_marker, lacking))]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if item not in needing]
    items.sort(key=lambda item: SERVICE not in item.path.parents)


def pytest_collection_finish() -> None:
    """From here on garbage is looked for, among what the tests make."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real models and images that QUANTLAB_DATA names."""
    return Path(DATA)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this test run share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def browser_path() -> str:
    """The program of a Chromium."""
    return BROWSER


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server that runs while the tests do."""
    with running_server(NEEDED["postgres"]) as url:
        yield url


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Processes that the test starts hear SIGINT, however the tests were started."""
    with interrupts():
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in its own folder and does not see the user's data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUANTLAB_DATA", raising=False)
    monkeypatch.setenv("QUANTLAB_CACHE", str(tmp_path / "cache"))
