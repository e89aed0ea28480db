"""Run folders: one a run, with its record, its artifacts and its lock."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from quantlab._util.files import output_error, write_whole
from quantlab.errors import OutputError, QuantlabError, RecordError, ResumeError
from quantlab.runs.record import RunRecord, RunStatus, load_record

_LOCK = ".lock"
_ASKED = ("config", "mapped")
"""Artifacts that say what was asked."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Nobody resumes the run of this folder within the block. Raises RecordError when it is at work
    now. What a killed process has left is not at work: its lock died with it.
    """
    if not (folder / _LOCK).is_file():
        yield
        return
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RecordError(f"{folder} is at work.", "Wait for its end, or end it.") from error
    except OSError:  # a folder that cannot be written: nobody is at work there
        yield
        return
    try:
        yield
    finally:
        lock.release()


class Run:
    """One run's folder and its record, which is on disk from the first moment.

    ``with Run(verb, spec, command, root) as run`` ends the record with success, or with the error
    that left the block (which goes on to the caller). A run that could not be resumed as asked
    keeps the record it had. The folder is locked until the block or the process ends: ``held``
    tells by it which runs are at work.

    One that is not ``kept`` has a record in memory alone. One that ``drops_failure`` leaves nothing
    when an error of the user's ends it before anything came out.
    """

    before: RunRecord | None = None
    kept: bool = True
    drops_failure: bool = False

    def __init__(
        self, verb: str, spec: dict[str, Any], command: str, root: Path, *, kept: bool = True
    ) -> None:
        now = datetime.now(UTC)
        run_id = f"{now:%Y%m%dT%H%M%SZ}-{verb}-{secrets.token_hex(3)}"
        from quantlab.runtime.environment import environment

        self.folder, self.kept = root / run_id, kept
        self._new_root = kept and not root.exists()
        if kept:
            self._lock()
        self.record = RunRecord(
            id=run_id,
            verb=verb,
            started=now.isoformat(timespec="seconds"),
            command=command,
            spec=spec,
            environment=environment(),
        )
        self.save()

    @classmethod
    def resume(cls, folder: Path) -> Run:
        """Take up a run again: its record is as it was, but started. Raises RecordError, and
        ResumeError when another process is at work on it."""
        from quantlab.runtime.environment import environment

        load_record(folder)
        run = cls.__new__(cls)
        run.folder = folder
        try:
            run._lock()
        except Timeout as error:
            raise ResumeError(
                f"{folder} is being tuned by another process.", "Wait for it, or start a new run."
            ) from error
        run.before = load_record(folder)
        now = {"status": "started", "error": None, "finished": None, "environment": environment()}
        run.record = run.before.model_copy(update=now, deep=True)
        run.save()
        return run

    def _lock(self) -> None:
        """Raises Timeout when another process has locked it, OutputError. On a file system without
        locks no lock is taken: its runs never count as in use."""
        path = self.folder / _LOCK
        self._held = FileLock(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(NotImplementedError):
                self._held.acquire(timeout=0)
        except Timeout:
            raise
        except OSError as error:
            raise output_error(path, error) from error

    def artifact(self, name: str, filename: str) -> Path:
        """Registers a file of the run folder and returns its path; the caller writes it."""
        self.record.artifacts[name] = filename
        return self.folder / filename

    def save(self) -> None:
        """Write ``run.json``. Raises OutputError."""
        if not self.kept:
            return
        text = json.dumps(self.record.model_dump(mode="json"), indent=1, ensure_ascii=False)
        write_whole(self.folder / "run.json", text + "\n")

    def finish(self, status: RunStatus, error: str | None = None) -> None:
        """End the record."""
        self.record.status = status
        self.record.error = error
        self.record.finished = datetime.now(UTC).isoformat(timespec="seconds")
        self.save()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.kept:
            return self._end(error)
        try:
            self._end(error)
        finally:
            self._held.release()
        if self.drops_failure and isinstance(error, QuantlabError) and self._is_bare():
            shutil.rmtree(self.folder, ignore_errors=True)
            if self._new_root:
                with suppress(OSError):
                    self.folder.parent.rmdir()
        return None

    def _is_bare(self) -> bool:
        """Whether nothing came out of it: there is no more than the record and what was asked."""
        asked = {"run.json", _LOCK} | {self.record.artifacts.get(name) for name in _ASKED}
        there = {path.name for path in self.folder.iterdir()}
        return self.before is None and not self.record.results and there <= asked

    def _end(self, error: BaseException | None) -> None:
        if error is None:
            if self.record.status == "started":
                self.finish("success")
            else:
                self.save()
            return
        if isinstance(error, ResumeError) and self.before is not None:
            self.record = self.before
            self.save()
            return
        status: RunStatus = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
        message = str(error) if isinstance(error, QuantlabError) else repr(error)
        try:
            self.finish(status, message)
        except OutputError:
            # The disk may be full: the error under way says more than this one would.
            return
