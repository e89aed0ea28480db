"""Child processes that do not outlive a block, and what they said last."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import quantlab


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process, with the options of Popen, in a group of its own. When the block ends it is killed
    with all that it has started; what was not yet sent to it is lost. Raises OSError."""
    process = subprocess.Popen(command, start_new_session=True, **options)
    try:
        yield process
    finally:
        kill(process)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def kill(process: subprocess.Popen[Any]) -> None:
    """Kill the process and its group, where it has one of its own."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def with_quantlab() -> dict[str, str]:
    """Environment variables with which a process imports this same quantlab, installed or not."""
    home = str(Path(quantlab.__file__).resolve().parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def last_line(log: IO[bytes]) -> str:
    """The last line that is not empty, "" where there is none."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
