"""The documentation site: built with warnings as errors, complete, and loading nothing."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml
from scripts import loaded

import quantlab
from quantlab.cli import VERBS, main

ROOT = Path(__file__).parents[1]
HOOKS = loaded("docs/hooks.py")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does."""
    folder = tmp_path_factory.mktemp("site")
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def commands(verb: str) -> Iterator[click.Command]:
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    yield from command.commands.values() if isinstance(command, click.Group) else (command,)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_of_a_verb_is_on_its_page(site: Path, verb: str) -> None:
    text = (site / "cli" / f"{verb}.html").read_text()
    plain = html.unescape(re.sub(r"<[^>]+>", "", text))
    for command in commands(verb):
        assert (command.help or "").split("\n")[0] in plain
        for option in (p for p in command.params if isinstance(p, click.Option)):
            assert all(f"<code>{name}</code>" in text for name in option.opts), option.name


def test_an_option_has_its_values_its_default_and_its_help() -> None:
    @click.command()
    @click.option("--count", type=click.IntRange(1), default=3, help="a | b < c, docs/data.md.")
    @click.option("--zero", type=int, default=0, required=True)
    @click.option("--fast", is_flag=True, envvar="FAST")
    @click.option("--of", type=click.Choice(["x", "y"]), multiple=True)
    @click.option("--secret", hidden=True)
    def verb() -> None:
        """What it does.

        And how.
        """

    rows = [
        r"| `--count` `INTEGER ≥ 1` | `3` | a \| b &lt; c, [docs/data.md](../data.md). |",
        "| `--zero` `INTEGER` | `0` | Required. |",
        "| `--fast` |  | Environment: `FAST`. |",
        "| `--of` `[x|y]` |  | May be given several times. |",
    ]
    page = HOOKS.verb_page(verb, click.Context(main, info_name="quantlab"), "verb")
    assert page.startswith("# quantlab verb\n\nWhat it does.\n\nAnd how.\n\n```\nquantlab verb ")
    assert page.splitlines()[-4:] == rows


def test_every_public_name_is_on_the_page_of_the_api(site: Path) -> None:
    text = (site / "api.html").read_text()
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", text, re.S)
    shown = {re.sub(r"<[^>]+>|\s", "", heading) for heading in headings}
    names = [name for name in quantlab.__all__ if name != "__version__"]
    assert names
    assert not [name for name in names if not any(f"quantlab.{name}" in one for one in shown)]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    assert not [found for page in pages for found in loaded.findall(page.read_text())]


def test_what_is_wrong_with_a_link_or_the_nav_is_a_warning() -> None:
    """And so an error, by --strict."""
    validation = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["validation"]
    assert {level for part in validation.values() for level in part.values()} == {"warn"}
    assert "mkdocs build --strict" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("index.md", "docs/data.md#caches", "data.md#caches"),
        ("index.md", "LICENSE", "project/LICENSE"),
        ("tune.md", "data.md", "data.md"),
        ("tune.md", "../README.md", "index.md"),
        ("recipes/mxnet.md", "../../reports/ledger.md", "../reports/ledger.md"),
        ("recipes/mxnet.md", "../data.md", "../data.md"),
        ("project/CONTRIBUTING.md", "docs/versions.md", "../versions.md"),
        ("project/SECURITY.md", "CHANGELOG.md", "CHANGELOG.md"),
        ("reports/ledger.md", "../tuning/a16w8.yaml", "../tuning/a16w8.yaml"),
        ("tune.md", "https://example.org/a.md", "https://example.org/a.md"),
        ("tune.md", "#caches", "#caches"),
    ],
)
def test_links_of_the_repository_hold_on_the_site(page: str, link: str, there: str) -> None:
    at: Any = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    assert HOOKS.on_page_markdown(f"a [b]({link}) c", at, None, None) == f"a [b]({there}) c"
