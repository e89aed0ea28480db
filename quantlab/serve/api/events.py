"""Events: a job's messages and progress, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, TypeVar

import anyio
from fastapi import APIRouter, Header, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from quantlab.serve.access import MayRead
from quantlab.serve.api.common import PREFIX, Key, ServiceOf, problems
from quantlab.serve.api.jobs import job_view, progress_of
from quantlab.serve.db import UnavailableError
from quantlab.serve.queue import Job, JobEvent, TooManyError
from quantlab.serve.service import Service

router = APIRouter(prefix=f"{PREFIX}/jobs", tags=["jobs"])
MOST_STREAMS = 200
"""At a time."""
PAUSES = (0.2, 2.0)
"""Seconds between two looks into the database: the first after a word, the last in long silence."""
AT_ONCE = 500
SECONDS_TO_TAKE = 60.0
"""A client that takes nothing for so long is left."""
FoundEvents = TypeVar("FoundEvents")
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["say", "warn", "again", "progress", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string"},
    },
    "required": ["event", "data"],
}
_STREAM = {"description": "The events.", "content": {"text/event-stream": {"schema": _EVENT}}}


class Streams:
    """Counts the open streams; holds threads for them, so that they take none from other
    requests."""

    def __init__(self) -> None:
        self.open = 0
        self.threads = anyio.CapacityLimiter(4)

    async def ask(self, look: Callable[[], FoundEvents]) -> FoundEvents:
        """Query the database in a thread, off the event loop."""
        return await anyio.to_thread.run_sync(look, limiter=self.threads)


@router.get(
    "/{job}/events",
    summary="What a job says, as it says it",
    response_class=Response,
    responses={**problems(404), 200: _STREAM},
)
async def events(
    service: ServiceOf,
    _: MayRead,
    request: Request,
    job: Key,
    last_event_id: Annotated[
        int | None, Header(ge=0, le=2**31 - 1, description="go on after this event")
    ] = None,
) -> Response:
    """`say`, `warn` and `again` (a new attempt begins) have an id and `{"text"}`; `progress` has
    `{"label", "total", "done", "note"}` and no id, with `done` null when it is over; the last is
    `end` with the job."""
    streams: Streams = request.app.state.streams
    await streams.ask(partial(service.queue.get, job))
    if streams.open >= MOST_STREAMS:
        raise TooManyError(
            "too many streams of events are open.", "Poll the job instead: GET /jobs/ID."
        )
    said = _counted(streams, _events_of(service, streams, job, last_event_id or 0))
    return EventSourceResponse(said, send_timeout=SECONDS_TO_TAKE)


async def _counted(
    streams: Streams, said: AsyncIterator[ServerSentEvent]
) -> AsyncIterator[ServerSentEvent]:
    streams.open += 1
    try:
        async for event in said:
            yield event
    finally:
        streams.open -= 1


async def _events_of(
    service: Service, streams: Streams, job_id: str, after: int
) -> AsyncIterator[ServerSentEvent]:
    """All events after one, until the job has ended. While the database is unavailable none
    come."""
    pause, shown = PAUSES[0], None
    while True:
        try:
            job, found = await streams.ask(partial(_look, service, job_id, after))
        except UnavailableError:
            job, found = None, []
        for event in found:
            after = event.number
            yield _sent(event.kind, {"text": event.text}, after)
        if job is not None and job.progress != shown:
            facts = progress_of(job.progress or {**(shown or {}), "done": None})
            yield _sent("progress", facts or {})
            pause, shown = PAUSES[0], job.progress
        if job is not None and job.ended and len(found) < AT_ONCE:
            yield _sent("end", job_view(job).model_dump(mode="json"))
            return
        if len(found) < AT_ONCE:
            pause = PAUSES[0] if found else min(pause * 1.5, PAUSES[1])
            await asyncio.sleep(pause)


def _look(service: Service, job_id: str, after: int) -> tuple[Job, list[JobEvent]]:
    """The job first: all that it said before it ended is then among the events."""
    return service.queue.get(job_id), service.queue.events(job_id, after, AT_ONCE)


def _sent(kind: str, facts: dict[str, Any], number: int | None = None) -> ServerSentEvent:
    text = json.dumps(facts)
    return ServerSentEvent(text, event=kind, id=None if number is None else str(number))
