"""Watching: monitors, alerts, their receivers and deliveries in the database.

Several servers may look after them at once: a monitor's turn is taken by one of them, with the
alerts that follow, and so is an attempt at a delivery. One that is lost before its outcome is
written is made again: a receiver gets each alert at least once.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from quantlab.serve.alerts import MOST_ATTEMPTS, Alert, Event, Form, Result, pause
from quantlab.serve.db import (
    ALERTS,
    DELIVERIES,
    MACHINES,
    MODELS,
    MONITORS,
    RECEIVERS,
    Database,
)
from quantlab.serve.monitors import Monitor, Seen, next_time
from quantlab.serve.queue import ConflictError, NotFoundError, TooManyError

DeliveryState = Literal["waiting", "delivered", "failed"]
DELIVERY_STATES: tuple[DeliveryState, ...] = get_args(DeliveryState)
MOST = 500
"""Monitors, and receivers, of a service."""
ATTEMPT_SECONDS = 120.0
"""After which an attempt whose outcome nobody has written is made again."""
AT_ONCE = 20


@dataclass(frozen=True)
class Receiver:
    """Where alerts go: a URL or an e-mail address, and the secret that signs webhooks."""

    name: str
    form: Form
    address: str
    secret: str
    created: float


@dataclass(frozen=True)
class Delivery:
    """An alert on its way to a receiver. ``due`` is the next attempt's time; ``log`` has the time
    and outcome of each."""

    number: int
    alert: Alert
    receiver: str
    state: DeliveryState
    attempts: int
    due: float
    log: tuple[tuple[float, str], ...]


class Watching:
    """The monitors of a database. All methods raise Unavailable where that does not answer.
    ``clock`` tells the time, as the database does."""

    def __init__(
        self, database: Database, clock: Callable[[Connection], float] | None = None
    ) -> None:
        self.database = database
        self._now = clock or database.now

    def now(self) -> float:
        """The time."""
        with self.database.reading() as connection:
            return self._now(connection)

    def monitors(self) -> list[Monitor]:
        """All monitors, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(MONITORS).order_by(MONITORS.c.name))
            return [_monitor(row) for row in rows]

    def monitor(self, name: str) -> Monitor:
        """The monitor of that name. Raises NotFoundError."""
        with self.database.reading() as connection:
            return self._monitor(connection, name)

    def _monitor(self, connection: Connection, name: str) -> Monitor:
        row = connection.execute(select(MONITORS).where(MONITORS.c.name == name)).first()
        if row is None:
            raise NotFoundError(f"there is no monitor called {name}.")
        return _monitor(row)

    def create(self, name: str, token: str, **values: Any) -> Monitor:
        """A new monitor, whose first job is due at once. Raises ConflictError for a name that is
        taken, NotFoundError for a receiver that is not there, QuantlabError for a wrong
        schedule."""
        try:
            with self.database.writing() as connection:
                _check_room(connection, MONITORS.c.id, "monitors")
                self._check_receivers(connection, values["receivers"])
                now = self._now(connection)
                row = {
                    "id": secrets.token_hex(8),
                    "name": name,
                    "token": token,
                    "turn": 0,
                    "next": next_time(values["schedule"], now),
                    "asked": values["enabled"],
                    "created": now,
                    "seen": {},
                    **values,
                }
                connection.execute(insert(MONITORS).values(row))
                return self._monitor(connection, name)
        except IntegrityError as error:
            text = f"there is a monitor called {name}."
            raise ConflictError(text, "Choose another name.") from error

    def change(self, name: str, **values: Any) -> Monitor:
        """Change columns of a monitor. One that is to watch something else begins anew: its open
        job is not waited for. Raises as ``create`` does."""
        with self.database.writing() as connection:
            before = self._monitor(connection, name)
            self._check_receivers(connection, values.get("receivers", ()))
            values["turn"] = before.turn + 1
            if {"schedule", "enabled"} & values.keys():
                schedule = values.get("schedule", before.schedule)
                values["next"] = next_time(schedule, self._now(connection))
            if values.get("request", before.request) != before.request:
                enabled = values.get("enabled", before.enabled)
                values |= {"job": None, "last": None, "seen": {}, "asked": enabled}
            connection.execute(update(MONITORS).where(MONITORS.c.id == before.id).values(values))
            return self._monitor(connection, name)

    def silence(self, name: str, until: float | None) -> Monitor:
        """Send no alerts of a monitor before that time; None: send them again. Raises
        NotFoundError."""
        with self.database.writing() as connection:
            self._monitor(connection, name)
            mine = update(MONITORS).where(MONITORS.c.name == name)
            connection.execute(mine.values(silenced=until))
            return self._monitor(connection, name)

    def remove(self, name: str) -> None:
        """Forget a monitor; its alerts stay. Raises NotFoundError."""
        with self.database.writing() as connection:
            if not connection.execute(delete(MONITORS).where(MONITORS.c.name == name)).rowcount:
                raise NotFoundError(f"there is no monitor called {name}.")

    def seen(self, names: Iterable[str]) -> Seen:
        """What these models' names stand for now, and what the workers run on."""
        plain = {name: name.removesuffix(".onnx") for name in names}
        newest = (
            select(MODELS.c.name, func.max(MODELS.c.created).label("created"))
            .where(MODELS.c.name.in_(set(plain.values())))
            .group_by(MODELS.c.name)
            .subquery()
        )
        same = (MODELS.c.name == newest.c.name) & (MODELS.c.created == newest.c.created)
        with self.database.reading() as connection:
            rows = connection.execute(select(MODELS.c.name, MODELS.c.sha256).join(newest, same))
            known = {row.name: row.sha256 for row in rows}
            words = connection.scalars(select(MACHINES.c.words).distinct()).all()
        models = {name: known[found] for name, found in plain.items() if found in known}
        return Seen(models=models, machines=tuple(sorted(words)))

    def runs_on(self, machine: str, words: str) -> None:
        """Say what a worker's machine has."""
        row = {"machine": machine, "words": words}
        with self.database.writing(alone=True) as connection:
            known = update(MACHINES).where(MACHINES.c.machine == machine).values(row)
            if not connection.execute(known).rowcount:
                connection.execute(insert(MACHINES).values(row))

    def advance(
        self,
        monitor: Monitor,
        values: Mapping[str, Any],
        events: Iterable[Event] = (),
        links: Mapping[str, str] = {},
    ) -> bool:
        """Take the monitor's turn: store columns and what is to be told, all of it or nothing.
        Returns False where it was taken by another server, or changed."""
        mine = (MONITORS.c.id == monitor.id) & (MONITORS.c.turn == monitor.turn)
        row = {**values, "turn": monitor.turn + 1}
        with self.database.writing() as connection:
            if connection.execute(update(MONITORS).where(mine).values(row)).rowcount != 1:
                return False
            now = self._now(connection)
            for event in events:
                silenced = self._monitor(connection, monitor.name).silent(now)
                key = f"{monitor.key} {event.key}"
                alert = self._tell(connection, key, monitor.name, event, links, silenced)
                if not silenced:
                    self._send(connection, alert, monitor.receivers)
        return True

    def test(self, receiver: str) -> Delivery:
        """An alert to this receiver that is none. Raises NotFoundError."""
        event = Event("test", "This is a test: alerts arrive here.", secrets.token_hex(8))
        with self.database.writing() as connection:
            self._receiver(connection, receiver)
            alert = self._tell(connection, f"test {event.key}", "", event, {}, False)
            self._send(connection, alert, [receiver])
            query = _DELIVERIES.where(DELIVERIES.c.alert == alert)
            return _delivery(connection.execute(query).one())

    def _tell(
        self,
        connection: Connection,
        key: str,
        monitor: str,
        event: Event,
        links: Mapping[str, str],
        silenced: bool,
    ) -> int:
        """Add an alert; its number."""
        row = {
            "key": key,
            "kind": event.kind,
            "monitor": monitor,
            "words": event.words,
            "was": event.was,
            "now": event.now,
            "links": dict(links),
            "silenced": silenced,
            "time": self._now(connection),
        }
        found = connection.execute(insert(ALERTS).values(row)).inserted_primary_key
        assert found is not None
        return int(found[0])

    def _send(self, connection: Connection, alert: int, receivers: Sequence[str]) -> None:
        row = {"alert": alert, "state": "waiting", "attempts": 0, "log": []}
        due = self._now(connection)
        for name in receivers:
            connection.execute(insert(DELIVERIES).values({**row, "receiver": name, "due": due}))

    def alerts(
        self, *, monitor: str | None = None, before: int | None = None, limit: int = 50
    ) -> list[Alert]:
        """The newest first."""
        query = select(ALERTS).order_by(ALERTS.c.number.desc()).limit(limit)
        if monitor is not None:
            query = query.where(ALERTS.c.monitor == monitor)
        if before is not None:
            query = query.where(ALERTS.c.number < before)
        with self.database.reading() as connection:
            return [_alert(row) for row in connection.execute(query)]

    def receivers(self) -> list[Receiver]:
        """All receivers, by name."""
        with self.database.reading() as connection:
            rows = connection.execute(select(RECEIVERS).order_by(RECEIVERS.c.name))
            return [Receiver(**row._asdict()) for row in rows]

    def receiver(self, name: str) -> Receiver:
        """The receiver of that name. Raises NotFoundError."""
        with self.database.reading() as connection:
            return self._receiver(connection, name)

    def _receiver(self, connection: Connection, name: str) -> Receiver:
        row = connection.execute(select(RECEIVERS).where(RECEIVERS.c.name == name)).first()
        if row is None:
            raise NotFoundError(f"there is no receiver called {name}.")
        return Receiver(**row._asdict())

    def _check_receivers(self, connection: Connection, names: Iterable[str]) -> None:
        for name in names:
            self._receiver(connection, name)

    def add_receiver(self, name: str, form: Form, address: str) -> Receiver:
        """A new receiver, with a secret of its own. Raises ConflictError for a name that is
        taken."""
        try:
            with self.database.writing() as connection:
                _check_room(connection, RECEIVERS.c.name, "receivers")
                secret = secrets.token_urlsafe(32)
                made = Receiver(name, form, address, secret, self._now(connection))
                connection.execute(insert(RECEIVERS).values(vars(made)))
        except IntegrityError as error:
            text = f"there is a receiver called {name}."
            raise ConflictError(text, "Choose another name.") from error
        return made

    def remove_receiver(self, name: str) -> None:
        """Forget a receiver; what waits to be sent there fails. Raises NotFoundError, ConflictError
        where a monitor has it."""
        using = [each.name for each in self.monitors() if name in each.receivers]
        if using:
            raise ConflictError(
                f"the receiver {name} is that of a monitor: {', '.join(using)}.",
                "Change the monitor first.",
            )
        with self.database.writing() as connection:
            self._receiver(connection, name)
            connection.execute(delete(RECEIVERS).where(RECEIVERS.c.name == name))
            waits = (DELIVERIES.c.receiver == name) & (DELIVERIES.c.state == "waiting")
            connection.execute(update(DELIVERIES).where(waits).values(state="failed"))

    def deliveries(
        self,
        *,
        alert: int | None = None,
        state: DeliveryState | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[Delivery]:
        """The newest first."""
        query = _DELIVERIES.order_by(DELIVERIES.c.number.desc()).limit(limit)
        if alert is not None:
            query = query.where(DELIVERIES.c.alert == alert)
        if state is not None:
            query = query.where(DELIVERIES.c.state == state)
        if before is not None:
            query = query.where(DELIVERIES.c.number < before)
        with self.database.reading() as connection:
            return [_delivery(row) for row in connection.execute(query)]

    def deliveries_of(self, alerts: Sequence[int]) -> dict[int, list[Delivery]]:
        """Those of these alerts, by alert."""
        query = _DELIVERIES.where(DELIVERIES.c.alert.in_(alerts)).order_by(DELIVERIES.c.number)
        found: dict[int, list[Delivery]] = {}
        with self.database.reading() as connection:
            for row in connection.execute(query):
                found.setdefault(row.alert, []).append(_delivery(row))
        return found

    def take(self) -> list[Delivery]:
        """Deliveries that are due, for one attempt of the caller's at each."""
        with self.database.reading() as connection:
            if not self._due(connection, self._now(connection)):
                return []
        taken = []
        with self.database.writing(alone=True) as connection:
            now = self._now(connection)
            for row in self._due(connection, now):
                values = {"attempts": row.attempts + 1, "due": now + ATTEMPT_SECONDS}
                mine = update(DELIVERIES).where(DELIVERIES.c.number == row.number)
                connection.execute(mine.values(values))
                query = _DELIVERIES.where(DELIVERIES.c.number == row.number)
                taken.append(_delivery(connection.execute(query).one()))
        return taken

    def _due(self, connection: Connection, now: float) -> Sequence[Row[Any]]:
        due = (DELIVERIES.c.state == "waiting") & (DELIVERIES.c.due <= now)
        query = select(DELIVERIES).where(due).order_by(DELIVERIES.c.due).limit(AT_ONCE)
        return connection.execute(query).all()

    def sent(self, delivery: Delivery, outcome: str, *, taken: bool) -> None:
        """Write down how an attempt went; one that was not ``taken`` is made again later, unless it
        was the last."""
        with self.database.writing() as connection:
            now = self._now(connection)
            values: dict[str, Any] = {"log": [*delivery.log, (now, outcome)]}
            if taken or delivery.attempts >= MOST_ATTEMPTS:
                values["state"] = "delivered" if taken else "failed"
            else:
                values["due"] = now + pause(delivery.attempts)
            mine = (DELIVERIES.c.number == delivery.number) & (DELIVERIES.c.state == "waiting")
            mine &= DELIVERIES.c.attempts == delivery.attempts
            connection.execute(update(DELIVERIES).where(mine).values(values))


_DELIVERIES = select(
    DELIVERIES,
    *(column.label(f"alert_{column.name}") for column in ALERTS.columns),
).join(ALERTS, ALERTS.c.number == DELIVERIES.c.alert)


def _check_room(connection: Connection, column: Any, what: str) -> None:
    if (connection.scalar(select(func.count(column))) or 0) >= MOST:
        raise TooManyError(f"the service has {MOST} {what}, which is the most.", "Remove some.")


def _monitor(row: Row[Any]) -> Monitor:
    values = row._asdict()
    seen, last, receivers = (values.pop(name) for name in ("seen", "last", "receivers"))
    return Monitor(
        **values,
        receivers=tuple(receivers),
        seen=Seen.model_validate(seen),
        last=None if last is None else Result.model_validate(last),
    )


def _alert(row: Row[Any], before: str = "") -> Alert:
    values = row._asdict()
    return Alert(**{name: values[before + name] for name in Alert.__dataclass_fields__})


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        number=row.number,
        alert=_alert(row, "alert_"),
        receiver=row.receiver,
        state=row.state,
        attempts=row.attempts,
        due=row.due,
        log=tuple((time, outcome) for time, outcome in row.log),
    )
