"""Runs in the store, and the history over them. For the API and the pages."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Row

from quantlab._util.reporter import NullReporter
from quantlab.errors import RecordError
from quantlab.runs.entry import Entry, entry_of
from quantlab.runs.folders import RECORD, timing_of
from quantlab.runs.index import Filter, Index
from quantlab.runs.metrics import METRICS
from quantlab.runs.record import RunRecord, load_record
from quantlab.runs.trend import Series, trend
from quantlab.serve.catalog import NAME, StoredModel
from quantlab.serve.db import UnavailableError
from quantlab.serve.jobfolder import RUNS
from quantlab.serve.objects import ObjectMissingError
from quantlab.serve.queue import Job, NotFoundError
from quantlab.serve.service import Service
from quantlab.serve.vetting import facts_of
from quantlab.serve.worker import PLACE
from quantlab.tune.trials import Trial
from quantlab.verbs.runs import Different, Trended, causes, different

_TRIALS: TypeAdapter[tuple[Trial, ...]] = TypeAdapter(tuple[Trial, ...])
log = logging.getLogger("quantlab.serve")
_ANSWERS = ("int8_predictions", "predictions")


@dataclass(frozen=True)
class StoredRun:
    """One run: its record, its history entry, the job that left it, and the bytes of its files by
    their paths in the run folder."""

    record: RunRecord
    entry: Entry
    job: Job
    files: dict[str, int]

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.entry.folder

    def key(self, path: str) -> str:
        """The object of one of its files."""
        return f"{_folder(self.job)}/{path}"


class Runs:
    """The runs of a service. A context. All methods raise Unavailable where the database does not
    answer, NotFound for what is not there."""

    def __init__(self, service: Service) -> None:
        self.service = service
        with _answering():
            self._index = Index(service.settings.db_url, PLACE)

    def close(self) -> None:
        """Close the history's database."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def entries(self, wanted: Filter) -> list[Entry]:
        """The entries that pass, the newest first."""
        with _answering():
            return [listed.entry for listed in self._index.entries(wanted)]

    def rows(self, wanted: Filter) -> Sequence[Row[Any]]:
        """The same as rows."""
        with _answering():
            return self._index.rows(wanted)

    def models(self) -> list[str]:
        """The names of all models that have figures."""
        with _answering():
            return self._index.models()

    def get(self, run: str) -> StoredRun:
        """One run."""
        job = self.service.queue.of_run(run)
        with self._folder(job, "measurements") as folder, _readable(run):
            record = load_record(folder)
            entry = entry_of(record, run, timing_of(folder, record))
        return StoredRun(record, entry, job, _files(job))

    def different(self, old: str, new: str) -> Different:
        """What changed between two runs, and whose answers did."""
        jobs = [self.service.queue.of_run(run) for run in (old, new)]
        with ExitStack() as stack, _readable(f"{old} or {new}"):
            first, second = (stack.enter_context(self._folder(job, *_ANSWERS)) for job in jobs)
            return different((first, second), NullReporter())

    def trended(self, model: str, metrics: Collection[str] = METRICS) -> Trended:
        """The model's figures over runs."""
        name = model.removesuffix(".onnx")
        series = self.series(name, metrics)
        return Trended(name, series, causes(series, self._record))

    def series(self, name: str, metrics: Collection[str] = METRICS) -> tuple[Series, ...]:
        """The same without causes."""
        with _answering():
            measured = self._index.measured(name, METRICS)
        if not measured:
            raise NotFoundError(f"no run has measured a model called {name}.")
        series = trend(measured, metrics)
        if not series:
            raise NotFoundError(f"no run has {' or '.join(metrics)} of {name}.")
        return series

    def trials(self, run: str) -> tuple[Trial, ...]:
        """What a tune has tried. Raises RecordError."""
        return trials_of(self.get(run).record)

    def pick(self, run: str, digest: str, token: str | None = None) -> StoredModel:
        """Make that trial's int8 file a model of the catalog, the token's. Raises RecordError."""
        found = self.get(run)
        trial = next((t for t in trials_of(found.record) if t.digest == digest), None)
        if trial is None or trial.sha256 is None:
            raise NotFoundError(f"the run {run} has no trial {digest} with a file.")
        with suppress(NotFoundError):
            return self.service.catalog.model(trial.sha256)
        with self._file(found.key(f"models/{trial.sha256}.onnx")) as path:
            if hashlib.sha256(path.read_bytes()).hexdigest() != trial.sha256:
                raise RecordError(f"the file of the trial {digest} of {run} is damaged.")
            with TemporaryDirectory() as tmp:
                facts = facts_of(path, self.service.settings, Path(tmp))
            name = picked_name(found.record, trial)
            return self.service.add_model(
                path, trial.sha256, name, facts, job=found.job.id, token=token
            )

    def _record(self, run: str) -> RunRecord:
        """Raises RecordError where there is none."""
        try:
            with self._folder(self.service.queue.of_run(run)) as folder:
                return load_record(folder)
        except NotFoundError as error:
            raise RecordError(error.problem) from error

    @contextmanager
    def _folder(self, job: Job, *artifacts: str) -> Iterator[Path]:
        """The job's run folder where it lies on this machine, else a copy of its record and of
        these artifacts."""
        key, objects = _folder(job), self.service.objects
        lies = objects.local(key)
        if lies is not None:
            yield lies
            return
        with TemporaryDirectory() as place:
            folder = Path(place) / str(job.run)
            with _there(f"the run {job.run}"):
                objects.get(f"{key}/{RECORD}", folder / RECORD)
                named = load_record(folder).artifacts
                for file in {named.get(name) for name in artifacts} & _files(job).keys():
                    objects.get(f"{key}/{file}", folder / str(file))
            yield folder

    @contextmanager
    def _file(self, key: str) -> Iterator[Path]:
        """An object as a file of this machine."""
        objects = self.service.objects
        lies = objects.local(key)
        with TemporaryDirectory() as place:
            path = lies or Path(place) / "file"
            if lies is None:
                with _there(key):
                    objects.get(key, path)
            elif not path.is_file():
                raise NotFoundError(f"{key} is not there any more.")
            yield path


