"""Pages of jobs: the queue, one job, cancelling."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.common import PREFIX, Key, Number, ServiceOf
from quantlab.serve.monitors import WATCHED
from quantlab.serve.queue import OPEN, STATES, Job, JobState
from quantlab.serve.removal import Removal
from quantlab.serve.tokens import Token
from quantlab.serve.web import views
from quantlab.serve.web.common import ROWS, Sent, further, here, one, page

LINES_SHOWN = 300
"""Of what a job has said, the last ones."""
router = APIRouter(include_in_schema=False)


@router.get("/jobs")
def jobs_page(
    request: Request,
    service: ServiceOf,
    _: MayRead,
    state: Annotated[JobState | None, Query()] = None,
    after: Number = None,
) -> Response:
    """List the queue and the jobs that have ended."""
    states = () if state is None else (state,)
    found = service.queue.recent(states=states, before=after, limit=ROWS + 1)
    older = str(found[ROWS - 1].number) if len(found) > ROWS else None
    rows = [views.job_row(job) for job in found[:ROWS]]
    return page(
        request,
        "jobs.html.j2",
        rows=rows,
        state=state,
        states=STATES,
        older=further(request, older),
        live=any(row.open for row in rows),
        here=here(request),
    )


@router.get("/jobs/{job_id}")
def job_page(request: Request, service: ServiceOf, caller: MayRead, job_id: Key) -> Response:
    """Show one job: progress, messages, files."""
    job = service.queue.get(job_id)
    events = service.queue.last_events(job_id, LINES_SHOWN + 1)
    return page(
        request,
        "job.html.j2",
        view=views.job_view(job, str(request.base_url).rstrip("/")),
        events=events[-LINES_SHOWN:],
        left_out=len(events) > LINES_SHOWN,
        may_delete=job.ended and _may_change(caller, job),
        may_cancel=job.state in OPEN and not job.cancelled and _may_change(caller, job),
        watched=WATCHED,
        made=list(map(views.model_row, service.catalog.made_by(job_id))),
        api=f"{PREFIX}/jobs/{job_id}",
        here=here(request),
    )


def _may_change(caller: Token, job: Job) -> bool:
    """Its own, or with a token of scope admin anybody's."""
    return (caller.allows("submit") and job.token == caller.id) or caller.allows("admin")


@router.post("/jobs/{job_id}/delete")
def delete_job(service: ServiceOf, caller: MaySubmit, job_id: Key, sent: Sent) -> Response:
    """Delete a job with its run and files."""
    Removal(service, caller).job(job_id, cascade=bool(one(sent, "cascade")))
    return RedirectResponse("/jobs", 303)


@router.post("/jobs/{job_id}/cancel")
def cancel(service: ServiceOf, caller: MaySubmit, job_id: Key) -> Response:
    """End a job that waits, ask one that runs to stop."""
    if not _may_change(caller, service.queue.get(job_id)):
        raise HTTPException(403, "the job of another token needs the scope admin.")
    service.queue.cancel(job_id)
    return RedirectResponse(f"/jobs/{job_id}", 303)
