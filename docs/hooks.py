"""Called by mkdocs: the pages of the site that are not written in docs/, and links to them.

The README, reports and other pages of the repository's root appear on the site as they are. Made
anew in each build: one page for each verb of the command line, from its click command, and the
Python API, from the names in ``quantlab.__all__``. In mkdocs.yml, a ``*`` in the nav stands for all
pages that match.
"""

from __future__ import annotations

import fnmatch
import html
import inspect
import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import quantlab
from quantlab.cli import VERBS, main

ROOT = Path(__file__).parents[1]
OF_THE_ROOT = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "LICENSE", "SECURITY.md")
_LINK = re.compile(r"\]\(([^)\s#:]+)((?:#[^)\s]*)?)\)")
_PAGE = re.compile(r"docs/([\w/-]+\.md)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fills the nav."""
    written = [path.relative_to(ROOT / "docs").as_posix() for path in _written()]
    config.nav = _filled(config.nav, [*written, *_copied(), *_made()])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not in docs/."""
    for uri, path in _copied().items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    for uri, text in _made().items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links hold in the repository; here they get the addresses of the site."""
    source = next((path for uri, path in _copied().items() if uri == page.file.src_uri), None)
    place = source.relative_to(ROOT).as_posix() if source else f"docs/{page.file.src_uri}"

    def moved(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), match[1]))
        uri = posixpath.relpath(site_uri(target), posixpath.dirname(page.file.src_uri) or ".")
        return f"]({uri}{match[2]})"

    return _LINK.sub(moved, markdown)


def site_uri(path: str) -> str:
    """Where a file of the repository is on the site."""
    if path in OF_THE_ROOT:
        return f"project/{path}"
    return "index.md" if path == "README.md" else path.removeprefix("docs/")


def _written() -> list[Path]:
    return sorted((ROOT / "docs").rglob("*.md"))


@cache
def _copied() -> dict[str, Path]:
    """Files from outside of docs/ by their place on the site."""
    names = ["README.md", *OF_THE_ROOT]
    for folder in ("reports", "tuning"):
        names += sorted(f"{folder}/{path.name}" for path in (ROOT / folder).iterdir())
    return {site_uri(name): ROOT / name for name in names}


@cache
def _made() -> dict[str, str]:
    """Generated pages by their place on the site."""
    root = click.Context(main, info_name="quantlab")
    verbs = {name: main.get_command(root, name) for name in VERBS}
    pages = {f"cli/{name}.md": verb_page(c, root, name) for name, c in verbs.items() if c}
    return {**pages, "api.md": api_page()}


def _filled(nav: Any, pages: list[str]) -> Any:
    if isinstance(nav, list):
        return [_filled(item, pages) for item in nav]
    if isinstance(nav, dict):
        return {title: _filled(item, pages) for title, item in nav.items()}
    return fnmatch.filter(pages, nav) if "*" in nav else nav


def verb_page(command: click.Command, parent: click.Context, name: str, level: int = 1) -> str:
    """A verb with all its options, and then those of the verbs below it."""
    ctx = click.Context(command, info_name=name, parent=parent)
    parts = [f"{'#' * level} {ctx.command_path}", _text(command.help or "")]
    if isinstance(command, click.Group):
        below = ((n, command.get_command(ctx, n)) for n in command.list_commands(ctx))
        parts += [verb_page(each, ctx, n, level + 1) for n, each in below if each]
    else:
        parts += [f"```\n{' '.join([ctx.command_path, *command.collect_usage_pieces(ctx)])}\n```"]
        options = [param for param in command.params if isinstance(param, click.Option)]
        rows = [_row(option, ctx) for option in options if not option.hidden]
        parts += ["\n".join(["| option | default | what it does |", "| --- | --- | --- |", *rows])]
    return "\n\n".join(parts)


def _row(option: click.Option, ctx: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{_value(option, ctx)}`"
    default = option.to_info_dict()["default"]
    silent = default is None or default is False or default == () or callable(default)
    plain = "" if silent else f"`{default}`"
    notes = [_text(option.help or "").replace("|", r"\|")]
    notes += ["Required."] if option.required else []
    notes += ["May be given several times."] if option.multiple else []
    notes += [f"Environment: `{option.envvar}`."] if option.envvar else []
    return f"| {names}{value} | {plain} | {' '.join(filter(None, notes))} |"


def _value(option: click.Option, ctx: click.Context) -> str:
    """``INTEGER ≥ 1``"""
    least = getattr(option.type, "min", None)
    name = option.make_metavar(ctx).removesuffix(" RANGE")
    return name if least is None else f"{name} ≥ {least}"


def _text(written: str) -> str:
    """A help text as markdown; the pages that it names are links."""
    text = html.escape(inspect.cleandoc(written).replace("\b\n", ""), quote=False)
    return _PAGE.sub(r"[\g<0>](../\1)", text)


def api_page() -> str:
    """Every public class and function."""
    found = {name: getattr(quantlab, name) for name in sorted(quantlab.__all__)}
    parts = ["# Python API", "All names can be imported from `quantlab`."]
    for name, thing in found.items():
        if callable(thing):
            path = f"{thing.__module__}.{thing.__qualname__}"
            parts.append(f"::: {path}\n    options:\n      heading: quantlab.{name}")
    return "\n\n".join(parts)
