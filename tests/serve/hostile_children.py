"""Children with hostile tasks, for tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from quantlab.serve.process import Child, ChildEvent, Ended
from quantlab.serve.sandbox import SandboxLimits

COMMAND = (sys.executable, "-P", str(Path(__file__).with_name("hostile.py")))
OPEN = (*COMMAND, "--without=namespace,Landlock,seccomp")
LIMITS = SandboxLimits(memory_bytes=2 * 10**9, cpu_seconds=30, seconds=600.0, file_bytes=10**9)


def hostile(
    task: dict[str, Any], folder: Path, limits: SandboxLimits = LIMITS, **options: Any
) -> Child:
    """A child that does a task of ``hostile.py``."""
    return Child(task, folder, limits, **{"command": COMMAND, **options})


def outcome(child: Child) -> tuple[list[ChildEvent], Ended]:
    """All that it says, and how it ends."""
    events: list[ChildEvent] = []
    while (ended := child.ended) is None:
        events += child.events(1.0)
    return events, ended


def await_word(child: Child) -> str:
    """The first line that it says."""
    while child.ended is None:
        for event in child.events(1.0):
            if event["kind"] == "say":
                return str(event["text"])
    raise AssertionError(child.ended)
