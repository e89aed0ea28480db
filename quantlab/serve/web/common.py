"""Shared by the pages: rendering, submitted forms, links to further pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request
from starlette.responses import HTMLResponse, Response

from quantlab.serve.access import csrf_token
from quantlab.serve.tokens import LOCAL, Token
from quantlab.serve.web.forms import Given
from quantlab.serve.web.rendering import render

ROWS = 50
"""Of a list, on one page."""


async def _sent(request: Request) -> Given:
    """What a form sent."""
    form = await request.form()
    texts = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
    return {name: [value for key, value in texts if key == name] for name, _ in texts}


Sent = Annotated[Given, Depends(_sent)]
Text = Annotated[str, Query(max_length=200)]


def page(
    request: Request, name: str, *, status: int = 200, headers: Mapping[str, str] | None = None,
    **context: Any,
) -> Response:  # fmt: skip
    """The page of a template. Who asks decides what it offers."""
    caller: Token | None = request.state.caller
    known = {
        "path": request.url.path,
        "signed_in": caller is not None and caller is not LOCAL,
        "caller": caller,
        "may_submit": caller is not None and caller.allows("submit"),
        "csrf": csrf_token(request),
    }
    return HTMLResponse(render(name, {**known, **context}), status, headers)


def one(sent: Given, name: str) -> str:
    """The submitted value of this name, "" for none."""
    return next(iter(sent.get(name, ())), "")


def here(request: Request) -> str:
    """The page's own address."""
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def further(request: Request, after: object | None) -> str | None:
    """The address of the list's next page, None at the end."""
    if after is None:
        return None
    return f"{request.url.path}?{urlencode({**request.query_params, 'after': str(after)})}"
