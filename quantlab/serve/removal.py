"""Delete models, jobs, runs, recipes and baselines; what hangs on them keeps them, or goes too.

A job that has not ended hangs on its models and on the job whose baseline it gates by; a baseline
hangs on the job that made it. Rows go first, in one transaction; then the objects that no row
names. Who is killed in between leaves objects, which the collector removes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, delete, select, update

from quantlab.serve.catalog import _SHA256
from quantlab.serve.db import BASELINES, EVENTS, JOBS, MODELS, RECIPES, UPLOADS
from quantlab.serve.jobfolder import RUNS
from quantlab.serve.queue import OPEN, ConflictError, ForbiddenError, NotFoundError
from quantlab.serve.service import Service
from quantlab.serve.tokens import Token
from quantlab.serve.worker import index_runs

MOST_NAMED = 5
"""Of what hangs on a thing, in an error."""


class Removal:
    """Deletes what a token may delete: its own things, with the scope admin all. ``cascade``: what
    hangs on them goes too; jobs that have not ended are cancelled.

    All methods raise NotFoundError, ForbiddenError, ConflictError where something hangs on it,
    UnavailableError.
    """

    def __init__(self, service: Service, token: Token) -> None:
        self.service, self.token = service, token

    def model(
        self,
        name: str,
        *,
        only: str | None = None,
        cascade: bool = False,
        spare_newest: bool = False,
    ) -> None:
        """The model of this sha256 with all its names or ``only`` one; or this name of the newest
        model that has it. ``spare_newest``: refuse it where it is the newest of a name."""
        found = self.service.catalog.model(name)
        sha256 = found.sha256
        name = only or ("" if _SHA256.fullmatch(name) else found.name)
        with self.service.database.writing(alone=True) as connection:
            rows = connection.execute(
                select(MODELS).where(MODELS.c.sha256 == sha256).with_for_update()
            ).all()
            going = [row for row in rows if not name or row.name == name]
            if not going:
                raise NotFoundError(f"the service has no model {name or sha256}.")
            for row in going:
                self._check(row.token, f"the model {row.name}")
                if spare_newest and _is_newest(connection, row):
                    raise ConflictError(f"it is the newest model called {row.name}.")
            if len(going) == len(rows):
                users = [job for job in _open_jobs(connection) if sha256 in models_of(job)]
                self._let_go(connection, f"the model {going[0].name}", users, (), cascade)
            for row in going:
                mine = (MODELS.c.sha256 == row.sha256) & (MODELS.c.name == row.name)
                connection.execute(delete(MODELS).where(mine))
        self.forget_model(sha256)

    def forget_model(self, sha256: str) -> bool:
        """Remove a model's object where no row names it; whether it did. Nobody adds a row
        meanwhile, and who adds one later looks whether the object is there."""
        with self.service.database.writing(alone=True) as connection:
            named = select(MODELS.c.sha256).where(MODELS.c.sha256 == sha256).limit(1)
            if connection.execute(named).first() is not None:
                return False
            self.service.objects.remove_one(f"models/{sha256}")
            return True

    def job(self, job_id: str, *, cascade: bool = False) -> None:
        """A job, its run, messages and files. The models that it made stay."""
        with self.service.database.writing(alone=True) as connection:
            job = self._job(connection, JOBS.c.id == job_id, f"there is no job {job_id}.")
            what = f"the job {job_id}"
            if job.state in OPEN and not cascade:
                raise ConflictError(
                    f"{what} has not ended.", "Cancel it first, or ask with cascade=true."
                )
            users = [
                each for each in _open_jobs(connection)
                if each.id != job_id and job_id in baseline_jobs_of(each)
            ]  # fmt: skip
            self._let_go(connection, what, users, _baselines_of(connection, job_id), cascade)
            connection.execute(delete(JOBS).where(JOBS.c.id == job_id))
            connection.execute(delete(EVENTS).where(EVENTS.c.job == job_id))
            connection.execute(update(MODELS).where(MODELS.c.job == job_id).values(job=None))
        self._forget_runs([job.run])
        self.service.objects.remove(f"jobs/{job_id}")

    def run(self, run: str, *, cascade: bool = False) -> None:
        """A run: its folder, and its figures in the history. Its job stays, with its other
        files."""
        with self.service.database.writing(alone=True) as connection:
            job = self._job(connection, JOBS.c.run == run, f"there is no run {run}.")
            self._let_go(
                connection, f"the run {run}", (), _baselines_of(connection, job.id), cascade
            )
            inside = f"{RUNS}/{run}/"
            files = {n: size for n, size in (job.files or {}).items() if not n.startswith(inside)}
            values = {"run": None, "files": files}
            connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(values))
        self._forget_runs([run])
        self.service.objects.remove(f"jobs/{job.id}/{job.attempts}/{RUNS}/{run}")

    def recipe(self, name: str) -> None:
        """An uploaded recipe; jobs keep what they were asked."""
        with self.service.database.writing(alone=True) as connection:
            row = connection.execute(select(RECIPES).where(RECIPES.c.name == name)).first()
            if row is None:
                raise NotFoundError(f"nobody has uploaded a recipe called {name}.")
            self._check(row.token, f"the recipe {name}")
            connection.execute(delete(RECIPES).where(RECIPES.c.name == name))

    def baseline(self, name: str) -> None:
        """The name of a baseline. Its files are its job's: gates that were asked for keep them."""
        with self.service.database.writing(alone=True) as connection:
            query = select(BASELINES, JOBS.c.token).join(
                JOBS, JOBS.c.id == BASELINES.c.job, isouter=True
            )
            row = connection.execute(query.where(BASELINES.c.name == name)).first()
            if row is None:
                raise NotFoundError(f"the service has no baseline called {name}.")
            self._check(row.token, f"the baseline {name}")
            connection.execute(delete(BASELINES).where(BASELINES.c.name == name))

    def upload(self, upload_id: str) -> None:
        """An upload, complete or not; the model that it has become stays."""
        with self.service.database.writing() as connection:
            row = connection.execute(select(UPLOADS).where(UPLOADS.c.id == upload_id)).first()
            if row is None or not self.token.owns(row.token):
                raise NotFoundError(f"there is no upload {upload_id}.")
            connection.execute(delete(UPLOADS).where(UPLOADS.c.id == upload_id))
        self.service.objects.remove(f"uploads/{upload_id}")

    def _job(self, connection: Connection, which: sa.ColumnElement[bool], none: str) -> Row[Any]:
        row = connection.execute(select(JOBS).where(which).with_for_update()).first()
        if row is None:
            raise NotFoundError(none)
        self._check(row.token, f"the job {row.id}")
        return row

    def _check(self, owner: str | None, what: str) -> None:
        if not self.token.owns(owner or ""):
            raise ForbiddenError(f"{what} is another token's: that needs the scope admin.")

    def _let_go(
        self,
        connection: Connection,
        what: str,
        jobs: Sequence[Row[Any]],
        baselines: Sequence[str],
        cascade: bool,
    ) -> None:
        """Cancel these jobs and delete these baselines, if so asked."""
        hanging = [*(f"job {job.id}" for job in jobs), *(f"baseline {name}" for name in baselines)]
        if hanging and not cascade:
            more = f" and {len(hanging) - MOST_NAMED} more" if len(hanging) > MOST_NAMED else ""
            raise ConflictError(
                f"{what} is needed by {', '.join(hanging[:MOST_NAMED])}{more}.",
                "Delete or cancel that first, or ask with cascade=true.",
            )
        for job in jobs:
            self._check(job.token, f"the job {job.id}")
        now = self.service.database.now(connection)
        mine = JOBS.c.id.in_([job.id for job in jobs])
        ended = {"state": "cancelled", "cancelled": True, "finished": now}
        connection.execute(update(JOBS).where(mine & (JOBS.c.state == "queued")).values(ended))
        connection.execute(update(JOBS).where(mine).values(cancelled=True))
        connection.execute(delete(BASELINES).where(BASELINES.c.name.in_(baselines)))

    def _forget_runs(self, runs: Collection[str | None]) -> None:
        index_runs(self.service, gone=[run for run in runs if run is not None])


