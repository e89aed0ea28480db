"""Runs: records and reports of finished jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from quantlab.runs.index import Filter, about
from quantlab.runs.record import RunRecord
from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.answers import Reply, listed, page, respond, shown
from quantlab.serve.api.common import (
    PREFIX,
    Cascade,
    FilePath,
    Limit,
    ListPage,
    RunName,
    RunsOf,
    ServiceOf,
    address,
    binary,
    download,
    file_of,
    problems,
    unchanged_or,
)
from quantlab.serve.api.jobs import FileView
from quantlab.serve.api.models import ModelView, model_view
from quantlab.serve.removal import Removal
from quantlab.serve.runs import StoredRun, trials_of
from quantlab.tune.trials import Scores, Trial, pareto_front
from quantlab.verbs.runs import since_of

router = APIRouter(prefix=f"{PREFIX}/runs", tags=["runs"])
REPORT = "report.html"
REPORT_HEADERS = {
    "Content-Disposition": "inline",
    "Content-Security-Policy": "sandbox allow-scripts allow-popups; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
}
"""A report runs its own script, which its own policy names, but without an origin and a cookie."""


class RunLinks(BaseModel):
    """Addresses; of a report where there is one."""

    self: str


class RunSummary(BaseModel):
    """A run as lists show it. ``top1`` and ``decline`` are fractions, of what the run is about."""

    run: str = Field(examples=["20261122T101500Z-tune-ab12cd"])
    verb: str
    status: str
    started: str
    model: str
    sha256: str
    verdict: str = Field(description="pass, fail or inconclusive; empty where nothing was judged")
    top1: float | None
    decline: float | None
    links: RunLinks


class FullLinks(RunLinks):
    """Addresses."""

    job: str
    report: str | None


class RunView(BaseModel):
    """A run: its record as run.json has it, the job that left it, its files."""

    run: str
    job: str
    verdict: str
    top1: float | None
    decline: float | None
    record: RunRecord
    files: list[FileView]
    links: FullLinks


class TrialView(BaseModel):
    """A recipe that a tune tried. ``front``: no other trial beats it in decline, speed and size
    together; ``chosen``: its file is the run's."""

    digest: str = Field(examples=["5f1c6f0e9d3b"])
    number: int
    recipe: str
    status: Literal["scored", "done", "stopped", "failed"]
    sha256: str | None
    size_bytes: int | None
    proxy: float | None = Field(description="mean KL to fp32 on calibration images, nats")
    scores: Scores | None
    error: str | None
    note: str
    front: bool
    chosen: bool


class Picked(BaseModel):
    """The trial to pick."""

    model_config = ConfigDict(extra="forbid")

    trial: str = Field(pattern=r"^[0-9a-f]{4,64}$", examples=["5f1c6f0e9d3b"])


