"""Alerts: what monitors have told, where it goes, and whether it arrived."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from quantlab.serve.access import MayAdminister, MayRead
from quantlab.serve.alerts import Alert, Form, Kind
from quantlab.serve.api.answers import Reply, listed, page, respond
from quantlab.serve.api.common import (
    PREFIX,
    Limit,
    ListPage,
    NamePath,
    Number,
    ServiceOf,
    iso,
    problems,
    unchanged_or,
)
from quantlab.serve.outgoing import LONGEST_ADDRESS, Outgoing
from quantlab.serve.watching import Delivery, DeliveryState, Receiver, Watching
from quantlab.verbs.options.option import Name

router = APIRouter(prefix=f"{PREFIX}/alerts", tags=["alerts"])


class AlertView(BaseModel):
    """An alert."""

    number: int
    kind: Kind
    monitor: str = Field(description="its name; empty for a test")
    words: str
    was: str = Field(description="the verdict before, where it changed")
    now: str
    silenced: bool = Field(description="it was kept and not sent")
    time: str
    links: dict[str, str]


class ReceiverRequest(BaseModel):
    """A receiver to make."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    form: Form
    address: str = Field(
        max_length=LONGEST_ADDRESS,
        description="an https URL, of mail an e-mail address; its host must be in `alert_hosts`",
        examples=["https://example.org/hook"],
    )


class ReceiverView(BaseModel):
    """A receiver. URLs may hold secrets: only their host is shown."""

    name: str
    form: Form
    host: str
    created: str


class NewReceiver(ReceiverView):
    """A receiver that was just made."""

    secret: str | None = Field(description="by which webhooks are signed; it is not shown again")


class AttemptView(BaseModel):
    """How an attempt at a delivery went."""

    time: str
    outcome: str = Field(examples=["200 OK"])


class DeliveryView(BaseModel):
    """An alert on its way to a receiver."""

    number: int
    alert: int
    receiver: str
    state: DeliveryState
    attempts: int
    next: str | None = Field(description="when it is tried next")
    log: list[AttemptView]


@router.get(
    "",
    summary="The alerts, the newest first",
    response_model=ListPage[AlertView],
    responses=unchanged_or(),
)
async def alerts(
    service: ServiceOf,
    _: MayRead,
    request: Request,
    monitor: Name | None = None,
    limit: Limit = 50,
    after: Number = None,
) -> Response:
    """List alerts, also those that were silenced."""
    watching = Watching(service.database)

    def make() -> Reply:
        rows = watching.alerts(monitor=monitor, before=after, limit=limit + 1)
        return page(request, rows, limit, _alert, lambda alert: alert.number)

    return await respond(request, make)


@router.get(
    "/deliveries",
    summary="The deliveries, the newest first",
    response_model=ListPage[DeliveryView],
    responses=unchanged_or(),
)
async def deliveries(
    service: ServiceOf,
    _: MayRead,
    request: Request,
    alert: Annotated[int | None, Query(ge=0, le=2**31 - 1, description="its number")] = None,
    state: DeliveryState | None = None,
    limit: Limit = 50,
    after: Number = None,
) -> Response:
    """List deliveries, each with the outcome of every attempt."""
    watching = Watching(service.database)

    def make() -> Reply:
        rows = watching.deliveries(alert=alert, state=state, before=after, limit=limit + 1)
        return page(request, rows, limit, _delivery, lambda delivery: delivery.number)

    return await respond(request, make)


@router.get(
    "/receivers",
    summary="The receivers, by name",
    response_model=ListPage[ReceiverView],
    responses=unchanged_or(),
)
async def receivers(service: ServiceOf, _: MayRead, request: Request) -> Response:
    """List where alerts may go."""
    watching = Watching(service.database)
    return await respond(
        request, lambda: listed(ReceiverView(**facts_of(each)) for each in watching.receivers())
    )


@router.post("/receivers", summary="Make a receiver", status_code=201, responses=problems(408, 409))
def create_receiver(service: ServiceOf, _: MayAdminister, asked: ReceiverRequest) -> NewReceiver:
    """Needs the scope admin. The secret is in this answer alone."""
    made = made_receiver(service, asked.name, asked.form, asked.address)
    return NewReceiver(**facts_of(made), secret=made.secret if made.form == "webhook" else None)


@router.delete(
    "/receivers/{name}",
    summary="Remove a receiver",
    status_code=204,
    responses=problems(404, 409),
)
def remove_receiver(service: ServiceOf, _: MayAdminister, name: NamePath) -> None:
    """Not while a monitor has it. Needs the scope admin."""
    Watching(service.database).remove_receiver(name)


@router.post(
    "/receivers/{name}/test",
    summary="Send a test to a receiver",
    status_code=202,
    responses=problems(404),
)
def send_test(service: ServiceOf, _: MayAdminister, name: NamePath) -> DeliveryView:
    """It is sent within seconds; the list of deliveries has the outcome. Needs the scope admin."""
    return _delivery(Watching(service.database).test(name))


def made_receiver(service: ServiceOf, name: str, form: Form, address: str) -> Receiver:
    """A new receiver. Raises NotSentError for an address that nothing may be sent to,
    ConflictError."""
    outgoing = Outgoing.of(service.settings)
    if form == "mail":
        outgoing.check_mail(address)
    else:
        outgoing.check_url(address)
    return Watching(service.database).add_receiver(name, form, address)


def facts_of(receiver: Receiver) -> dict[str, str]:
    """What may be seen of a receiver."""
    mail = receiver.form == "mail"
    return {
        "name": receiver.name,
        "form": receiver.form,
        "host": receiver.address if mail else urlsplit(receiver.address).netloc,
        "created": iso(receiver.created) or "",
    }


def _alert(alert: Alert) -> AlertView:
    return AlertView(**{**vars(alert), "time": iso(alert.time)})


def _delivery(delivery: Delivery) -> DeliveryView:
    waits = delivery.state == "waiting"
    return DeliveryView(
        number=delivery.number,
        alert=delivery.alert.number,
        receiver=delivery.receiver,
        state=delivery.state,
        attempts=delivery.attempts,
        next=iso(delivery.due) if waits else None,
        log=[AttemptView(time=iso(time) or "", outcome=words) for time, words in delivery.log],
    )
