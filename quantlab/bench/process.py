"""Start benchmark processes together, send them orders, end them with the block."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Any

from quantlab._util.children import child, kill, last_line, with_quantlab
from quantlab.bench.task import BenchTask
from quantlab.errors import ModelError, QuantlabError

COMMAND = (sys.executable, "-P", "-m", "quantlab.bench.child")


class Deadline:
    """A time limit in seconds for a whole benchmark."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """The remaining seconds."""
        return max(0.0, self._end - time.monotonic())


class BenchProcess:
    """One benchmark process. ``ask`` gives it an order and waits for the answer; ``send`` and
    ``receive`` are the halves of that, so that several can work at once."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes], late: str) -> None:
        self._process, self._errors, self._late = process, errors, late
        self.stopped = threading.Event()

    def send(self, word: str) -> None:
        """Send one line to the process. That it cannot be reached is reported by ``receive``."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(word + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return

    def order(self, do: str, **details: object) -> None:
        """Send an order."""
        self.send(json.dumps({"do": do, **details}))

    def receive(self) -> Any:
        """The answer to the oldest order. Raises ModelError for what the process found wrong with
        a model, QuantlabError when it has ended or was out of time."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._early_end()
        message = json.loads(line)
        if "problem" in message:
            raise ModelError(message["problem"], message["remedy"])
        return message["answer"]

    def ask(self, do: str, **details: object) -> Any:
        """Send an order and wait for its answer."""
        self.order(do, **details)
        return self.receive()

    def stop(self) -> None:
        """End the process because the time limit is over."""
        self.stopped.set()
        kill(self._process)

    def _early_end(self) -> QuantlabError:
        code = self._process.wait()
        if self.stopped.is_set():
            return QuantlabError(self._late, "Ask for fewer rounds or smaller batches.")
        if code < 0:
            return QuantlabError(
                f"the benchmark process was killed ({signal.Signals(-code).name}).",
                "Often memory ran out: try smaller batches, or fewer models at a time.",
            )
        last = last_line(self._errors)
        said = f": {last[:300]}" if last else ""
        return QuantlabError(f"the benchmark process ended early with exit code {code}{said}.")


@contextmanager
def workers(
    tasks: Sequence[BenchTask],
    deadline: Deadline,
    *,
    files: Sequence[int] = (),
    command: tuple[str, ...] = COMMAND,
) -> Iterator[list[BenchProcess]]:
    """A fresh process for each task. They have the open ``files``, and do not outlive the block nor
    the deadline."""
    late = f"the benchmark did not finish in {deadline.seconds:.0f} s and was stopped."
    with ExitStack() as stack:
        started = [stack.enter_context(_started(command, files, late)) for _ in tasks]
        timer = threading.Timer(deadline.left, _stop_all, (started,))
        timer.daemon = True
        stack.callback(timer.cancel)
        timer.start()
        for worker, task in zip(started, tasks, strict=True):
            worker.send(task.to_json())
        yield started


@contextmanager
def _started(command: tuple[str, ...], files: Sequence[int], late: str) -> Iterator[BenchProcess]:
    with (
        tempfile.TemporaryFile() as errors,
        child(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
            env=with_quantlab(),
            pass_fds=files,
        ) as process,
    ):
        yield BenchProcess(process, errors, late)


def _stop_all(started: Sequence[BenchProcess]) -> None:
    for worker in started:
        worker.stop()
