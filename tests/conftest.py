"""Fixtures that all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DATA = os.environ.get("QUANTLAB_DATA", "")


def pytest_report_header() -> str:
    return f"QUANTLAB_DATA: {DATA or 'not set, tests marked data are deselected'}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without the real data, tests that need them are deselected, and counted as such."""
    if DATA:
        return
    needing = [item for item in items if item.get_closest_marker("data")]
    if needing:
        config.hook.pytest_deselected(items=needing)
        items[:] = [item for item in items if not item.get_closest_marker("data")]


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real models and images that QUANTLAB_DATA names."""
    return Path(DATA)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in its own folder and does not see the user's data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QUANTLAB_DATA", raising=False)
    monkeypatch.setenv("QUANTLAB_CACHE", str(tmp_path / "cache"))
