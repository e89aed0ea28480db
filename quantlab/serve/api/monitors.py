"""Monitors: evaluations that the service repeats by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union

from fastapi import APIRouter, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from quantlab.errors import QuantlabError
from quantlab.serve.access import MayRead, MaySubmit
from quantlab.serve.api.answers import listed, respond, shown
from quantlab.serve.api.common import (
    PREFIX,
    ListPage,
    NamePath,
    ServiceOf,
    address,
    iso,
    problems,
    unchanged_or,
)
from quantlab.serve.monitors import LONGEST_SCHEDULE, WATCHED, Monitor
from quantlab.serve.requests import REQUESTS, AnyRequest
from quantlab.serve.service import Service
from quantlab.serve.tokens import Token
from quantlab.serve.watching import Watching
from quantlab.verbs.options.option import Name

router = APIRouter(prefix=f"{PREFIX}/monitors", tags=["monitors"])
MOST_RECEIVERS = 20
LONGEST_SILENCE = 366 * 86400.0
if TYPE_CHECKING:
    WatchedRequest: TypeAlias = AnyRequest
else:
    WatchedRequest = Annotated[
        Union[tuple(REQUESTS[verb] for verb in WATCHED)],  # noqa: UP007
        Field(
            discriminator="verb",
            description="what is repeated; a model's name stands for its newest version",
        ),
    ]
Schedule = Annotated[
    str | None,
    Field(
        max_length=LONGEST_SCHEDULE,
        description="cron, in UTC: minute, hour, day, month, weekday; null: by none",
        examples=["0 3 * * *"],
    ),
]
OnVersion = Annotated[bool, Field(description="also when a model's name has a new version")]
OnEnvironment = Annotated[
    bool, Field(description="also when a worker has another CPU, or other versions of runtimes")
]
ReceiverNames = Annotated[
    tuple[Name, ...], Field(max_length=MOST_RECEIVERS, description="where its alerts go")
]


class MonitorRequest(BaseModel):
    """A monitor to make. Its first job begins at once."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    request: WatchedRequest
    schedule: Schedule = None
    on_version: OnVersion = True
    on_environment: OnEnvironment = False
    enabled: bool = True
    receivers: ReceiverNames = ()


class MonitorChange(BaseModel):
    """What is to be changed; the rest stays."""

    model_config = ConfigDict(extra="forbid")

    request: WatchedRequest | None = None
    schedule: Schedule = None
    on_version: OnVersion | None = None
    on_environment: OnEnvironment | None = None
    enabled: bool | None = None
    receivers: ReceiverNames | None = None


class Silence(BaseModel):
    """Until when no alerts are sent."""

    model_config = ConfigDict(extra="forbid")

    until: AwareDatetime | None = Field(
        description="at most a year ahead; null, or a time that is over: from now on they are sent"
    )


class ResultView(BaseModel):
    """What its last job has shown."""

    time: str
    verdict: str = Field(description="the last one that there was; empty for evaluate")
    problem: str = Field(description="why it could not run, else empty")
    job: str | None
    run: str | None


class MonitorLinks(BaseModel):
    """Addresses; of the open job and of the last run where there are such."""

    self: str
    job: str | None
    run: str | None


class MonitorView(BaseModel):
    """A monitor."""

    name: str
    owner: str = Field(description="the id of the token that made it, for which its jobs count")
    request: dict[str, Any]
    schedule: str | None
    on_version: bool
    on_environment: bool
    enabled: bool
    receivers: list[str]
    silenced: str | None = Field(description="until when")
    next: str | None = Field(description="when the schedule wants the next job")
    last: ResultView | None
    created: str
    links: MonitorLinks


@router.get(
    "",
    summary="The monitors, by name",
    response_model=ListPage[MonitorView],
    responses=unchanged_or(),
)
async def monitors(service: ServiceOf, _: MayRead, request: Request) -> Response:
    """List all monitors."""
    watching = Watching(service.database)
    return await respond(request, lambda: listed(map(_view, watching.monitors())))


@router.post("", summary="Make a monitor", status_code=201, responses=problems(404, 408, 409))
def create_monitor(
    service: ServiceOf, token: MaySubmit, asked: MonitorRequest, answer: Response
) -> MonitorView:
    """Its jobs are those of the token, and count for its limit."""
    values = {name: getattr(asked, name) for name in MonitorChange.model_fields}
    values |= {"request": _stored(service, asked.request), "receivers": list(asked.receivers)}
    made = Watching(service.database).create(asked.name, token.id, **values)
    answer.headers["Location"] = address("monitors", made.name)
    return _view(made)


