"""Queue: jobs under leases in a database, which survive lost workers.

A job is a row. A worker that claims it holds a lease; a job whose lease has ended is free again. So
its work is done at least once, and only what the last attempt wrote is kept.

Kept libraries were looked at first: Celery and Dramatiq want a broker, Procrastinate and PgQueuer
know PostgreSQL alone, Huey and RQ have no leases on SQL, DBOS takes up the jobs of a lost machine
only through a service. This is one table and a few statements, for SQLite and PostgreSQL alike.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict, Unpack, get_args

import sqlalchemy as sa
from sqlalchemy import Column, Connection, Row, insert, select, update
from sqlalchemy.exc import IntegrityError

from quantlab.errors import QuantlabError
from quantlab.serve.db import EVENTS, JOBS, MODELS, Database

JobState = Literal["queued", "running", "done", "failed", "cancelled"]
STATES: tuple[JobState, ...] = get_args(JobState)
OPEN: tuple[JobState, ...] = ("queued", "running")
VERDICTS = {0: "pass", 1: "fail", 3: "inconclusive", 4: "another CPU"}
"""By exit code, of verbs that judge."""
LONGEST_TEXT = 20_000
"""Characters of an event, an error or a summary that are kept."""


class NotFoundError(QuantlabError):
    """The service has no model, dataset, job or other item of this name."""


class ConflictError(QuantlabError):
    """It does not fit what is there: a key that was used, something that is needed."""


class ForbiddenError(QuantlabError):
    """It belongs to another token."""


class TooManyError(QuantlabError):
    """A token has too many unfinished jobs."""


class LeaseLostError(QuantlabError):
    """The job was given to another worker, or has ended: this worker's results are discarded."""


@dataclass(frozen=True)
class Job:
    """A job as its row has it. Times are seconds since 1970; ``files`` are paths in its folder with
    bytes; ``inputs`` is what its names stood for when it was accepted."""

    number: int
    id: str
    token: str
    verb: str
    request: dict[str, Any]
    inputs: dict[str, Any]
    exclusive: bool
    state: JobState
    cancelled: bool
    attempts: int
    losses: int
    worker: str | None
    machine: str | None
    progress: dict[str, Any] | None
    exit_code: int | None
    out: str | None
    error: str | None
    run: str | None
    files: dict[str, int]
    created: float
    started: float | None
    finished: float | None

    @property
    def ended(self) -> bool:
        """Whether the job has ended."""
        return self.state not in OPEN

    @property
    def verdict(self) -> str:
        """The verdict's word, "" where it has none."""
        if self.exit_code is None or self.state != "done" or self.verb not in ("compare", "gate"):
            return ""
        return VERDICTS.get(self.exit_code, "")

    @property
    def folder(self) -> str:
        """The store's folder with its files, those of the attempt that counts."""
        return f"jobs/{self.id}/{self.attempts}"


@dataclass(frozen=True)
class JobEvent:
    """A line of a job: ``say``, ``warn``, or ``again`` where a new attempt begins."""

    number: int
    kind: str
    text: str
    time: float


