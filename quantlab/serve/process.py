"""Start a confined child process, read its events, enforce its limits, end its process group."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import psutil

from quantlab._util.interrupts import held_back
from quantlab.errors import QuantlabError
from quantlab.serve.sandbox import SandboxLimits

Reason = Literal[
    "memory", "time", "cpu", "file", "disk", "output", "processes", "cancelled", "killed",
    "crash", "error",
]  # fmt: skip
ChildEvent = dict[str, Any]
"""``{"kind": "say" | "warn" | "out" | "err", "text"}``, ``{"kind": "progress", "label", "total",
"done", "note"}`` with ``done`` None when the bar vanishes, ``{"kind": "result", "facts"}``,
``{"kind": "problem", "problem", "remedy"}``, ``{"kind": "exit", "code"}``."""

COMMAND = (sys.executable, "-P", "-m", "quantlab.serve.child")
LINE_BYTES = 64 * 1024
"""What is longer of a line is dropped, and the line with it."""
LOG_BYTES = 16 * 1024**2
MAX_FILES = 100_000
WATCH_SECONDS = 0.5
LOOKS_A_WALK = 10
GRACE_SECONDS = 10.0
_AT_ONCE = 1 << 20
_TAIL = 4_000
_INTERRUPTED = 130
_INTERRUPTED_AT_ITS_END = (-signal.SIGINT, 1)
"""How Python ends when it is interrupted after its task, before it has said so."""
_INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH")
_TEXT = {"text": str}
_FIELDS: dict[str, dict[str, Any]] = {
    "say": _TEXT,
    "warn": _TEXT,
    "out": _TEXT,
    "err": _TEXT,
    "progress": {"label": str, "total": int, "done": int | None, "note": str},
    "result": {"facts": dict},
    "problem": {"problem": str, "remedy": str},
    "exit": {"code": int},
}


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code, or None where something else ended it.

    ``reason`` is None when the task itself ended, well or not; ``words`` say it to the client,
    ``trace`` (never for the client) to the operator.
    """

    code: int | None
    reason: Reason | None = None
    words: str = ""
    trace: str = ""


