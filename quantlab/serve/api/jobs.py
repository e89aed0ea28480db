"""Jobs: verbs of quantlab that a worker runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy import Row
from starlette.exceptions import HTTPException

from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.answers import Reply, listed, page, respond, shown
from quantlab.serve.api.common import (
    PREFIX,
    Cascade,
    FilePath,
    Key,
    Limit,
    ListPage,
    Number,
    ServiceOf,
    address,
    binary,
    download,
    file_of,
    iso,
    problems,
    unchanged_or,
)
from quantlab.serve.queue import Job, JobState
from quantlab.serve.removal import Removal
from quantlab.serve.requests import VERBS
from quantlab.serve.requests import Request as JobRequest

router = APIRouter(prefix=f"{PREFIX}/jobs", tags=["jobs"])
if TYPE_CHECKING:
    Verb: TypeAlias = str
else:
    Verb = Literal[VERBS]


class JobLinks(BaseModel):
    """Addresses; of the run and its report once there is one."""

    self: str
    events: str
    files: str
    run: str | None
    report: str | None


class FileView(BaseModel):
    """A file of a job."""

    path: str = Field(description="in the job's folder", examples=["mobilenetv2-12.int8.onnx"])
    bytes: int


class JobSummary(BaseModel):
    """A job as lists show it."""

    id: str = Field(examples=["8c5c2f1d9e0a4b37"])
    verb: str
    request: dict[str, Any] = Field(description="what was asked, without defaults")
    state: JobState
    cancelled: bool = Field(description="whether it was told to stop")
    attempts: int = Field(description="workers that took it up")
    progress: dict[str, Any] | None = Field(description="label, total, done, note")
    exit_code: int | None = Field(description="of the verb: 0, 1, 2, 3 or 4")
    run: str | None = Field(description="the run folder that it left")
    created: str
    started: str | None
    finished: str | None
    links: JobLinks


class JobView(JobSummary):
    """A job."""

    out: str | None = Field(description="what the verb printed")
    error: str | None = Field(description="what went wrong, and on a second line the remedy")
    files: list[FileView]


def job_view(job: Job) -> JobView:
    """As the API shows it."""
    return JobView(**_facts(job), out=job.out, error=job.error, files=file_views(job))


def _facts(job: Job | Row[Any]) -> dict[str, Any]:
    """As lists show it: a JobSummary without the object."""
    where = address("jobs", job.id)
    run = None if job.run is None else address("runs", job.run)
    reported = f"runs/{job.run}/report.html" in (job.files or ())
    return {
        "id": job.id,
        "verb": job.verb,
        "request": job.request,
        "state": job.state,
        "cancelled": job.cancelled,
        "attempts": job.attempts,
        "progress": progress_of(job.progress),
        "exit_code": job.exit_code,
        "run": job.run,
        "created": iso(job.created),
        "started": iso(job.started),
        "finished": iso(job.finished),
        "links": {
            "self": where,
            "events": f"{where}/events",
            "files": f"{where}/files",
            "run": run,
            "report": f"{run}/report" if reported else None,
        },
    }


def progress_of(told: dict[str, Any] | None) -> dict[str, Any] | None:
    """The job's progress as the API shows it."""
    names = ("label", "total", "done", "note")
    return None if told is None else {name: told.get(name) for name in names}


def file_views(job: Job) -> list[FileView]:
    """The job's files."""
    return [FileView(path=path, bytes=size) for path, size in job.files.items()]


IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="the same key of the same token is the same job",
    ),
]


@router.post(
    "",
    summary="Ask for a job",
    status_code=202,
    responses={
        200: {"model": JobView, "description": "The job of this Idempotency-Key."},
        **problems(404, 408, 409),
    },
)
def submit(
    service: ServiceOf,
    token: MaySubmit,
    asked: JobRequest,
    answer: Response,
    idempotency_key: IdempotencyKey = None,
) -> JobView:
    """Submit a job. Names are resolved now: a model's name stands for the newest model of that
    name."""
    job, new = service.submit(asked, token.id, idempotency_key)
    answer.status_code = 202 if new else 200
    answer.headers["Location"] = address("jobs", job.id)
    return job_view(job)


@router.get(
    "",
    summary="The jobs, the newest first",
    response_model=ListPage[JobSummary],
    responses=unchanged_or(),
)
async def jobs(
    service: ServiceOf,
    _: MayRead,
    request: Request,
    state: Annotated[
        list[JobState] | None, Query(max_length=5, description="one or several")
    ] = None,
    verb: Verb | None = None,
    limit: Limit = 50,
    after: Number = None,
) -> Response:
    """List jobs, without their output and files."""

    def make() -> Reply:
        rows = service.queue.summaries(states=state or (), verb=verb, before=after, limit=limit + 1)
        return page(request, rows, limit, _facts, lambda job: job.number)

    return await respond(request, make)


@router.get("/{job}", summary="One job", response_model=JobView, responses=unchanged_or(404))
async def job(service: ServiceOf, _: MayRead, request: Request, job: Key) -> Response:
    """Get a job by its id."""
    return await respond(request, lambda: shown(job_view(service.queue.get(job))))


@router.post(
    "/{job}/cancel", summary="Tell a job to stop", status_code=202, responses=problems(404)
)
def cancel(service: ServiceOf, token: MaySubmit, job: Key) -> JobView:
    """One that waits ends at once; a running tune keeps its best file. Another token's job needs
    the scope admin."""
    found = service.queue.get(job)
    if found.token != token.id and not token.allows("admin"):
        raise HTTPException(403, "the job of another token needs the scope admin.")
    return job_view(service.queue.cancel(job))


@router.get(
    "/{job}/files",
    summary="What a job has written",
    response_model=ListPage[FileView],
    responses=unchanged_or(404),
)
async def files(service: ServiceOf, _: MayRead, request: Request, job: Key) -> Response:
    """List the files of a job that has ended."""
    return await respond(request, lambda: listed(file_views(service.queue.get(job))))


@router.get(
    "/{job}/files/{path:path}",
    summary="One file",
    response_class=Response,
    responses={**problems(404), **binary("The file.", "*/*")},
)
def file(service: ServiceOf, _: MayRead, job: Key, path: FilePath) -> Response:
    """Download a file by its path in the job's folder."""
    found = service.queue.get(job)
    size = file_of(found.files, path)
    return download(service.objects, f"{found.folder}/{path}", path.rpartition("/")[2], size)


@router.delete("/{job}", summary="Delete a job", status_code=204, responses=problems(404, 409))
def delete_job(service: ServiceOf, token: MaySubmit, job: Key, cascade: Cascade = False) -> None:
    """With its run and files. Refused while it has not ended, and while a baseline or a job that
    has not ended needs it. Another token's needs the scope admin."""
    Removal(service, token).job(job, cascade=cascade)
