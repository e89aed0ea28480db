"""Starting a benchmark process and hearing it out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import quantlab
from quantlab.bench.task import Task
from quantlab.errors import ModelError, QuantlabError

Heard = Callable[[int, str], None]
COMMAND = (sys.executable, "-P", "-m", "quantlab.bench.child")


def run_task(
    task: Task, *, timeout: float, heard: Heard | None = None, command: tuple[str, ...] = COMMAND
) -> dict[str, Any]:
    """The result of the task, from a fresh process that ends with it.

    ``heard`` is told how many rounds are done, with a note. Raises ModelError for what the process
    found wrong with a model, QuantlabError when it ends early or takes over ``timeout`` seconds.
    """
    late = threading.Event()
    with tempfile.TemporaryFile() as errors, _started(command, errors) as process:
        timer = threading.Timer(timeout, _stop, (process, late))
        timer.daemon = True
        try:
            timer.start()
            answer = _converse(process, task, heard)
            process.wait()
        finally:
            timer.cancel()
        if late.is_set():
            raise QuantlabError(
                f"the benchmark process did not finish in {timeout:.0f} s and was stopped.",
                "Ask for fewer rounds or smaller batches.",
            )
        if answer is None:
            raise _early_end(process.returncode, errors)
    if "problem" in answer:
        raise ModelError(answer["problem"], answer["remedy"])
    return dict(answer["result"])


@contextmanager
def _started(command: tuple[str, ...], errors: IO[bytes]) -> Iterator[subprocess.Popen[str]]:
    """The process, which does not outlive the block."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        env=_environment(),
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _stop(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    process.kill()


def _environment() -> dict[str, str]:
    """The process finds this very quantlab, installed or not."""
    home = str(Path(quantlab.__file__).resolve().parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def _converse(
    process: subprocess.Popen[str], task: Task, heard: Heard | None
) -> dict[str, Any] | None:
    """The process's last word, None when it ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(task.to_json())
        process.stdin.close()
    except BrokenPipeError:
        return None
    for line in process.stdout:
        if not line.endswith("\n"):
            break
        message: dict[str, Any] = json.loads(line)
        if "done" not in message:
            return message
        if heard is not None:
            heard(message["done"], message["note"])
    return None


def _early_end(code: int, errors: IO[bytes]) -> QuantlabError:
    if code < 0:
        name = signal.Signals(-code).name
        return QuantlabError(
            f"the benchmark process was killed ({name}).",
            "Often memory ran out: try smaller batches, or fewer models at a time.",
        )
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    last = f": {lines[-1][:300]}" if lines else ""
    return QuantlabError(f"the benchmark process ended early with exit code {code}{last}.")
