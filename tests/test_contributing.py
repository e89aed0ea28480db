"""CONTRIBUTING.md and docs/architecture.md: each path, module and name that they have is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {name: (ROOT / name).read_text() for name in ("CONTRIBUTING.md", "docs/architecture.md")}
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?")
MODULE = re.compile(r"quantlab(?:\.[a-z][a-z_]*)+")
ENDINGS = (".py", ".md", ".toml", ".yml", ".yaml")
KINDS = (
    "operator",
    "range estimator",
    "reader",
    "strategy",
    "option",
    "verb",
    "criterion",
    "target",
    "recipe",
    "table of the report",
    "web page",
    "figure of the history",
    "statistical test",
    "configuration of another tool",
)


def quoted(text: str) -> list[str]:
    """What stands in backticks, but for code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def paths(text: str) -> list[str]:
    """Those of the quoted that are files or folders."""
    return [
        word
        for word in quoted(text)
        if PATH.fullmatch(word) and ("/" in word or word.endswith(ENDINGS))
    ]


def exists(path: str) -> bool:
    """From the root, or from the package with or without .py; a bare name, anywhere in it."""
    package = ROOT / "quantlab"
    places = (ROOT / path, package / path, package / f"{path}.py")
    return any(place.exists() for place in places) or ("/" not in path and any(package.rglob(path)))


@pytest.mark.parametrize("page", PAGES)
def test_the_paths_are_there(page: str) -> None:
    found = paths(PAGES[page])
    assert len(found) > 10
    assert not [path for path in found if not exists(path)]


@pytest.mark.parametrize("page", PAGES)
def test_the_modules_are_there(page: str) -> None:
    words = [word for word in quoted(PAGES[page]) if MODULE.fullmatch(word)]
    modules = [word for word in words if not word.endswith(ENDINGS)]
    assert "quantlab.testing" in modules
    assert not [name for name in modules if not find_spec(name)]


def rows(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Of each table row: the files, and the names that are said to be in them."""
    for line in re.findall(r"^\| `.*$", text, re.M):
        files, words = line.split("|")[1:3]
        names = [word for word in quoted(words) if re.fullmatch(r"_?[A-Za-z]\w+", word)]
        yield quoted(files), names


def lacking(text: str) -> list[str]:
    return [
        f"{file}: {name}"
        for files, names in rows(text)
        for file in files
        for name in names
        if (ROOT / file).is_file() and not re.search(rf"\b{name}\b", (ROOT / file).read_text())
    ]


def test_the_names_are_in_the_files() -> None:
    assert len([names for _, names in rows(PAGES["CONTRIBUTING.md"]) if names]) > 10
    assert lacking(PAGES["CONTRIBUTING.md"]) == []


def test_each_kind_of_addition_has_its_files_and_a_test() -> None:
    sections = dict(
        re.findall(
            r"^## How to add an? ([a-z ]+)\n(.*?)(?=^## )", PAGES["CONTRIBUTING.md"], re.M | re.S
        )
    )
    assert tuple(sections) == KINDS
    for kind, text in sections.items():
        assert any(file.startswith("tests/") for files, _ in rows(text) for file in files), kind


def test_what_is_not_there_is_found() -> None:
    text = "`quantlab/nothing.py` and `nothing.py`, `nothing/`, `make test`, `0.2.0`, `FILES`"
    assert paths(text) == ["quantlab/nothing.py", "nothing.py", "nothing/"]
    assert not any(map(exists, ("quantlab/nothing.py", "nothing.py", "nothing/")))
    row = "| `pyproject.toml` | put it into `NO_SUCH_TABLE` or `dependencies` |"
    assert lacking(row) == ["pyproject.toml: NO_SUCH_TABLE"]
