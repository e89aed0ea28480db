"""Views of monitors, alerts and receivers, as the pages show them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quantlab.report.document import Table
from quantlab.report.formats import NOTHING
from quantlab.serve.alerts import Alert
from quantlab.serve.monitors import Monitor
from quantlab.serve.queue import Job
from quantlab.serve.watching import Delivery
from quantlab.serve.web.views import moment


@dataclass(frozen=True)
class MonitorRow:
    """A monitor in a list. ``state`` is the last verdict's word, or that of what there is
    instead; ``notes`` say what keeps it from running or telling."""

    name: str
    state: str
    asked: str
    last: str
    run: str | None
    job: str | None
    next: str
    notes: tuple[str, ...]


def monitor_row(monitor: Monitor, now: float) -> MonitorRow:
    """The row of a monitor."""
    last = monitor.last
    notes: tuple[str, ...] = () if monitor.enabled else ("paused",)
    if monitor.silent(now):
        notes += (f"silenced until {moment(monitor.silenced)}",)
    return MonitorRow(
        name=monitor.name,
        state=_state(monitor),
        asked=asked_words(monitor.request),
        last=NOTHING if last is None else moment(last.time),
        run=None if last is None else last.run,
        job=monitor.job or (None if last is None else last.job),
        next=_next(monitor),
        notes=notes,
    )


def _state(monitor: Monitor) -> str:
    last = monitor.last
    if last is None:
        return "running" if monitor.job else "waiting"
    return "cannot run" if last.problem else last.verdict or "done"


def asked_words(request: Mapping[str, Any]) -> str:
    """A request in short: ``compare net, net.int8 on val``."""
    models = [request[key] for key in ("model", "fp32", "int8", "models") if request.get(key)]
    names = [name for each in models for name in ([each] if isinstance(each, str) else each)]
    data = f" on {request['data']}" if request.get("data") else ""
    return f"{request.get('verb', '')} {', '.join(map(str, names))}{data}".strip()


def _next(monitor: Monitor) -> str:
    if monitor.asked or monitor.job is not None:
        return "now"
    if not monitor.enabled or monitor.next is None:
        return NOTHING
    return moment(monitor.next)


@dataclass(frozen=True)
class AlertRow:
    """An alert, with what became of it at its receivers."""

    when: str
    kind: str
    monitor: str
    words: str
    sent: tuple[str, ...]


def alert_row(alert: Alert, deliveries: Sequence[Delivery]) -> AlertRow:
    """The row of an alert; ``deliveries`` are its own."""
    sent = tuple(map(_delivery, deliveries))
    return AlertRow(
        when=moment(alert.time),
        kind=alert.kind,
        monitor=alert.monitor or NOTHING,
        words=alert.words,
        sent=sent or (("silenced",) if alert.silenced else ("no receiver",)),
    )


def _delivery(delivery: Delivery) -> str:
    """``hook: waiting, tried 2 times: it answered 500.``."""
    words = f"{delivery.receiver}: {delivery.state}"
    if delivery.state == "delivered" or not delivery.log:
        return words
    times = f"{delivery.attempts} time{'s' * (delivery.attempts != 1)}"
    return f"{words}, tried {times}: {delivery.log[-1][1]}"


def facts(monitor: Monitor) -> Table:
    """What a monitor does, and when."""
    when = [
        f"{monitor.schedule} (cron, UTC)" if monitor.schedule else "",
        "a new version of a model" if monitor.on_version else "",
        "another CPU or runtime of a worker" if monitor.on_environment else "",
    ]
    values = {
        **{key.replace("_", " "): _text(value) for key, value in monitor.request.items()},
        "runs": "; ".join(filter(None, when)) or "when it is told to",
        "alerts go to": ", ".join(monitor.receivers) or NOTHING,
        "made": moment(monitor.created),
    }
    return Table(["", "value"], list(values.items()), caption="What it watches", sheet=True)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def newest(job: Job) -> dict[str, Any]:
    """A job's request with the names of its models in place of their sha256s: a monitor of it
    watches their newest versions."""
    names = {model["sha256"]: str(model["name"]) for model in job.inputs.get("models", ())}

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(each) for each in value]
        return names.get(value, value) if isinstance(value, str) else value

    return {key: named(value) for key, value in job.request.items()}