class Child:
    """A confined process for one task, with its process group; killed when the block ends.

    ``task``: {"task": "verb", "argv": [str, …]} or {"task": "check", "file": str, "bounds": {…}}.
    Its working folder is ``folder``, which it may write, as ``write`` and a temporary folder of its
    own, made in ``tmp``; it may read ``read`` beside Python and the system's libraries. ``env`` is
    added to the few variables that it has; QUANTLAB_CACHE must be in ``write`` where it is given.
    ``required``: it refuses to work where it cannot be confined wholly.

    Its limits hold whether or not ``events`` is called. Raises QuantlabError when there are no
    process groups here.
    """

    def __init__(
        self,
        task: Mapping[str, Any],
        folder: Path,
        limits: SandboxLimits,
        *,
        read: Sequence[Path] = (),
        write: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        required: bool = True,
        tmp: Path | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        if not hasattr(os, "killpg"):
            raise QuantlabError("jobs cannot be run on this system.", "Use Linux, or macOS.")
        self.limits = limits
        self._buffer, self._lines, self._open, self._too_long = b"", 0, True, False
        self._exit: ChildEvent | None = None
        self._stopped: tuple[Reason, str] | None = None
        self._trace = ""
        self._status: int | None = None
        self._deadline = time.monotonic() + limits.seconds
        self._grace_ends: float | None = None
        self._lock = threading.Lock()
        with ExitStack() as stack:
            name = stack.enter_context(
                tempfile.TemporaryDirectory(
                    prefix="quantlab-child-", dir=tmp, ignore_cleanup_errors=True
                )
            )
            self._places = (folder, Path(name).resolve())
            self._log = stack.enter_context(tempfile.TemporaryFile())
            self._events_fd, said = os.pipe()
            stack.callback(os.close, self._events_fd)
            try:
                with held_back():  # it hears one that comes early as soon as it can
                    self._process = subprocess.Popen(
                        [*command, str(said)],
                        cwd=folder,
                        env=_environment(self._places[1], env or {}),
                        stdin=subprocess.PIPE,
                        stdout=self._log,
                        stderr=self._log,
                        pass_fds=[said],
                        start_new_session=True,
                    )
            finally:
                os.close(said)
            self._stack = stack.pop_all()
        order = {
            **task,
            "limits": asdict(limits),
            "read": [str(path.absolute()) for path in read],
            "write": [str(path.absolute()) for path in (*self._places, *write)],
            "required": required,
        }
        self._send(order)
        self._watch = threading.Thread(target=self._enforce_limits, daemon=True)
        self._watch.start()

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        return self._process.pid

    def events(self, timeout: float) -> list[ChildEvent]:
        """New events, after at most ``timeout`` seconds of waiting for one."""
        if not self._open:
            self._watch.join(timeout)
            return []
        was_over = self._status is not None
        if not _readable(self._events_fd, timeout):
            self._open = not was_over
            return []
        data = os.read(self._events_fd, _AT_ONCE)
        self._open = bool(data)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        found = [event for line in lines if (event := self._parse_event(line)) is not None]
        if len(self._buffer) > LINE_BYTES:
            self._buffer, self._too_long = b"", True
            self._lines += 1
        return found

    def interrupt(self, grace: float = GRACE_SECONDS) -> None:
        """As Ctrl-C would; after ``grace`` seconds it is killed. Once is enough: again does
        nothing."""
        with self._lock:
            if self._grace_ends is not None:
                return
            self._grace_ends = time.monotonic() + grace
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """Kill the process and all that it has started, at once."""
        self._stop("killed", "it was ended.")

    @property
    def ended(self) -> Ended | None:
        """How it ended, once its process group is gone and all its events were read."""
        if self._status is None or self._open:
            return None
        if self._stopped is not None:
            return Ended(None, *self._stopped, trace=self._trace)
        if self._exit is None and self._grace_ends and self._status in _INTERRUPTED_AT_ITS_END:
            return Ended(_INTERRUPTED)
        if self._exit is None:
            return Ended(None, *_unexplained_end(self._status, self.limits), trace=self._trace)
        if reason := self._exit.get("reason"):
            trace = str(self._exit.get("trace", ""))
            return Ended(self._exit["code"], *_early(reason, self.limits), trace=trace)
        return Ended(self._exit["code"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._watch.join()
        self._open = False
        self._stack.close()

    def _send(self, order: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, which ``ended`` says
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()

    def _parse_event(self, line: bytes) -> ChildEvent | None:
        """The event of a line, without what does not belong in it."""
        self._lines += 1
        if self._lines > self.limits.lines:
            self._stop("output", f"it said more than {self.limits.lines:,} lines.")
            return None
        if self._too_long or len(line) > LINE_BYTES:
            self._too_long = False
            return None
        try:
            said = json.loads(line)
            fields = _FIELDS[said["kind"]]
            if not all(isinstance(said[key], kind) for key, kind in fields.items()):
                return None
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        if said["kind"] == "exit":
            self._exit = said
        return {"kind": said["kind"], **{key: said[key] for key in fields}}

    def _enforce_limits(self) -> None:
        """Enforce the limits until the process has ended, then kill what is left of its group, also
        when enforcing fails."""
        look = 0
        try:
            while not _ends_within(self._process, WATCH_SECONDS):
                over = self._over() or (
                    self._exceeded_disk_limit() if look % LOOKS_A_WALK == 0 else None
                )
                if over is not None:
                    self._stop(*over)
                look += 1
        finally:
            self._kill_all()
            self._trace = self._tail()
            with self._lock:
                self._status = self._process.wait()
            assert self._process.stdin is not None
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def _over(self) -> tuple[Reason, str] | None:
        """The limit that the process exceeds, if any."""
        now, limits = time.monotonic(), self.limits
        if now > self._deadline:
            return "time", f"it took longer than {limits.seconds:.0f} s."
        if self._grace_ends is not None and now > self._grace_ends:
            return "cancelled", "it was cancelled, and did not end by itself."
        if os.fstat(self._log.fileno()).st_size > LOG_BYTES:
            return "output", f"it printed more than {LOG_BYTES >> 20} MiB past its parent."
        family = _family(self.pid)
        if len(family) > limits.processes:
            return "processes", f"it started more than {limits.processes} processes."
        memory, cpu = _usage(family)
        if memory > limits.memory_bytes:
            return _early("memory", limits)
        if cpu > limits.cpu_seconds:
            return _early("cpu", limits)
        return None

    def _exceeded_disk_limit(self) -> tuple[Reason, str] | None:
        """The disk limit that it exceeds, if any. Its own folders are walked, and no link is
        followed."""
        size = count = 0
        for place in self._places:
            for path, _, names in os.walk(place):
                count += 1 + len(names)
                for name in names:
                    with suppress(OSError):
                        size += Path(path, name).lstat().st_size
                if count > MAX_FILES:
                    return "file", f"it wrote more than {MAX_FILES:,} files."
        too_much = size > self.limits.file_bytes
        return _early("file", self.limits) if too_much else None

    def _stop(self, reason: Reason, words: str) -> None:
        with self._lock:
            if self._stopped is None and self._status is None and self._exit is None:
                self._stopped = (reason, words)
        self._kill_all()

    def _signal(self, number: signal.Signals) -> None:
        """To the group, whose number is not another's as long as the process is not waited for."""
        with self._lock:
            if self._status is None:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, number)

    def _kill_all(self) -> None:
        strays = _family(self.pid) if self._status is None else []
        self._signal(signal.SIGKILL)
        for process in strays:
            with suppress(psutil.Error):
                process.kill()

    def _tail(self) -> str:
        self._log.seek(max(0, os.fstat(self._log.fileno()).st_size - _TAIL))
        return self._log.read().decode(errors="replace")


def run_task(
    task: Mapping[str, Any], folder: Path, limits: SandboxLimits, **options: Any
) -> dict[str, Any]:
    """The facts of a task that has a result. Raises QuantlabError for what it found wrong, and
    when it could not be done within the limits. ``options``: those of Child."""
    facts: dict[str, Any] | None = None
    problem: QuantlabError | None = None
    with Child(task, folder, limits, **options) as child:
        while (ended := child.ended) is None:
            for event in child.events(1.0):
                if event["kind"] == "result":
                    facts = event["facts"]
                elif event["kind"] == "problem":
                    problem = QuantlabError(event["problem"], event["remedy"])
    if problem is not None:
        raise problem
    if facts is None or ended.code != 0:
        raise QuantlabError(f"the {task['task']} did not end well: {ended.words or 'no result.'}")
    return facts


def _environment(tmp: Path, more: Mapping[str, str]) -> dict[str, str]:
    """The few environment variables that the child gets, none of them secret."""
    import quantlab

    home = Path(quantlab.__file__).resolve().parent.parent
    return {
        **{name: os.environ[name] for name in _INHERITED if name in os.environ},
        "HOME": str(tmp),
        "TMPDIR": str(tmp),
        "XDG_CACHE_HOME": str(tmp),
        "MPLCONFIGDIR": str(tmp),
        "PYTHONPATH": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        **more,
    }


def _readable(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Whether the process ends within so many seconds. Where possible it stays in the process
    table, unreaped: so its group keeps its number."""
    if not hasattr(os, "pidfd_open"):
        time.sleep(min(seconds, 0.05))
        return process.poll() is not None
    handle = os.pidfd_open(process.pid)
    try:
        return _readable(handle, seconds)
    finally:
        os.close(handle)


def _family(pid: int) -> list[psutil.Process]:
    """The process, its group, and processes that it has started outside of the group."""
    found: dict[int, psutil.Process] = {}
    with suppress(psutil.Error):
        found |= {child.pid: child for child in psutil.Process(pid).children(recursive=True)}
    for other in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.Error):
            if os.getpgid(other) == pid:
                found[other] = psutil.Process(other)
    return list(found.values())


def _usage(family: Sequence[psutil.Process]) -> tuple[int, float]:
    """Resident bytes and CPU seconds of all processes together."""
    memory, cpu = 0, 0.0
    for process in family:
        with suppress(psutil.Error), process.oneshot():
            memory += process.memory_info().rss
            cpu += sum(process.cpu_times()[:4])  # with the processes that it has waited for
    return memory, cpu


def _early(reason: str, limits: SandboxLimits) -> tuple[Reason, str]:
    """Why a task ended before its time, in words."""
    words: dict[Reason, str] = {
        "memory": f"it needed more than {limits.memory_bytes / 1e9:.3g} GB of memory.",
        "cpu": f"it needed more than {limits.cpu_seconds} s of CPU time.",
        "file": f"it wrote more than {limits.file_bytes / 1e9:.3g} GB.",
        "disk": "the disk is full.",
    }
    found = next((known for known in words if known == reason), None)
    return ("error", "an internal error.") if found is None else (found, words[found])


def _unexplained_end(status: int, limits: SandboxLimits) -> tuple[Reason, str]:
    """Why a process ended without reporting how."""
    if status == -signal.SIGXCPU:
        return _early("cpu", limits)
    if status == -signal.SIGXFSZ:
        return _early("file", limits)
    if status < 0:
        return "crash", f"it crashed ({signal.Signals(-status).name}); often memory ran out."
    return "crash", f"it ended without a word, with exit code {status}."
