"""What a confined child cannot do, tried by one; and what honest work can."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile import REFUSED
from hostile_children import COMMAND, hostile, outcome

import quantlab
from quantlab.serve import sandbox
from quantlab.serve.process import Ended
from quantlab.serve.sandbox import Held, available

HELD = available()
needs_network = pytest.mark.skipif(
    not HELD.no_network, reason=f"this kernel closes no network: {HELD}"
)
needs_files = pytest.mark.skipif(not HELD.files, reason=f"this kernel has no Landlock: {HELD}")
needs_filter = pytest.mark.skipif(not HELD.filtered, reason=f"no seccomp filter here: {HELD}")
needs_scopes = pytest.mark.skipif(HELD.files < 6, reason=f"Landlock has no scopes here: {HELD}")


def attempt(folder: Path, task: str, **facts: Any) -> str | None:
    """None where the child was refused, else what it got."""
    options = {key: facts.pop(key) for key in ("read", "write", "command") if key in facts}
    with hostile({"task": task, **facts}, folder, required=False, **options) as child:
        events, ended = outcome(child)
    assert ended in (Ended(0), Ended(REFUSED)), (ended, events)
    return None if ended.code == REFUSED else str(events[0]["text"])


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The child's own folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def port() -> Iterator[int]:
    """Somebody listens there, and is reached from here."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        socket.create_connection(("127.0.0.1", number)).close()
        server.accept()[0].close()
        server.settimeout(0)
        yield number
        with pytest.raises(BlockingIOError):
            server.accept()


@needs_network
def test_no_connection(work: Path, port: int) -> None:
    assert attempt(work, "connect", port=port) is None


@pytest.mark.parametrize("means", ["namespace", "Landlock", "seccomp"])
def test_each_means_by_itself_refuses_a_connection(means: str, work: Path, port: int) -> None:
    if means not in HELD.network:
        pytest.skip(f"this kernel has no {means} against connections: {HELD}")
    others = ",".join({"namespace", "Landlock", "seccomp"} - {means})
    command = (*COMMAND, f"--without={others}")
    assert attempt(work, "connect", port=port, command=command) is None


@needs_network
def test_no_datagram(work: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there:
        there.bind(("127.0.0.1", 0))
        there.settimeout(0.2)
        assert attempt(work, "datagram", port=there.getsockname()[1]) is None
        with pytest.raises(TimeoutError):
            there.recv(9)


@needs_filter
def test_no_unix_socket(work: Path) -> None:
    path = work / "socket"
    with socket.socket(socket.AF_UNIX) as there:
        there.bind(str(path))
        there.listen()
        assert attempt(work, "unix", path=str(path)) is None


@needs_filter
@pytest.mark.parametrize("task", ["io_uring", "memfd"])
def test_no_way_around(task: str, work: Path) -> None:
    assert attempt(work, task) is None


@needs_files
@pytest.mark.parametrize("task", ["read", "write", "truncate", "remove"])
def test_no_file_of_others(task: str, work: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("secret")
    assert attempt(work, task, path=str(path)) is None
    assert path.read_text() == "secret"


@needs_files
def test_no_new_file_outside(work: Path, tmp_path: Path) -> None:
    assert attempt(work, "write", path=str(tmp_path / "new")) is None
    assert attempt(work, "write", path="/tmp/quantlab-new") is None
    assert attempt(work, "list", path=str(tmp_path)) is None
    assert not (tmp_path / "new").exists()


@needs_files
def test_a_given_folder_is_read_and_not_written(work: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "image").write_text("pixels")
    (work / "link").symlink_to(data)
    assert attempt(work, "read", path=str(work / "link" / "image"), read=[data]) == "b'pixels'"
    for task in ("write", "truncate", "remove"):
        assert attempt(work, task, path=str(data / "image"), read=[data]) is None
    assert attempt(work, "write", path=str(data / "new"), write=[data]) is not None


@needs_files
def test_no_link_comes_into_its_folder(work: Path, tmp_path: Path) -> None:
    """Who puts its results away would follow it."""
    (tmp_path / "secret").write_text("secret")
    assert attempt(work, "link", path=str(tmp_path / "secret")) is None
    assert attempt(work, "hard link", path=str(tmp_path / "secret")) is None


@needs_files
def test_what_it_wrote_is_not_run(work: Path) -> None:
    assert attempt(work, "written program") is None


@needs_files
def test_a_checkout_is_no_place_to_look_for_secrets(work: Path) -> None:
    root = Path(quantlab.__file__).parents[1]
    if not (root / "pyproject.toml").is_file():
        pytest.skip("quantlab is installed, not a checkout")
    assert attempt(work, "read", path=str(root / "pyproject.toml")) is None


@needs_scopes
def test_no_signal_and_no_look_into_other_processes(work: Path) -> None:
    assert attempt(work, "environ", pid=os.getpid()) is None
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        assert attempt(work, "kill", pid=other.pid) is None
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are Linux's")
def test_no_privileges(work: Path) -> None:
    assert attempt(work, "privileges") is None


def test_honest_work_is_done(work: Path) -> None:
    assert attempt(work, "honest") == "worked"


def test_limits_are_never_raised(work: Path) -> None:
    code = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (64, 64))\n"
        "from quantlab.serve.sandbox import SandboxLimits, confine\n"
        "confine([], [], SandboxLimits(10**9, 5, 5, 10**6))\n"
        "names = ('CORE', 'DATA', 'CPU', 'FSIZE', 'NOFILE')\n"
        "print([r.getrlimit(getattr(r, 'RLIMIT_' + n)) for n in names])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.replace("(", "[").replace(")", "]")) == [
        [0, 0], [10**9] * 2, [5, 10], [10**6] * 2, [64, 64]
    ]  # fmt: skip


