"""Answers: JSON that every caller who may read is given alike, with an entity tag.

An answer is given again until the database has changed. Requests for one address that come while
its answer is being made share the next one, which is made after they came. Either way, what a
client has seen stored is in every answer to a later request.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlencode

from fastapi import Request, Response
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from quantlab.serve.db import Database

Row = TypeVar("Row")
TO_ASK_AGAIN = "private, no-cache"
"""A browser may keep the answer, and asks before each use whether it is still the same."""
MOST_KNOWN = 256
"""Answers that are kept, of 20 KB each as a rule."""


@dataclass(frozen=True)
class Reply:
    """A body in JSON and its headers."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tag(self) -> str:
        """The entity tag (RFC 9110): another one for every other body."""
        return f'W/"{hashlib.sha256(self.body).hexdigest()[:32]}"'


class Replies:
    """Makes the answers of one application. For the event loop's thread alone."""

    def __init__(self, database: Database) -> None:
        self._version = database.version
        self._known = dict[str, tuple[int | None, Reply]]()
        self._making = dict[str, asyncio.Task[Reply]]()
        self._next = dict[str, asyncio.Task[Reply]]()

    async def made(self, address: str, make: Callable[[], Reply], *, lasting: bool) -> Reply:
        """An answer for this address that holds now; ``make`` runs in a thread. ``lasting``: it
        stays the same until the database changes."""
        version, known = self._known.get(address, (None, None))
        if known is not None and version is not None and version == self._version():
            return known
        task = self._next.get(address)
        if task is None:
            task = self._next[address] = asyncio.create_task(self._make(address, make, lasting))
        return await asyncio.shield(task)  # who goes away takes it from nobody

    async def _make(self, address: str, make: Callable[[], Reply], lasting: bool) -> Reply:
        if (before := self._making.get(address)) is not None:
            await asyncio.wait([before])
        self._making[address] = self._next.pop(address)
        version = self._version() if lasting else None
        try:
            answer = await run_in_threadpool(make)
        finally:
            del self._making[address]
        if version is not None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[address] = version, answer
        return answer


async def respond(request: Request, make: Callable[[], Reply], *, lasting: bool = True) -> Response:
    """Answer a request: with 304 and no body where the client has the answer already.
    ``lasting``: the answer stays the same until the database changes."""
    url, answers = request.url, request.app.state.answers
    found: Reply = await answers.made(f"{url.path}?{url.query}", make, lasting=lasting)
    headers = {"Cache-Control": TO_ASK_AGAIN, "ETag": found.tag, **found.headers}
    if matches(request.headers.get("if-none-match"), found.tag):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type="application/json")


def matches(given: str | None, tag: str) -> bool:
    """Whether an If-None-Match header names this entity tag, compared weakly."""
    tags = [each.strip().removeprefix("W/") for each in (given or "").split(",")]
    return tags == ["*"] or tag.removeprefix("W/") in tags


def shown(value: BaseModel) -> Reply:
    """One thing."""
    return Reply(value.model_dump_json().encode())


def listed(items: Iterable[Any]) -> Reply:
    """A whole list of models, or of mappings that say what a model would."""
    return Reply(_list(items, None))


def page(
    request: Request,
    rows: Sequence[Row],
    limit: int,
    show: Callable[[Row], Any],
    cursor: Callable[[Row], object],
) -> Reply:
    """The page of at most ``limit`` rows, of which one more was asked for; also with a Link header
    (RFC 8288) to the next page."""
    if len(rows) <= limit:
        return listed(map(show, rows))
    query = {**request.query_params, "after": str(cursor(rows[limit - 1]))}
    after = f"{request.url.path}?{urlencode(query)}"
    return Reply(_list(map(show, rows[:limit]), after), {"Link": f'<{after}>; rel="next"'})


def _list(items: Iterable[Any], after: str | None) -> bytes:
    return to_json({"items": list(items), "next": after}, inf_nan_mode="null")
