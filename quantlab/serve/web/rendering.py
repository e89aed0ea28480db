"""Render templates, and problems as pages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quantlab import __version__
from quantlab.report.html import FILTERS
from quantlab.serve.web import assets

if TYPE_CHECKING:
    from quantlab.serve.problems import Problem

SIGN_IN = "/sign-in"


def problem_page(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as a page. Unknown callers are asked to sign in; an address with an impossible name
    is answered with 404."""
    if problem.status == 401:
        return RedirectResponse(f"{SIGN_IN}?{urlencode({'next': problem.instance})}", 303)
    if any(wrong.where.startswith("path.") for wrong in problem.errors):
        facts = {
            "status": 404,
            "title": "Not Found",
            "detail": "there is no such page.",
            "errors": [],
        }
        problem = problem.model_copy(update=facts)
    nobody = {"path": "", "signed_in": False, "caller": None, "may_submit": False, "csrf": ""}
    content = render("problem.html.j2", {**nobody, "problem": problem})
    return HTMLResponse(content, problem.status, headers)


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
