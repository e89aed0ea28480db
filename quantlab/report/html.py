"""Render a page as one self-contained HTML file: styles, script and pictures are in it.

The template escapes all text. What the page may load is said in its Content-Security-Policy: its
own style, its own script, pictures in ``data:`` addresses, nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from quantlab.report.document import Code, Inline, Page, Strong, Text


def html(page: Page, plots: Mapping[str, bytes]) -> str:
    """The page; ``plots`` maps its plots' names to SVG files."""
    style, script = asset("report.css"), asset("report.js")
    policy = f"style-src '{_source(style)}'; script-src '{_source(script)}'"
    template = _templates().get_template("report.html.j2")
    return template.render(
        page=page,
        pictures={name: _address(svg, "svg+xml") for name, svg in plots.items()},
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; img-src data:; {policy}",
    )


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("quantlab.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )
    templates.filters |= FILTERS
    return templates


def _marked(text: Text) -> Markup:
    return Markup().join(map(inline, text))


def inline(part: Inline) -> Markup:
    """A part of a text, or a table's cell."""
    match part:
        case Code(text):
            return Markup("<code>{}</code>").format(text)
        case Strong(text):
            return Markup("<strong>{}</strong>").format(text)
        case str():
            return escape(part)


def _address(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def asset(name: str) -> str:
    """A file of the templates: ``report.css``, ``report.js``."""
    return (resources.files("quantlab.report") / "templates" / name).read_text()


FILTERS: dict[str, Callable[..., Markup | str]] = {
    "marked": _marked,
    "cell": inline,
    "jpeg": lambda data: _address(data, "jpeg"),
}
"""What the macros of ``blocks.html.j2`` need."""


def _source(content: str) -> str:
    """What names an inline style or script in a policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"