def test_what_holds_is_said() -> None:
    whole = Held(("namespace", "Landlock", "seccomp"), files=7, filtered=True)
    assert whole.complete
    assert not any("OPEN" in line for line in whole.lines())
    for less in (
        Held(("Landlock",), files=7, filtered=False),
        Held(("namespace", "seccomp"), files=0, filtered=True),
        Held(("namespace", "Landlock"), files=7, filtered=False),
        Held(),
    ):
        assert not less.complete
    assert "network: OPEN but for TCP (Landlock)" in Held(("Landlock",), files=4).lines()
    assert [line.split(":")[0] for line in Held().lines() if "OPEN" in line] == ["network", "files"]
    assert any("signals: OPEN" in line for line in Held(files=5).lines())
    assert any("root" in line for line in Held(root=True).lines())


def test_it_can_be_asked_from_a_thread_of_a_server() -> None:
    found: list[Held] = []
    thread = threading.Thread(target=lambda: found.append(available()))
    thread.start()
    thread.join()
    assert found == [HELD]


def test_a_kind_of_machine_without_a_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.platform, "machine", lambda: "riscv64")
    assert sandbox._filter_calls() is False


@pytest.mark.parametrize("name", sorted(sandbox._MACHINES))
def test_the_filter_says_what_becomes_of_a_call(name: str) -> None:
    """The program, run by hand."""
    calls = sandbox._MACHINES[name]
    program = sandbox._program(calls)

    def outcome_of(architecture: int, number: int) -> int:
        place, value = 0, 0
        while True:
            code, yes, no, operand = program[place]
            if code == sandbox._RETURN:
                return operand
            if code == sandbox._LOAD:
                value = {0: number, 4: architecture}[operand]
                place += 1
                continue
            met = value == operand if code == sandbox._EQUAL else value >= operand
            place += 1 + (yes if met else no)

    for number, wanted in calls.outcomes().items():
        assert outcome_of(calls.architecture, number) == wanted
    assert outcome_of(calls.architecture, 0) == sandbox._ALLOW
    assert outcome_of(0x40000003, calls.socket) == sandbox._KILL
    if name == "x86_64":
        assert outcome_of(calls.architecture, calls.socket | 0x40000000) == sandbox._KILL
