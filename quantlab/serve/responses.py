"""Errors as HTTP responses, by RFC 9457 (application/problem+json).

What is the client's to mend is said as the command line says it. What is the server's own is said
in general words, without its places; the log has the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from quantlab.errors import OutputError, QuantlabError
from quantlab.serve.db import UnavailableError
from quantlab.serve.problems import MEDIA_TYPE, Problem, TooFast, WrongField, status_of
from quantlab.serve.web.rendering import SIGN_IN, render

RETRY_SECONDS = 2
"""After which a database that did not answer may do so."""
ROOM_SECONDS = 60
"""After which a token that has too much under way may have room."""
LONGEST = 300
PROGRAMS = ("/api/", "/health/", "/metrics")
"""Addresses whose problems are JSON; those of all others are pages."""
MOST_ERRORS = 20
log = logging.getLogger("quantlab.serve")
_GENERAL = {
    UnavailableError: "the database does not answer.",
    OutputError: "the store does not answer.",
}


def answer(error: Exception, path: str) -> Response:
    """The problem that an error is."""
    match error:
        case RequestValidationError():
            return _not_valid(error, path)
        case HTTPException():
            phrase = f"{HTTPStatus(error.status_code).phrase.lower()}."
            detail = error.detail if error.detail.endswith(".") else phrase
            return problem(error.status_code, path, detail, headers=error.headers)
        case QuantlabError():
            return _of_quantlab(error, path)
    log.error("%s failed", path, exc_info=error)
    return problem(500, path, "the service failed; its log says how.")


def problem(
    status: int,
    path: str,
    detail: str,
    remedy: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[WrongField] | None = None,
) -> Response:
    """The response: a page for who asked for one. What a client sent and is said again may be no
    text that UTF-8 can hold: it is written in ASCII."""
    found = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        remedy=remedy,
        instance=path,
        errors=errors or [],
    )
    if not path.startswith(PROGRAMS):
        return _page(found, headers)
    content = json.dumps(found.model_dump(exclude=None if errors else {"errors"}))
    return Response(content, status, headers, media_type=MEDIA_TYPE)


def _page(problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
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


def _of_quantlab(error: QuantlabError, path: str) -> Response:
    status = status_of(error)
    headers = {}
    if status == 503:
        headers["Retry-After"] = str(RETRY_SECONDS)
    elif status == 429:
        seconds = error.seconds if isinstance(error, TooFast) else ROOM_SECONDS
        headers["Retry-After"] = str(max(1, round(seconds)))
    for kind, words in _GENERAL.items():
        if isinstance(error, kind):
            log.warning("%s: %s", path, error)
            return problem(status, path, words, "Try again in a moment.", headers=headers)
    return problem(status, path, error.problem, error.remedy, headers=headers)


def _not_valid(error: RequestValidationError, path: str) -> Response:
    """What is wrong and where, without what was sent."""
    found = [
        WrongField(where=_where(each["loc"]), problem=str(each["msg"])[:LONGEST])
        for each in error.errors()[:MOST_ERRORS]
    ]
    first = f": {found[0].where}: {found[0].problem}" if found else ""
    return problem(422, path, f"the request is not valid{first}.", errors=found)


def _where(location: tuple[Any, ...]) -> str:
    return ".".join(map(str, location))[:LONGEST]


def install(app: FastAPI) -> None:
    """Let the app answer all errors so."""

    async def handle(request: Request, error: Exception) -> Response:
        return answer(error, request.url.path)

    for kind in (QuantlabError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handle)
