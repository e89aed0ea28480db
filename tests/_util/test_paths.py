"""The cache folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quantlab._util.paths import cache_dir


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("QUANTLAB_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)


def test_the_user_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "quantlab"
    monkeypatch.setenv("QUANTLAB_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


@pytest.mark.parametrize(
    ("platform", "place"),
    [
        ("linux", ".cache/quantlab"),
        ("darwin", "Library/Caches/quantlab"),
        ("win32", "AppData/Local/quantlab"),
    ],
)
def test_each_system_has_its_place(
    platform: str, place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir() == tmp_path / place