Text = Annotated[str | None, Query(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]


@router.get(
    "",
    summary="The runs, the newest first",
    response_model=ListPage[RunSummary],
    responses=unchanged_or(),
)
async def runs(
    found: RunsOf,
    _: MayRead,
    request: Request,
    verb: Annotated[str | None, Query(pattern=r"^[a-z]{1,20}$")] = None,
    model: Text = None,
    since: Text = None,
    limit: Limit = 50,
    after: Annotated[str | None, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")] = None,
) -> Response:
    """`model`: a part of a name or sha256. `since`: a date, or an age such as 7d."""

    def make() -> Reply:
        begun = None if since is None else since_of(since, datetime.now(UTC))
        rows = found.rows(Filter(verb, model, begun, limit + 1, after))
        return page(request, rows, limit, _summary, lambda row: row.folder)

    return await respond(request, make, lasting=since is None)


@router.get("/{run}", summary="One run", response_model=RunView, responses=unchanged_or(404))
async def run(found: RunsOf, _: MayRead, request: Request, run: RunName) -> Response:
    """Get a run: its options, conditions and results."""
    return await respond(request, lambda: shown(_view(found.get(run))), lasting=False)


@router.get(
    "/{run}/report",
    summary="A run's report",
    response_class=Response,
    responses={**problems(404), **binary("The report.", "text/html")},
)
def report(service: ServiceOf, found: RunsOf, _: MayRead, run: RunName) -> Response:
    """Get the report as a page of its own, which a browser must show without an origin."""
    stored = found.get(run)
    size = file_of(stored.files, REPORT)
    key = stored.key(REPORT)
    return download(
        service.objects, key, REPORT, size, media_type="text/html", headers=REPORT_HEADERS
    )


@router.get(
    "/{run}/files/{path:path}",
    summary="A run's file",
    response_class=Response,
    responses={**problems(404), **binary("The file.", "*/*")},
)
def file(service: ServiceOf, found: RunsOf, _: MayRead, run: RunName, path: FilePath) -> Response:
    """Download a file by its path in the run folder."""
    stored = found.get(run)
    size = file_of(stored.files, path)
    return download(service.objects, stored.key(path), path.rpartition("/")[2], size)


@router.get(
    "/{run}/trials",
    summary="What a tune has tried",
    response_model=ListPage[TrialView],
    responses=unchanged_or(404),
)
async def trials(found: RunsOf, _: MayRead, request: Request, run: RunName) -> Response:
    """List a tune's trials in their order; none for another verb's run."""

    def make() -> Reply:
        record = found.get(run).record
        tried = trials_of(record)
        front = {trial.digest for trial in pareto_front(tried)}
        output: dict[str, Any] = record.results.get("output") or {}
        return listed([_trial(each, each.digest in front, output.get("sha256")) for each in tried])

    return await respond(request, make, lasting=False)


@router.post(
    "/{run}/pick", summary="Take a trial's file", status_code=201, responses=problems(404, 408)
)
def pick(found: RunsOf, token: MaySubmit, run: RunName, picked: Picked) -> ModelView:
    """Make the trial's int8 file a model."""
    return model_view(found.pick(run, picked.trial, token.id))


@router.delete("/{run}", summary="Delete a run", status_code=204, responses=problems(404, 409))
def delete_run(
    service: ServiceOf, token: MaySubmit, run: RunName, cascade: Cascade = False
) -> None:
    """The run folder and its figures; the job stays. Refused where a baseline was made in it.
    Another token's needs the scope admin."""
    Removal(service, token).run(run, cascade=cascade)


def _summary(row: Row[Any]) -> dict[str, Any]:
    """As lists show it: a RunSummary without the object."""
    name, sha256 = about(row.models)
    return {
        "run": row.folder,
        "verb": row.verb,
        "status": row.status,
        "started": row.started,
        "model": name,
        "sha256": sha256,
        "verdict": row.verdict,
        "top1": row.top1,
        "decline": row.decline,
        "links": {"self": address("runs", row.folder)},
    }


def _view(stored: StoredRun) -> RunView:
    where, entry = address("runs", stored.name), stored.entry
    return RunView(
        run=stored.name,
        job=stored.job.id,
        verdict=entry.verdict,
        top1=entry.top1,
        decline=entry.decline,
        record=stored.record,
        files=[FileView(path=path, bytes=size) for path, size in stored.files.items()],
        links=FullLinks(
            self=where,
            job=address("jobs", stored.job.id),
            report=f"{where}/report" if REPORT in stored.files else None,
        ),
    )


def _trial(trial: Trial, front: bool, output: str | None) -> TrialView:
    return TrialView(
        digest=trial.digest,
        number=trial.number,
        recipe=trial.recipe.name,
        status=trial.status,
        sha256=trial.sha256,
        size_bytes=trial.size_bytes,
        proxy=trial.proxy,
        scores=trial.scores,
        error=trial.error,
        note=trial.note,
        front=front,
        chosen=trial.sha256 is not None and trial.sha256 == output,
    )
