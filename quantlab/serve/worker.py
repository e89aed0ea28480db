"""Worker: take jobs from the queue and run each in a confined child process."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any, Self, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy.exc import InterfaceError, OperationalError

from quantlab.errors import OutputError, QuantlabError, RecordError
from quantlab.runs.entry import Entry
from quantlab.runs.folders import RECORD, read_entry, scan
from quantlab.runs.index import Index
from quantlab.runtime.environment import environment
from quantlab.serve.db import UnavailableError
from quantlab.serve.jobfolder import RUNS, JobFolder
from quantlab.serve.process import Child, Ended
from quantlab.serve.queue import (
    LONGEST_TEXT,
    Job,
    JobOutcome,
    JobState,
    LeaseLostError,
    NotFoundError,
    Queue,
)
from quantlab.serve.service import Service
from quantlab.serve.vetting import facts_of
from quantlab.serve.watching import Watching
from quantlab.serve.workers import Present

PLACE = "server"
"""The history's name for the runs of a service, whichever machine did them."""
PAUSE = 0.5
"""Seconds between two looks for work, and between two words to the database."""
BEAT = 2.0
"""Seconds between two signs of life at most; a short lease has more of them."""
MOST_SAID = 1000
"""Lines that are kept while the database is away, the newest ones."""
KEEP_SECONDS = 1.0
GRACE = 60.0
"""Seconds that a job has to end after it was told to."""
VERDICTS = (0, 1, 3, 4)
"""Exit codes of a verb that did what was asked."""
_RUNTIMES = ("quantlab", "onnxruntime", "openvino")
FoundJob = TypeVar("FoundJob")
log = logging.getLogger("quantlab.worker")


class Worker:
    """Runs one job at a time. ``run`` continues until ``stop`` is set, then gives its job back."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.machine = service.settings.machine
        self.name = f"{self.machine}-{os.getpid()}-{secrets.token_hex(4)}"
        self.stop = Flag()

    def run(self) -> None:
        """Take jobs until ``stop`` is set."""
        with (
            own_folder(self.service.settings.work, secrets.token_hex(8)) as folder,
            Present(self.service.database, self.name, self.machine),
        ):
            self.service.objects.sweep()
            told = False
            while not self.stop.is_set():
                worked = False
                try:
                    if not told:
                        Watching(self.service.database).runs_on(self.machine, runtime_words())
                        told = True
                    worked = self.step(folder)
                except UnavailableError as error:
                    log.warning("%s", error)
                except Exception:  # the job's lease ends, and another attempt is made
                    log.exception("a job was given up")
                if not worked:
                    self.stop.wait(PAUSE)

    def step(self, folder: Path) -> bool:
        """One job, if there is one, in a folder inside this one. Raises UnavailableError."""
        job = self.service.queue.claim(self.name, self.machine)
        if job is None:
            return False
        try:
            with _Lease(self.service.queue, job) as lease:
                _Attempt(self, job, folder, lease).make()
        except LeaseLostError as error:
            log.warning("%s", error)
            self._forget(job)
        return True

    def _forget(self, job: Job) -> None:
        """Remove what lost attempts have left in the store, where the job has ended without
        them, or was deleted."""
        with suppress(QuantlabError):
            try:
                now = self.service.queue.get(job.id)
            except NotFoundError:
                self.service.objects.remove(f"jobs/{job.id}")
                return
            if now.ended and now.attempts != job.attempts:
                self.service.objects.remove(job.folder)


def runtime_words() -> str:
    """This machine's CPU and runtimes: monitors may repeat their jobs when these change."""
    facts = environment()
    versions = [f"{name} {facts[name]}" for name in _RUNTIMES if name in facts]
    return ", ".join([f"{facts['cpu']} ({facts['isa']})", *versions])


