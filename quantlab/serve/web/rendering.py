"""Render templates as pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from quantlab import __version__
from quantlab.report.html import FILTERS
from quantlab.serve.web import assets

SIGN_IN = "/sign-in"


def render(name: str, context: Mapping[str, Any]) -> str:
    """A template's text. Whatever the context holds is escaped."""
    return _templates().get_template(name).render(context)


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=ChoiceLoader(
            [PackageLoader("quantlab.serve.web"), PackageLoader("quantlab.report")]
        ),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    templates.filters |= FILTERS
    templates.filters["part"] = lambda text: quote(str(text), safe="")
    templates.filters["query"] = urlencode
    templates.globals |= {
        "asset": assets.address,
        "htmx": assets.HTMX in assets.assets(),
        "version": __version__,
        "pictures": {},
    }
    return templates
