"""Child processes: gone with the block, and all that they have started."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import psutil
import pytest
from waiting import until

from quantlab._util.children import child, last_line, with_quantlab


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_nothing_outlives_the_block(error: type[Exception] | None) -> None:
    pids: list[int] = []

    def begin() -> None:
        command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
        with child(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pids.extend((process.pid, int(process.stdout.readline())))
            assert all(map(alive, pids))
            if error is not None:
                raise error

    if error is None:
        begin()
    else:
        with pytest.raises(error):
            begin()
    until(lambda: not any(map(alive, pids)))


def test_what_cannot_be_started() -> None:
    with pytest.raises(OSError, match="no-such-program"), child(["/no-such-program"]):
        raise AssertionError


def test_it_imports_this_quantlab() -> None:
    command = [sys.executable, "-P", "-c", "import quantlab; print(quantlab.__version__)"]
    with child(command, stdout=subprocess.PIPE, env=with_quantlab(), text=True) as process:
        assert process.stdout is not None
        assert process.stdout.read().strip()
        assert process.wait() == 0


@pytest.mark.parametrize(("said", "last"), [(b"", ""), (b"a\nb\n\n", "b"), (b"\xff", "\ufffd")])
def test_the_last_line(said: bytes, last: str) -> None:
    with tempfile.TemporaryFile() as log:
        log.write(said)
        assert last_line(log) == last