def models_of(job: Row[Any]) -> set[str]:
    """The sha256 of the models that a job works on."""
    return {str(model["sha256"]) for model in job.inputs.get("models", ())}


def baseline_jobs_of(job: Row[Any]) -> set[str]:
    """The ids of the jobs whose files are the baseline that a job gates by."""
    return jobs_of_keys((job.inputs.get("baseline") or {}).values())


def jobs_of_keys(keys: Collection[str]) -> set[str]:
    """The ids of the jobs in whose folders of the store these keys lie."""
    return {key.split("/")[1] for key in keys if key.startswith("jobs/")}


def _open_jobs(connection: Connection) -> Sequence[Row[Any]]:
    columns: list[sa.Column[Any]] = [JOBS.c.id, JOBS.c.token, JOBS.c.inputs]
    return connection.execute(select(*columns).where(JOBS.c.state.in_(OPEN))).all()


def _baselines_of(connection: Connection, job_id: str) -> list[str]:
    query = select(BASELINES.c.name).where(BASELINES.c.job == job_id).order_by(BASELINES.c.name)
    return list(connection.scalars(query))


def _is_newest(connection: Connection, model: Row[Any]) -> bool:
    later = (MODELS.c.name == model.name) & (MODELS.c.created > model.created)
    return connection.execute(select(MODELS.c.sha256).where(later).limit(1)).first() is None
