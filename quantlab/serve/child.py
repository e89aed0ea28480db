"""Run one task in a confined process: ``python -m quantlab.serve.child FD``.

A line of JSON on standard input says what to do (see ``process.Child``, which writes it). What
comes of it goes to the file descriptor FD as events, a line of JSON each, the last of them
``{"kind": "exit", …}``. Standard input then stays open: when it ends, the parent is gone, and the
process ends with all that it has started.
"""

from __future__ import annotations

import codecs
import errno
import faulthandler
import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from quantlab._util.interrupts import accept_interrupts
from quantlab.errors import QuantlabError, disk_is_full
from quantlab.serve.sandbox import SandboxLimits, confine

if TYPE_CHECKING:
    from quantlab._util.reporter import Advance

PIECE = 8_000
"""Characters of a longer text that one event holds."""
INTERVAL = 0.25
"""Seconds between two words about progress."""


class EventWriter:
    """Writes events to a pipe. Safe from several threads."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._lock = threading.Lock()

    def write(self, kind: str, **facts: Any) -> None:
        """Write one event."""
        line = json.dumps({"kind": kind, **facts}).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._handle, line) :]

    def text(self, kind: str, text: str) -> None:
        """Write a text as one event, or as several where it is long."""
        for start in range(0, max(1, len(text)), PIECE):
            self.write(kind, text=text[start : start + PIECE])


class EventReporter:
    """A Reporter that writes events. When quiet it writes warnings only, as the command line
    does."""

    def __init__(self, writer: EventWriter, quiet: bool) -> None:
        self._writer = writer
        self.quiet = quiet
        self.warnings: list[str] = []

    def say(self, text: str) -> None:
        """Write one line about what is being done."""
        if not self.quiet:
            self._writer.text("say", text)

    def warn(self, text: str) -> None:
        """Write one line that the user should not miss; keep it for the record."""
        self.warnings.append(text)
        self._writer.text("warn", text)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Write at most four events a second; the last has no ``done``."""
        last = 0.0

        def tell(done: int | None, note: str) -> None:
            self._writer.write(
                "progress", label=label[:200], total=total, done=done, note=note[:200]
            )

        def advance(done: int, note: str) -> None:
            nonlocal last
            now = time.monotonic()
            if not self.quiet and now - last >= INTERVAL:
                last = now
                tell(done, note)

        try:
            yield advance
        finally:
            if not self.quiet and last:
                tell(None, "")


class _EventBytes(io.RawIOBase):
    """A byte stream that turns UTF-8 lines into events."""

    def __init__(self, writer: EventWriter, kind: str) -> None:
        self._writer, self._kind = writer, kind
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        content = bytes(data)
        if text := self._decoder.decode(content):
            self._writer.text(self._kind, text)
        return len(content)


def event_stream(writer: EventWriter, kind: str) -> io.TextIOWrapper:
    """A text stream that turns each line written to it into an event of this kind."""
    buffer = io.BufferedWriter(_EventBytes(writer, kind))
    return io.TextIOWrapper(buffer, encoding="utf-8", errors="replace", line_buffering=True)


def run_verb(task: dict[str, Any], writer: EventWriter) -> int:
    """Run the command line ``argv``; returns its exit code."""
    from quantlab.cli import main

    try:
        main.main(
            args=task["argv"],
            prog_name="quantlab",
            obj=lambda quiet: EventReporter(writer, quiet),
        )
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        print(ended.code, file=sys.stderr)
        return 1
    return 0


def run_check(task: dict[str, Any], writer: EventWriter) -> int:
    """Check the upload ``file``; writes a ``result`` event with the facts of the model."""
    from quantlab.serve.checks import check_upload
    from quantlab.serve.packed import Bounds

    bounds = Bounds.model_validate(task["bounds"])
    facts = check_upload(Path(task["file"]), Path(), bounds)
    writer.write("result", facts=facts.model_dump(mode="json"))
    return 0


TASKS: dict[str, Callable[[dict[str, Any], EventWriter], int]] = {
    "verb": run_verb,
    "check": run_check,
}


def main() -> NoReturn:
    """Read the task, confine the process, run the task, write how it ended."""
    writer = EventWriter(int(sys.argv[1]))
    os.set_inheritable(int(sys.argv[1]), False)
    task = json.loads(sys.stdin.readline())
    facts: dict[str, str] = {}
    try:
        accept_interrupts()
        _confine(task)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        faulthandler.enable(2)
        sys.stdout, sys.stderr = event_stream(writer, "out"), event_stream(writer, "err")
        code = TASKS[task["task"]](task, writer)
    except QuantlabError as error:
        code = 2
        writer.write("problem", problem=error.problem, remedy=error.remedy)
    except KeyboardInterrupt:
        code = 130
    except BaseException as error:
        code, facts = 1, _unexpected(error)
    sys.stdout.flush()
    sys.stderr.flush()
    writer.write("exit", code=code, **facts)
    # No clean-up of libraries, some of which hang: the parent removes the temporary folder.
    os._exit(code)


def _confine(task: dict[str, Any]) -> None:
    try:
        held = confine(
            map(Path, task["read"]), map(Path, task["write"]), SandboxLimits(**task["limits"])
        )
    except OSError as error:
        raise QuantlabError(f"the process cannot be confined: {error}.") from error
    if task["required"] and not held.complete:
        raise QuantlabError(
            "this machine cannot confine jobs: " + "; ".join(held.lines()) + ".",
            "See docs/security.md.",
        )


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def _unexpected(error: BaseException) -> dict[str, str]:
    """Why an error ended the task, and for the operator where."""
    reason = "error"
    if isinstance(error, MemoryError):
        reason = "memory"
    elif isinstance(error, OSError) and error.errno == errno.EFBIG:
        reason = "file"
    elif disk_is_full(error):
        reason = "disk"
    trace = "".join(traceback.format_exception(error))
    return {"reason": reason, "trace": trace[-PIECE:]}


if __name__ == "__main__":
    main()
