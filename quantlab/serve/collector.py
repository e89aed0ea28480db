"""Retention: which jobs, models and objects of a service go by the rules of its settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Column, Row, select

from quantlab.runs.index import Filter, Index
from quantlab.serve.db import BASELINES, JOBS, MODELS, MONITORS, UPLOADS
from quantlab.serve.objects import ObjectFacts
from quantlab.serve.queue import OPEN, ConflictError, NotFoundError
from quantlab.serve.removal import Removal, baseline_jobs_of, jobs_of_keys, models_of
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import LOCAL
from quantlab.serve.worker import PLACE, index_runs

UNCLAIMED = 24 * 3600.0
"""Seconds: an object may be stored before the row that names it, but not so long before."""
OURS = ("models", "jobs", "uploads")
"""Folders of the store whose objects the service names in its database."""
Kind = Literal["job", "model", "object", "history"]


@dataclass(frozen=True)
class Rules:
    """Seconds after which jobs that are done, jobs that are not, and models go; None: never."""

    runs: float | None = None
    errors: float | None = None
    models: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """Those of the settings."""
        return cls(settings.keep_runs, settings.keep_errors, settings.keep_models)


@dataclass(frozen=True)
class Collected:
    """What goes: ``name`` is a job's id with its verb, a model's name, an object's key, a run."""

    kind: Kind
    key: str
    name: str
    bytes: int


@dataclass(frozen=True)
class Holdings:
    """What a service has, as one transaction sees it."""

    jobs: list[Row[Any]]
    models: list[Row[Any]]
    baselines: list[Row[Any]]
    uploads: set[str]
    monitors: list[Row[Any]]
    now: float


class Collector:
    """Finds what may go, and deletes it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.rules = Rules.of(service.settings)

    def plan(self) -> list[Collected]:
        """What may go now. The store is listed first: what is stored later is none of it."""
        objects = self.service.objects.listing()
        held = self._holdings()
        jobs, models = due_jobs(held, self.rules), due_models(held, self.rules)
        runs = {job.run for job in held.jobs}
        with Index(self.service.settings.db_url, PLACE) as index:
            begun = datetime.fromtimestamp(held.now - self._unclaimed(), UTC).isoformat()
            lost = [
                row.folder
                for row in index.rows(Filter())
                if row.folder not in runs and row.started < begun
            ]
        return [
            *(Collected("job", job.id, f"{job.verb} {job.id}", _below(objects, f"jobs/{job.id}"))
              for job in jobs),
            *(Collected("model", model.sha256, model.name, model.bytes) for model in models),
            *(Collected("object", key, key, objects[key].bytes)
              for key in unclaimed(objects, held)),
            *(Collected("history", run, run, 0) for run in lost),
        ]  # fmt: skip

    def _unclaimed(self) -> float:
        """Seconds after whose begin a run belongs to a job, or to none: the history has a run
        before its job says that it left it."""
        return UNCLAIMED + self.service.settings.job_time

    def collect(self, planned: Iterable[Collected]) -> list[Collected]:
        """Delete what was planned, unless something hangs on it by now; what was deleted."""
        gone = []
        for each in planned:
            with suppress(ConflictError, NotFoundError):
                self._delete(each)
                gone.append(each)
        return gone

    def _delete(self, each: Collected) -> None:
        removal = Removal(self.service, LOCAL)
        if each.kind == "job":
            removal.job(each.key)
        elif each.kind == "model":
            removal.model(each.key, only=each.name, spare_newest=True)
        elif each.kind == "history":
            self._forget_run(each.key)
        elif each.key.startswith("models/"):
            removal.forget_model(each.key.removeprefix("models/"))
        else:
            self.service.objects.remove_one(each.key)

    def _forget_run(self, run: str) -> None:
        """Raises ConflictError where a job has it: a worker tells the history first."""
        with suppress(NotFoundError):
            self.service.queue.of_run(run)
            raise ConflictError(f"the run {run} has a job.")
        index_runs(self.service, gone=[run])

    def _holdings(self) -> Holdings:
        columns = ("id", "verb", "state", "run", "inputs", "attempts", "finished")
        database = self.service.database
        with database.reading() as connection:
            return Holdings(
                jobs=list(connection.execute(select(*(JOBS.c[name] for name in columns)))),
                models=list(connection.execute(select(MODELS))),
                baselines=list(connection.execute(select(BASELINES))),
                uploads=set(connection.scalars(select(UPLOADS.c.id))),
                monitors=list(connection.execute(select(*_OF_MONITOR))),
                now=database.now(connection),
            )


_OF_MONITOR: list[Column[Any]] = [MONITORS.c.request, MONITORS.c.job, MONITORS.c.last]
_SHA256 = re.compile(r"\b[0-9a-f]{64}\b")


def due_jobs(held: Holdings, rules: Rules) -> list[Row[Any]]:
    """Jobs that ended long enough ago, that no baseline and no newest version of a model came
    from, that no open job needs, and that are not a monitor's last."""
    needed = {baseline.job for baseline in held.baselines}
    needed |= {model.job for model in _newest(held.models)}
    for monitor in held.monitors:
        needed |= {monitor.job, (monitor.last or {}).get("job")}
    for baseline in held.baselines:
        needed |= jobs_of_keys(baseline.files.values())
    for job in held.jobs:
        if job.state in OPEN:
            needed |= {job.id, *baseline_jobs_of(job)}
    found = []
    for job in held.jobs:
        keep = rules.runs if job.state == "done" else rules.errors
        old = keep is not None and job.finished is not None and job.finished < held.now - keep
        if old and job.id not in needed:
            found.append(job)
    return found


