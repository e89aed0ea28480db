"""Shared by the resources: the service, files, documented problems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import quote

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from quantlab.serve.objects import PIECE, Objects
from quantlab.serve.problems import MEDIA_TYPE, Problem
from quantlab.serve.queue import NotFoundError
from quantlab.serve.runs import Runs
from quantlab.serve.service import Service
from quantlab.verbs.options.option import Name

PREFIX = "/api/v1"
FILE_POLICY = "default-src 'none'; sandbox"
"""Of files that jobs have written: a browser runs nothing in them, and gives them no origin."""
MOST_ITEMS = 200
_REMEMBERED = 2**14
"""Times and addresses: the same rows are in one list after the other."""
Item = TypeVar("Item")


async def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


async def _runs(request: Request) -> Runs:
    runs: Runs = request.app.state.runs
    return runs


ServiceOf = Annotated[Service, Depends(_service)]
RunsOf = Annotated[Runs, Depends(_runs)]
Limit = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="items in a page")]
Number = Annotated[
    int | None, Query(ge=0, le=2**31 - 1, description="where the page before has ended")
]
"""Of what is numbered: a page holds items of smaller numbers."""
Key = Annotated[str, Path(pattern=r"^[0-9a-f]{1,32}$", examples=["8c5c2f1d9e0a4b37"])]
"""Of a job or an upload."""
NamePath = Annotated[Name, Path()]
RunName = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$",
        description="a run folder's name",
        examples=["20261122T101500Z-tune-ab12cd"],
    ),
]
FilePath = Annotated[str, Path(max_length=1000, examples=["run.json"])]


class ListPage(BaseModel, Generic[Item]):
    """A part of a list. ``next`` is the address of the next part, null after the last."""

    items: list[Item]
    next: str | None = Field(description="the next page", examples=[f"{PREFIX}/jobs?after=41"])


def problems(*statuses: int, open_to_all: bool = False) -> dict[int | str, dict[str, Any]]:
    """The documented problems of an endpoint: these, and what any may answer; ``open_to_all``: it
    needs no token."""
    refused = () if open_to_all else (401, 403)
    return {
        status: {
            "description": _MEANINGS[status],
            "model": Problem,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, *refused, 400, 413, 422, 429, 503})
    }


def unchanged_or(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The documented responses of an endpoint whose answers have an entity tag."""
    return {304: {"description": "The client has it already."}, **problems(*statuses)}


_MEANINGS = {
    400: "The request cannot be read.",
    401: "A token is needed.",
    403: "The token's scope does not allow it.",
    404: "There is no such thing.",
    408: "The request's body did not come.",
    409: "It does not fit what is there.",
    413: "The request's body is too large.",
    422: "The request is not valid.",
    429: "Too many requests, or too much under way; see Retry-After.",
    503: "The service cannot do it now; see Retry-After.",
}


@lru_cache(_REMEMBERED)
def iso(seconds: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@lru_cache(_REMEMBERED)
def address(*parts: str) -> str:
    """The path of a resource."""
    return "/".join([PREFIX, *(quote(part) for part in parts)])


def contents(objects: Objects, key: str) -> Iterator[bytes]:
    """An object in pieces; the first is read at once. Raises NotFoundError where it is gone."""

    def pieces() -> Iterator[bytes]:
        with objects.open(key) as file:
            while piece := file.read(PIECE):
                yield piece

    rest = pieces()
    return chain([next(rest, b"")], rest)


def download(
    objects: Objects,
    key: str,
    name: str,
    size: int,
    *,
    media_type: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> StreamingResponse:
    """A file as a download of that name, which no browser opens as a page of ours."""
    kind = media_type or _MEDIA_TYPES.get(PurePosixPath(name).suffix, "application/octet-stream")
    found = {
        "Content-Length": str(size),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": FILE_POLICY,
        **(headers or {}),
    }
    return StreamingResponse(contents(objects, key), headers=found, media_type=kind)


_MEDIA_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown",
    ".html": "text/html",
    ".csv": "text/csv",
    ".yaml": "application/yaml",
    ".xml": "application/xml",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


def file_of(files: Mapping[str, int], path: str) -> int:
    """The bytes of one of these files. Raises NotFoundError for any other path."""
    if path not in files:
        raise NotFoundError("there is no such file.", "Ask for the list of files.")
    return files[path]


def binary(description: str, *media_types: str) -> dict[int | str, dict[str, Any]]:
    """The documented response of an endpoint that answers with a file."""
    content: dict[str, dict[str, Any]] = {kind: {} for kind in media_types}
    return {200: {"description": description, "content": content}}