def trials_of(record: RunRecord) -> tuple[Trial, ...]:
    """The trials of a tune's record, none for another verb's. Raises RecordError."""
    try:
        return _TRIALS.validate_python(record.results.get("trials", ()))
    except ValidationError as error:
        raise RecordError(f"the trials of {record.id} cannot be read.") from error


def picked_name(record: RunRecord, trial: Trial) -> str:
    """What the file of a trial is called: after its model, its recipe and its content."""
    model = Path(str(record.spec.get("model", "model"))).stem
    words = f"{model}.{trial.recipe.name}.{trial.digest[:6]}.int8"
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._+-") else "-" for c in words)
    return name if NAME.fullmatch(name) else f"trial.{trial.digest[:12]}.int8"


def _folder(job: Job) -> str:
    return f"{job.folder}/{RUNS}/{job.run}"


def _files(job: Job) -> dict[str, int]:
    """The files of the job's run folder."""
    inside = f"{RUNS}/{job.run}/"
    return {
        name.removeprefix(inside): n for name, n in job.files.items() if name.startswith(inside)
    }


@contextmanager
def _there(what: str) -> Iterator[None]:
    try:
        yield
    except ObjectMissingError as error:
        raise NotFoundError(f"{what} is not there any more.") from error


@contextmanager
def _readable(run: str) -> Iterator[None]:
    """Turn a RecordError into a NotFoundError that names the run, not its path."""
    try:
        yield
    except RecordError as error:
        log.warning("%s", error)
        raise NotFoundError(f"the run {run} cannot be read any more.") from error


@contextmanager
def _answering() -> Iterator[None]:
    """The history lies in the service's database: what it cannot do now it can do later."""
    try:
        yield
    except RecordError as error:
        raise UnavailableError(
            error.problem, "Nothing was changed. Try again in a moment."
        ) from error
