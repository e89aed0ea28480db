"""Pages of monitors, their alerts, and where these go."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from quantlab.errors import QuantlabError
from quantlab.serve.access import MayAdminister, MayRead, MaySubmit
from quantlab.serve.alerts import FORMS
from quantlab.serve.api.alerts import facts_of, made_receiver
from quantlab.serve.api.common import Key, NamePath, Number, ServiceOf
from quantlab.serve.api.monitors import owned
from quantlab.serve.catalog import check_name
from quantlab.serve.monitors import WATCHED
from quantlab.serve.service import stored_request
from quantlab.serve.watching import Watching
from quantlab.serve.web import watched
from quantlab.serve.web.common import ROWS, Sent, further, one, page

SILENCES = {"1": "a day", "7": "a week", "30": "30 days"}
router = APIRouter(include_in_schema=False)


@router.get("/monitors")
def monitors_page(
    request: Request, service: ServiceOf, caller: MayRead, after: Number = None
) -> Response:
    """List monitors, the newest alerts, and receivers."""
    watching = Watching(service.database)
    now = watching.now()
    alerts, older = _alerts(watching, None, after)
    return page(
        request,
        "monitors.html.j2",
        rows=[watched.monitor_row(each, now) for each in watching.monitors()],
        alerts=alerts,
        older=further(request, older),
        receivers=[facts_of(each) for each in watching.receivers()],
        forms=FORMS,
        may_administer=caller.allows("admin"),
        verbs=WATCHED,
    )


@router.get("/monitors/{name}")
def monitor_page(
    request: Request, service: ServiceOf, caller: MayRead, name: NamePath, after: Number = None
) -> Response:
    """Show one monitor and its alerts."""
    watching = Watching(service.database)
    monitor = watching.monitor(name)
    now = watching.now()
    alerts, older = _alerts(watching, name, after)
    return page(
        request,
        "monitor.html.j2",
        row=watched.monitor_row(monitor, now),
        enabled=monitor.enabled,
        silent=monitor.silent(now),
        problem=monitor.last.problem if monitor.last is not None else "",
        facts=watched.facts(monitor),
        alerts=alerts,
        older=further(request, older),
        silences=SILENCES,
        may_change=caller.allows("submit") and caller.owns(monitor.token),
    )


def _alerts(
    watching: Watching, monitor: str | None, before: int | None
) -> tuple[list[watched.AlertRow], str | None]:
    """A part of the list, and where the next begins."""
    found = watching.alerts(monitor=monitor, before=before, limit=ROWS + 1)
    older = str(found[ROWS - 1].number) if len(found) > ROWS else None
    rows = found[:ROWS]
    sent = watching.deliveries_of([alert.number for alert in rows])
    return [watched.alert_row(alert, sent.get(alert.number, ())) for alert in rows], older


@router.post("/monitors")
def create(service: ServiceOf, caller: MaySubmit, sent: Sent) -> Response:
    """Watch what a job has done."""
    job = service.queue.get(one(sent, "job"))
    name, schedule = one(sent, "name").strip(), one(sent, "schedule").strip()
    check_name(name)
    facts = watched.newest(job)
    request = stored_request(facts, f"the job {job.id}")
    if request.verb not in WATCHED:
        raise QuantlabError(f"a monitor does no {request.verb}.", f"Only {', '.join(WATCHED)}.")
    service.inputs(request)
    Watching(service.database).create(
        name,
        caller.id,
        request=facts,
        schedule=schedule or None,
        on_version=bool(one(sent, "on_version")),
        on_environment=bool(one(sent, "on_environment")),
        enabled=True,
        receivers=list(sent.get("receiver", ())),
    )
    return RedirectResponse(f"/monitors/{name}", 303)


@router.get("/jobs/{job_id}/watch")
def watch_page(request: Request, service: ServiceOf, _: MaySubmit, job_id: Key) -> Response:
    """Show the form that makes a monitor of a job."""
    job = service.queue.get(job_id)
    if job.verb not in WATCHED:
        raise HTTPException(404, "there is no such page.")
    return page(
        request,
        "watch.html.j2",
        job=job.id,
        asked=watched.asked_words(watched.newest(job)),
        receivers=[each.name for each in Watching(service.database).receivers()],
    )


@router.post("/monitors/{name}/{act}")
def act(service: ServiceOf, caller: MaySubmit, name: NamePath, act: str, sent: Sent) -> Response:
    """What a button of a monitor's page does."""
    watching = owned(service, caller, name)
    if act == "run":
        watching.change(name, asked=True)
    elif act in ("pause", "resume"):
        watching.change(name, enabled=act == "resume")
    elif act == "silence":
        days = one(sent, "days")
        seconds = int(days) * 86400.0 if days in SILENCES else None
        watching.silence(name, None if seconds is None else watching.now() + seconds)
    elif act == "remove":
        watching.remove(name)
        return RedirectResponse("/monitors", 303)
    else:
        raise HTTPException(404, "there is no such page.")
    return RedirectResponse(f"/monitors/{name}", 303)


@router.post("/receivers")
def add_receiver(request: Request, service: ServiceOf, _: MayAdminister, sent: Sent) -> Response:
    """Make a receiver, and show its secret this once."""
    name, form = one(sent, "name").strip(), one(sent, "form")
    check_name(name)
    known = next((each for each in FORMS if each == form), None)
    if known is None:
        raise QuantlabError(f"a receiver is one of these: {', '.join(FORMS)}.")
    made = made_receiver(service, name, known, one(sent, "address").strip())
    if made.form != "webhook":
        return RedirectResponse("/monitors#receivers", 303)
    return page(request, "secret.html.j2", receiver=made.name, secret=made.secret)


@router.post("/receivers/{name}/{act}")
def act_on_receiver(service: ServiceOf, _: MayAdminister, name: NamePath, act: str) -> Response:
    """Send it a test, or remove it."""
    watching = Watching(service.database)
    if act == "test":
        watching.test(name)
    elif act == "remove":
        watching.remove_receiver(name)
    else:
        raise HTTPException(404, "there is no such page.")
    return RedirectResponse("/monitors", 303)