def due_models(held: Holdings, rules: Rules) -> list[Row[Any]]:
    """Models that were added long enough ago, are not the newest of their name, and that no open
    job works on and no monitor names."""
    if rules.models is None:
        return []
    needed = set[str]().union(*(models_of(job) for job in held.jobs if job.state in OPEN))
    for monitor in held.monitors:
        needed |= set(_SHA256.findall(json.dumps(monitor.request)))
    newest = {(model.sha256, model.name) for model in _newest(held.models)}
    return [
        model
        for model in held.models
        if model.created < held.now - rules.models
        and model.sha256 not in needed
        and (model.sha256, model.name) not in newest
    ]


def unclaimed(objects: Mapping[str, ObjectFacts], held: Holdings) -> list[str]:
    """Objects of the service that no row names, and that are old enough to be nobody's who is
    still at work."""
    attempts = {job.id: None if job.state in OPEN else str(job.attempts) for job in held.jobs}
    models = {model.sha256 for model in held.models}
    kept = {key for baseline in held.baselines for key in baseline.files.values()}
    kept |= {
        key
        for job in held.jobs
        if job.state in OPEN
        for key in (job.inputs.get("baseline") or {}).values()
    }

    def claimed(key: str) -> bool:
        folder, name, *rest = key.split("/")
        if folder == "models":
            return name in models
        if folder == "uploads":
            return name in held.uploads
        return name in attempts and attempts[name] in (None, rest[0] if rest else "")

    return [
        key
        for key, stored in objects.items()
        if key.count("/") > 0
        and key.split("/")[0] in OURS
        and stored.written < held.now - UNCLAIMED
        and key not in kept
        and not claimed(key)
    ]


def _newest(models: Iterable[Row[Any]]) -> list[Row[Any]]:
    """The newest version of each name."""
    found = dict[str, Row[Any]]()
    for model in models:
        if model.name not in found or model.created > found[model.name].created:
            found[model.name] = model
    return list(found.values())


def _below(objects: Mapping[str, ObjectFacts], folder: str) -> int:
    return sum(each.bytes for key, each in objects.items() if key.startswith(f"{folder}/"))
