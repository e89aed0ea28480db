"""Problems: errors as HTTP tells them, by RFC 9457 (application/problem+json).

What is the client's to mend is said as the command line says it. What is the server's own is said
in general words, without its places; the log has the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from quantlab.errors import OutputError, QuantlabError
from quantlab.serve.db import UnavailableError
from quantlab.serve.objects import ObjectMissingError
from quantlab.serve.queue import ConflictError, NotFoundError, TooManyError
from quantlab.serve.web.rendering import problem_page

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 2
"""After which a database that did not answer may do so."""
ROOM_SECONDS = 60
"""After which a token that has too much under way may have room."""
LONGEST = 300
MOST_ERRORS = 20
log = logging.getLogger("quantlab.serve")


class TooLargeError(QuantlabError):
    """More bytes than the service takes."""


class TooFast(TooManyError):
    """More requests than are let through; ``seconds`` from now on there is room again."""

    def __init__(self, seconds: float) -> None:
        super().__init__("there are too many requests.", f"Wait for {seconds:.0f} s.")
        self.seconds = seconds


class WrongField(BaseModel):
    """A part of the request that is wrong."""

    where: str = Field(examples=["body.data"])
    problem: str = Field(examples=["Field required"])


class Problem(BaseModel):
    """An error by RFC 9457; ``remedy`` and ``errors`` are additions of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "the service has no model called mobilenet.",
                    "remedy": "Upload it, or ask for what it has.",
                    "instance": "/api/v1/models/mobilenet",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str = Field(description="the status in words")
    status: int
    detail: str = Field(description="what is wrong")
    remedy: str = Field("", description="how to mend it")
    instance: str = Field(description="the request's path")
    errors: list[WrongField] = Field(default=[], description="of a request that is not valid")


_STATUSES: tuple[tuple[type[QuantlabError], int], ...] = (
    (NotFoundError, 404),
    (ObjectMissingError, 404),
    (ConflictError, 409),
    (TooLargeError, 413),
    (TooManyError, 429),
    (UnavailableError, 503),
    (OutputError, 503),
)
_GENERAL = {
    UnavailableError: "the database does not answer.",
    OutputError: "the store does not answer.",
}


def status_of(error: QuantlabError) -> int:
    """The status that tells it: 422 where it is neither known to be another's nor the server's."""
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 422)


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
    if not path.startswith("/api/"):
        return problem_page(found, headers)
    content = json.dumps(found.model_dump(exclude=None if errors else {"errors"}))
    return Response(content, status, headers, media_type=MEDIA_TYPE)


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