@dataclass(frozen=True)
class Asked:
    """A new job: its verb's request, and what the request's names stand for."""

    verb: str
    request: Mapping[str, Any]
    inputs: Mapping[str, Any]
    exclusive: bool

    @property
    def digest(self) -> str:
        """A digest of the request alone, by which a repeated one is recognized."""
        text = json.dumps(self.request, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class JobOutcome:
    """How a job ended. ``out`` is what it printed, ``error`` what went wrong, ``reason`` the same
    in one word."""

    state: JobState
    exit_code: int | None = None
    out: str = ""
    error: str = ""
    run: str | None = None
    files: Mapping[str, int] = field(default_factory=dict)
    reason: str | None = None


class WantedJobs(TypedDict, total=False):
    """Which jobs: of these states (none: of any), of a verb, older than the one of the number
    ``before``; at most ``limit``."""

    states: Sequence[JobState]
    verb: str | None
    before: int | None
    limit: int


class Queue:
    """The jobs of a database. All methods raise Unavailable where that does not answer."""

    def __init__(self, database: Database, *, lease: float = 30.0, losses: int = 5) -> None:
        self.database, self.lease, self.losses = database, lease, losses

    def submit(
        self, asked: Asked, token: str, key: str | None = None, most: int = 2**31
    ) -> tuple[Job, bool]:
        """The job, and whether it is new: the same key of the same token is the same job.

        Raises ConflictError for a key of another request, TooManyError above ``most`` open jobs,
        NotFoundError where what it works on was deleted just now.
        """
        for _ in range(2):
            try:
                with self.database.writing() as connection:
                    if (known := self._of_key(connection, token, key)) is not None:
                        return _same(known, asked), False
                    self._check_room(connection, token, most)
                    _check_inputs(connection, asked.inputs)
                    return self._inserted(connection, asked, token, key), True
            except IntegrityError:  # the same key came in by another connection
                continue
        raise ConflictError("the idempotency key is being used by another request.")

    def known(self, asked: Asked, token: str, key: str | None) -> Job | None:
        """The job of this key, whatever has become of what it names. Raises ConflictError as
        ``submit`` does."""
        with self.database.reading() as connection:
            row = self._of_key(connection, token, key)
        return None if row is None else _same(row, asked)

    def _of_key(self, connection: Connection, token: str, key: str | None) -> Row[Any] | None:
        if key is None:
            return None
        query = select(JOBS).where((JOBS.c.token == token) & (JOBS.c.key == key))
        return connection.execute(query).first()

    def _check_room(self, connection: Connection, token: str, most: int) -> None:
        mine = (JOBS.c.token == token) & JOBS.c.state.in_(OPEN)
        count = connection.scalar(select(sa.func.count()).select_from(JOBS).where(mine)) or 0
        if count >= most:
            raise TooManyError(
                f"this token has {count} jobs that have not ended, which is the most it may have.",
                "Wait for some, or cancel them.",
            )

    def _inserted(self, connection: Connection, asked: Asked, token: str, key: str | None) -> Job:
        row = {
            "id": secrets.token_hex(8),
            "token": token,
            "key": key,
            "digest": asked.digest,
            "verb": asked.verb,
            "request": dict(asked.request),
            "inputs": dict(asked.inputs),
            "exclusive": asked.exclusive,
            "state": "queued",
            "cancelled": False,
            "attempts": 0,
            "losses": 0,
            "created": self.database.now(connection),
        }
        connection.execute(insert(JOBS).values(row))
        return _job(self._row(connection, str(row["id"])))

    def get(self, job_id: str) -> Job:
        """One job. Raises NotFoundError."""
        with self.database.reading() as connection:
            return _job(self._row(connection, job_id))

    def of_run(self, run: str) -> Job:
        """The job that left this run. Raises NotFoundError."""
        with self.database.reading() as connection:
            row = connection.execute(select(JOBS).where(JOBS.c.run == run)).first()
        if row is None:
            raise NotFoundError(f"there is no run {run}.")
        return _job(row)

    def recent(self, **wanted: Unpack[WantedJobs]) -> list[Job]:
        """The newest jobs first."""
        return [_job(row) for row in self._newest(JOBS.columns.values(), **wanted)]

    def summaries(self, **wanted: Unpack[WantedJobs]) -> Sequence[Row[Any]]:
        """The same as rows, without what a job was given and has said."""
        return self._newest(_SUMMARY, **wanted)

    def _newest(
        self,
        columns: Sequence[Column[Any]],
        states: Sequence[JobState] = (),
        verb: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> Sequence[Row[Any]]:
        query = select(*columns)
        if states:
            query = query.where(JOBS.c.state.in_(states))
        if verb is not None:
            query = query.where(JOBS.c.verb == verb)
        if before is not None:
            query = query.where(JOBS.c.number < before)
        query = query.order_by(JOBS.c.number.desc()).limit(limit)
        with self.database.reading() as connection:
            return connection.execute(query).all()

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> list[JobEvent]:
        """A job's events with numbers above ``after``, the oldest first."""
        mine = (EVENTS.c.job == job_id) & (EVENTS.c.number > after)
        query = select(EVENTS).where(mine).order_by(EVENTS.c.number).limit(limit)
        with self.database.reading() as connection:
            rows = connection.execute(query)
            return [JobEvent(row.number, row.kind, row.text, row.time) for row in rows]

    def last_events(self, job_id: str, limit: int) -> list[JobEvent]:
        """A job's last events, the oldest of them first."""
        query = select(EVENTS).where(EVENTS.c.job == job_id).order_by(EVENTS.c.number.desc())
        with self.database.reading() as connection:
            rows = connection.execute(query.limit(limit)).all()
            return [JobEvent(row.number, row.kind, row.text, row.time) for row in reversed(rows)]

    def cancel(self, job_id: str) -> Job:
        """End a job that waits; ask a running one to stop. One that has ended stays as it is.
        Raises NotFoundError."""
        with self.database.writing() as connection:
            now = self.database.now(connection)
            mine = JOBS.c.id == job_id
            waits = update(JOBS).where(mine & (JOBS.c.state == "queued"))
            connection.execute(waits.values(state="cancelled", cancelled=True, finished=now))
            runs = update(JOBS).where(mine & (JOBS.c.state == "running"))
            connection.execute(runs.values(cancelled=True))
            return _job(self._row(connection, job_id))

    def claim(self, worker: str, machine: str) -> Job | None:
        """Lease the oldest waiting job to this worker; None when there is none for it.

        First come, first served: a job that times models waits until its machine is quiet, and
        those behind it wait with it, on this machine.
        """
        if not self._waiting():
            return None
        with self.database.writing(alone=True) as connection:
            now = self.database.now(connection)
            self._fail_lost_jobs(connection, now)
            row = connection.execute(_FREE, {"now": now}).first()
            if row is None or self._machine_is_busy(connection, machine, bool(row.exclusive), now):
                return None
            lost = row.state == "running"
            values = {
                "state": "running",
                "attempts": row.attempts + 1,
                "losses": row.losses + lost,
                "worker": worker,
                "machine": machine,
                "lease": now + self.lease,
                "started": row.started or now,
                "progress": None,
            }
            connection.execute(update(JOBS).where(JOBS.c.id == row.id).values(values))
            if row.attempts:
                text = f"The worker was {'lost' if lost else 'stopped'}; another one goes on."
                self._add(connection, row.id, [("again", text)], now)
            return _job(self._row(connection, row.id))

    def _waiting(self) -> bool:
        """Whether a claim may find something: asked without keeping writers out."""
        with self.database.reading() as connection:
            now = self.database.now(connection)
            return connection.execute(_FREE, {"now": now}).first() is not None

    def _fail_lost_jobs(self, connection: Connection, now: float) -> None:
        """Jobs that have lost too many workers fail; those that were to be cancelled are."""
        free = (JOBS.c.state == "running") & (JOBS.c.lease < now)
        stop = update(JOBS).where(free & JOBS.c.cancelled)
        connection.execute(stop.values(state="cancelled", finished=now))
        doomed = update(JOBS).where(free & (JOBS.c.losses >= self.losses))
        text = f"{self.losses + 1} workers were lost while they worked on it."
        connection.execute(doomed.values(state="failed", error=text, reason="lost", finished=now))

    def _machine_is_busy(
        self, connection: Connection, machine: str, exclusive: bool, now: float
    ) -> bool:
        """Whether this machine runs another job while this one, or that one, times models."""
        here = (JOBS.c.state == "running") & (JOBS.c.machine == machine) & (JOBS.c.lease >= now)
        busy = connection.scalars(select(JOBS.c.exclusive).where(here)).all()
        return bool(busy) and (exclusive or any(busy))

    def heartbeat(self, job: Job) -> bool:
        """Renew the lease; returns whether the job is to be cancelled. Raises LeaseLostError.

        A lease that has ended is taken up again where nobody else took it.
        """
        with self.database.writing() as connection:
            now = self.database.now(connection)
            self._mine(connection, job, lease=now + self.lease)
            return bool(connection.scalar(select(JOBS.c.cancelled).where(JOBS.c.id == job.id)))

    def tell(
        self, job: Job, events: Sequence[tuple[str, str]], progress: dict[str, Any] | None
    ) -> None:
        """Store the job's events and progress. Raises LeaseLostError."""
        with self.database.writing() as connection:
            self._mine(connection, job, progress=progress)
            self._add(connection, job.id, events, self.database.now(connection))

    def finish(self, job: Job, outcome: JobOutcome) -> Job:
        """Store how the job ended, once. Raises LeaseLostError."""
        with self.database.writing() as connection:
            self._mine(
                connection,
                job,
                state=outcome.state,
                exit_code=outcome.exit_code,
                out=outcome.out[-LONGEST_TEXT:],
                error=outcome.error[-LONGEST_TEXT:] or None,
                run=outcome.run,
                reason=outcome.reason,
                files=dict(outcome.files),
                progress=None,
                lease=None,
                finished=self.database.now(connection),
            )
            return _job(self._row(connection, job.id))

    def release(self, job: Job) -> None:
        """Give the job back to the queue, when the worker is told to end. It does not count as a
        loss. Raises LeaseLostError."""
        with self.database.writing() as connection:
            self._mine(connection, job, state="queued", lease=None, progress=None)

    def _mine(self, connection: Connection, job: Job, **values: Any) -> None:
        held = (JOBS.c.id == job.id) & (JOBS.c.state == "running")
        held &= (JOBS.c.attempts == job.attempts) & (JOBS.c.worker == job.worker)
        if connection.execute(update(JOBS).where(held).values(values)).rowcount != 1:
            raise LeaseLostError(f"the job {job.id} was given to another worker, or has ended.")

    def _add(
        self, connection: Connection, job_id: str, events: Sequence[tuple[str, str]], now: float
    ) -> None:
        rows = [
            {"job": job_id, "kind": kind, "text": text[:LONGEST_TEXT], "time": now}
            for kind, text in events
        ]
        if rows:
            connection.execute(insert(EVENTS), rows)

    def _row(self, connection: Connection, job_id: str) -> Row[Any]:
        row = connection.execute(select(JOBS).where(JOBS.c.id == job_id)).first()
        if row is None:
            raise NotFoundError(f"there is no job {job_id}.")
        return row


_SUMMARY = [
    column
    for column in JOBS.columns
    if column.name not in ("token", "key", "digest", "inputs", "out", "error", "reason")
]
_FREE = (
    select(JOBS)
    .where(
        (JOBS.c.state == "queued")
        | ((JOBS.c.state == "running") & (JOBS.c.lease < sa.bindparam("now", type_=sa.Float)))
    )
    .order_by(JOBS.c.number)
    .limit(1)
)


def _check_inputs(connection: Connection, inputs: Mapping[str, Any]) -> None:
    """Raises NotFoundError where a model, or the job of the baseline, is gone. What is there stays
    until this transaction has ended."""
    baseline = {key.split("/")[1] for key in (inputs.get("baseline") or {}).values()}
    models = {model["sha256"] for model in inputs.get("models", ())}
    for column, wanted in ((MODELS.c.sha256, models), (JOBS.c.id, baseline)):
        if wanted:
            query = select(column).where(column.in_(wanted)).with_for_update(read=True)
            if set(connection.scalars(query)) != wanted:
                raise NotFoundError("what the job works on was deleted.", "Ask again.")


def _same(row: Row[Any], asked: Asked) -> Job:
    if row.digest != asked.digest:
        raise ConflictError(
            "this idempotency key was used for another request.", "Use a new key for a new request."
        )
    return _job(row)


def _job(row: Row[Any]) -> Job:
    values = row._asdict()
    return Job(
        **{name: values[name] for name in Job.__dataclass_fields__ if name != "files"},
        files=row.files or {},
    )