class _Lease:
    """Renews a job's lease in a thread while the block runs."""

    def __init__(self, queue: Queue, job: Job) -> None:
        self._queue, self._job = queue, job
        self.cancelled = job.cancelled
        self._lost: LeaseLostError | None = None
        self._over = Flag()
        self._thread = Thread(target=self._keep, name=f"lease of {job.id}", daemon=True)

    def check(self) -> None:
        """Raises LeaseLostError."""
        if self._lost is not None:
            raise self._lost

    def _keep(self) -> None:
        while not self._over.wait(min(BEAT, self._queue.lease / 5)):
            try:
                self.cancelled = self._queue.heartbeat(self._job)
            except UnavailableError as error:
                log.warning("%s", error)
            except LeaseLostError as error:
                self._lost = error
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@dataclass
class _Attempt:
    """One worker's work on one job."""

    worker: Worker
    job: Job
    place: Path
    lease: _Lease
    said: list[tuple[str, str]] = field(default_factory=list)
    progress: dict[str, Any] | None = None
    out: str = ""
    err: str = ""
    _reported_progress: dict[str, Any] | None = None
    _last_report: float = 0.0
    _kept: float = 0.0

    def make(self) -> None:
        """Run the job to its end. Raises LeaseLostError."""
        service = self.worker.service
        folder = JobFolder(self.place / "job", self.job, service.objects, service.settings.bounds)
        try:
            outcome = self._outcome(folder)
            if outcome is None:
                self._retry(lambda: service.queue.release(self.job))
                return
            self._clean(outcome.run)
            self._retry(lambda: service.queue.finish(self.job, outcome))
            log.info("job %s: %s", self.job.id, outcome.state)
        finally:
            folder.remove()

    def _outcome(self, folder: JobFolder) -> JobOutcome | None:
        """None when the worker was told to stop. Raises LeaseLostError."""
        try:
            folder.lay_out()
            ended = self._ran(folder)
            if ended is None:
                return None
            return self._store_results(folder, ended)
        except (LeaseLostError, UnavailableError):
            raise
        except OutputError as error:  # the store or this disk: another attempt may do better
            raise LeaseLostError(error.problem, error.remedy) from error
        except QuantlabError as error:
            return JobOutcome("failed", error=str(error), out=self.out, reason="refused")
        except Exception:
            log.exception("job %s", self.job.id)
            words = "the service failed; its log says how."
            return JobOutcome("failed", error=words, out=self.out, reason="service")

    def _ran(self, folder: JobFolder) -> Ended | None:
        """Run the child; returns how it ended, None when the worker was told to stop."""
        settings = self.worker.service.settings
        cache = settings.cache.resolve()
        cache.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + settings.job_time
        with Child(
            {"task": "verb", "argv": folder.argv},
            folder.path,
            settings.limits(settings.job_time + GRACE),
            read=folder.read,
            write=[cache],
            env={"QUANTLAB_CACHE": str(cache)},
            required=settings.confine,
            tmp=self.place,
        ) as child:
            while (ended := child.ended) is None:
                for event in child.events(PAUSE):
                    self._hear(event)
                if self.worker.stop.is_set():
                    return None
                self._report()
                if self.lease.cancelled or time.monotonic() > deadline:
                    child.interrupt(GRACE)
                if self.job.verb == "tune" and time.monotonic() > self._kept + KEEP_SECONDS:
                    self._keep(folder)
        if ended.trace:
            log.warning("job %s: %s", self.job.id, ended.trace)
        late = time.monotonic() > deadline
        return Ended(ended.code, "time", _late(settings.job_time)) if late else ended

    def _keep(self, folder: JobFolder) -> None:
        """Store what another worker would need to continue."""
        try:
            folder.keep()
        except (OSError, OutputError) as error:  # or a file is gone again: it is tried once more
            log.warning("job %s: %s", self.job.id, error)
        self._kept = time.monotonic()

    def _hear(self, event: dict[str, Any]) -> None:
        kind, words = event["kind"], {k: _plain(v) for k, v in event.items() if isinstance(v, str)}
        if kind in ("say", "warn"):
            self.said = [*self.said[1 - MOST_SAID :], (kind, words["text"])]
        elif kind == "out":
            self.out = (self.out + words["text"])[-LONGEST_TEXT:]
        elif kind == "err":
            self.err = (self.err + words["text"])[-LONGEST_TEXT:]
        elif kind == "problem":
            self.err = f"{words['problem']}\n{words['remedy']}"
        elif kind == "progress":
            progress = {**words, "total": event["total"], "done": event["done"]}
            del progress["kind"]
            self.progress = None if event["done"] is None else progress

    def _report(self) -> None:
        """Send new events and progress to the database. While it is unavailable the job goes on.
        Raises LeaseLostError."""
        self.lease.check()
        now = time.monotonic()
        if now > self._last_report + PAUSE and (
            self.said or self.progress != self._reported_progress
        ):
            with suppress(UnavailableError):
                self.worker.service.queue.tell(self.job, self.said, self.progress)
                self.said, self._reported_progress, self._last_report = [], self.progress, now

    def _store_results(self, folder: JobFolder, ended: Ended) -> JobOutcome:
        """Store results, then how the job ended. Raises LeaseLostError, QuantlabError."""
        service = self.worker.service
        files = folder.results()
        for name, path in files.items():
            service.objects.put(f"{self.job.folder}/{name}", path)
            self.lease.check()
        runs = folder.path / RUNS
        run = next((run for run in reversed(scan(runs)) if f"{RUNS}/{run}/{RECORD}" in files), None)
        state = self._state(ended)
        if state == "done" or run is not None:
            self._name(folder, files, state, run)
        if self.said:
            self._retry(lambda: service.queue.tell(self.job, self.said, None))
        return JobOutcome(
            state,
            exit_code=ended.code,
            out=self.out,
            error=self._error(ended) if state != "done" else "",
            reason=ended.reason or "error" if state == "failed" else None,
            run=run,
            files={name: path.stat().st_size for name, path in files.items()},
        )

    def _state(self, ended: Ended) -> JobState:
        if self.lease.cancelled:
            return "cancelled"
        return "done" if ended.reason is None and ended.code in VERDICTS else "failed"

    def _error(self, ended: Ended) -> str:
        if self.lease.cancelled:
            return "It was cancelled."
        said = self.err.strip().removeprefix("Error: ")
        return ended.words if ended.reason else said or "it ended without a word."

    def _name(
        self, folder: JobFolder, files: dict[str, Path], state: JobState, run: str | None
    ) -> None:
        """Add what the job made to the catalog and the history: models, a baseline, a run."""
        service = self.worker.service
        made = [path for name, path in files.items() if "/" not in name and path.suffix == ".onnx"]
        for path in made:
            try:
                facts = facts_of(path, service.settings, self.place)
            except QuantlabError as error:  # the operator's bounds may be narrower than the verb's
                self.said.append(("warn", f"{path.name} is no model of the service: {error}"))
            else:
                self._retry(partial(self._add_model, path, facts))
        baseline = {
            name: f"{self.job.folder}/{name}"
            for name in files
            if name.startswith("quantlab-baseline.")
        }
        if self.job.verb == "baseline" and state == "done" and baseline:
            name = str(self.job.request["name"])
            self._retry(lambda: service.catalog.add_baseline(name, self.job.id, baseline))
        if run is not None:
            runs = folder.path / RUNS
            entry = (scan(runs)[run], read_entry(runs / run))
            self._retry(lambda: index_runs(service, [entry]))

    def _add_model(self, path: Path, facts: dict[str, Any]) -> None:
        service, sha256 = self.worker.service, hashlib.sha256(path.read_bytes()).hexdigest()
        service.add_model(path, sha256, path.stem, facts, job=self.job.id, token=self.job.token)

    def _retry(self, write: Callable[[], FoundJob]) -> FoundJob:
        """Repeat until the database answers. Raises LeaseLostError."""
        while True:
            try:
                return write()
            except UnavailableError as error:
                log.warning("%s", error)
                if self.worker.stop.wait(PAUSE):
                    raise LeaseLostError(
                        "the database could not be reached when the worker was stopped."
                    ) from error

    def _clean(self, run: str | None) -> None:
        """Remove files and runs that earlier attempts at this job have left."""
        service = self.worker.service
        earlier = [f"jobs/{self.job.id}/{attempt}" for attempt in range(1, self.job.attempts)]
        with suppress(OutputError):
            runs = {
                name.partition("/")[0]
                for folder in earlier
                for name in service.objects.sizes(f"{folder}/{RUNS}")
            }
            self._retry(lambda: index_runs(service, gone=runs - {run}))
            for folder in earlier:
                service.objects.remove(folder)


