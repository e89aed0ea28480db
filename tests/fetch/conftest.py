"""What the tests of fetch share."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from quantlab.fetch import fetch

MakeWheel = Callable[[str, Mapping[str, bytes]], Path]


@pytest.fixture(scope="session")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Fetches a published file once a session; needs a package index that pip can reach."""
    cache = tmp_path_factory.mktemp("published")
    return lambda name: fetch(name, cache_dir=cache)


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Writes a zip file of that name in the folder ``mirror`` and returns its path."""

    def make(name: str, members: Mapping[str, bytes]) -> Path:
        path = tmp_path / "mirror" / name
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return path

    return make