@router.get(
    "/{name}", summary="One monitor", response_model=MonitorView, responses=unchanged_or(404)
)
async def monitor(service: ServiceOf, _: MayRead, request: Request, name: NamePath) -> Response:
    """Get a monitor by its name."""
    watching = Watching(service.database)
    return await respond(request, lambda: shown(_view(watching.monitor(name))))


@router.patch("/{name}", summary="Change a monitor", responses=problems(404, 408))
def change_monitor(
    service: ServiceOf, token: MaySubmit, name: NamePath, asked: MonitorChange
) -> MonitorView:
    """One with another request begins anew. Another token's monitor needs the scope admin."""
    watching = owned(service, token, name)
    given = {field: getattr(asked, field) for field in asked.model_fields_set}
    values = {field: v for field, v in given.items() if v is not None or field == "schedule"}
    if asked.request is not None:
        values["request"] = _stored(service, asked.request)
    if asked.receivers is not None:
        values["receivers"] = list(asked.receivers)
    return _view(watching.change(name, **values))


@router.delete("/{name}", summary="Remove a monitor", status_code=204, responses=problems(404))
def remove_monitor(service: ServiceOf, token: MaySubmit, name: NamePath) -> None:
    """Its jobs, runs and alerts stay. Another token's monitor needs the scope admin."""
    owned(service, token, name).remove(name)


@router.post(
    "/{name}/run", summary="Let a monitor run now", status_code=202, responses=problems(404)
)
def run_monitor(service: ServiceOf, token: MaySubmit, name: NamePath) -> MonitorView:
    """Its job begins within seconds, also where the monitor is not enabled; after the open one
    where there is one. Another token's monitor needs the scope admin."""
    return _view(owned(service, token, name).change(name, asked=True))


@router.post("/{name}/silence", summary="Silence a monitor", responses=problems(404, 408))
def silence_monitor(
    service: ServiceOf, token: MaySubmit, name: NamePath, asked: Silence
) -> MonitorView:
    """It goes on; its alerts are kept, and not sent. Another token's monitor needs the scope
    admin."""
    watching = owned(service, token, name)
    until = None if asked.until is None else asked.until.timestamp()
    return _view(silenced(watching, name, until))


def silenced(watching: Watching, name: str, until: float | None) -> Monitor:
    """The monitor, silenced. Raises NotFoundError, QuantlabError for a time too far."""
    now = watching.now()
    if until is not None and until > now + LONGEST_SILENCE:
        raise QuantlabError("a monitor is silenced for a year at most.")
    return watching.silence(name, None if until is None or until <= now else until)


def owned(service: Service, token: Token, name: str) -> Watching:
    """The monitors, if the token may change this one. Raises NotFoundError, HTTPException."""
    watching = Watching(service.database)
    if not token.owns(watching.monitor(name).token):
        raise HTTPException(403, "the monitor of another token needs the scope admin.")
    return watching


def _stored(service: Service, request: AnyRequest) -> dict[str, Any]:
    """A request as it is stored. Raises NotFoundError for a name that stands for nothing."""
    service.inputs(request)
    return request.model_dump(mode="json", exclude_defaults=True)


def _view(monitor: Monitor) -> MonitorView:
    last = monitor.last
    run = last.run if last is not None else None
    return MonitorView(
        name=monitor.name,
        owner=monitor.token,
        request=monitor.request,
        schedule=monitor.schedule,
        on_version=monitor.on_version,
        on_environment=monitor.on_environment,
        enabled=monitor.enabled,
        receivers=list(monitor.receivers),
        silenced=iso(monitor.silenced),
        next=iso(monitor.next) if monitor.enabled else None,
        last=last
        and ResultView(
            time=iso(last.time) or "",
            verdict=last.verdict,
            problem=last.problem,
            job=last.job,
            run=last.run,
        ),
        created=iso(monitor.created) or "",
        links=MonitorLinks(
            self=address("monitors", monitor.name),
            job=monitor.job and address("jobs", monitor.job),
            run=run and address("runs", run),
        ),
    )