@contextmanager
def own_folder(work: Path, name: str) -> Iterator[Path]:
    """A worker's folder for as long as it works. What killed workers have left is removed: their
    locks are free."""
    work.mkdir(parents=True, exist_ok=True)
    folder, lock = work / name, work / f"{name}.lock"
    with ExitStack() as stack:
        with FileLock(work / "starting"):  # one at a time: a lock that is new is not yet held
            for left in work.glob("*.lock"):
                with suppress(Timeout), FileLock(left, timeout=0):
                    _remove(left.with_suffix(""), left)
            stack.enter_context(FileLock(lock))
            folder.mkdir()
        stack.callback(_remove, folder, lock)
        yield folder.resolve()


def _remove(folder: Path, lock: Path) -> None:
    """A worker's folder, then its lock: what is in use for a moment longer goes another time."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        lock.unlink(missing_ok=True)


def _plain(text: str) -> str:
    """What any database and page can hold: no NUL, and no half of a character."""
    return text.encode("utf-8", "replace").decode().replace("\0", "?")


def _late(seconds: float) -> str:
    return f"it took longer than {seconds:.0f} s and was stopped."


def index_runs(
    service: Service, entries: Sequence[tuple[str, Entry]] = (), gone: Collection[str] = ()
) -> None:
    """Add runs to the history, or remove them. Raises UnavailableError."""
    if not (entries or gone):
        return
    try:
        with Index(service.settings.db_url, PLACE) as index:
            index.update(entries, gone)
    except RecordError as error:
        if isinstance(error.__cause__, OperationalError | InterfaceError):
            raise UnavailableError(error.problem, error.remedy) from error
        log.error("a run is not in the history: %s", error)
