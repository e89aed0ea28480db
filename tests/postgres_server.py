"""A PostgreSQL server of the tests' own: on loopback, in a temporary folder, gone with them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

USER = "quantlab"
SECONDS_TO_START = 60
_DEBIAN = Path("/usr/lib/postgresql")


def server_programs() -> str:
    """The folder of initdb and postgres, "" where there is none or nobody may run them: PostgreSQL
    refuses root, and Debian's package brings a user for it."""
    if os.geteuid() == 0 and not (shutil.which("runuser") and _has_user("postgres")):
        return ""
    found = shutil.which("postgres")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(_DEBIAN.glob("*/bin"), key=lambda p: float(p.parent.name), reverse=True)
    return next((str(f) for f in folders if (f / "initdb").exists()), "")


def _has_user(name: str) -> bool:
    import pwd

    return any(user.pw_name == name for user in pwd.getpwall())


@contextmanager
def running_server(programs: str) -> Iterator[str]:
    """A fresh server; its URL, for an empty database. The password is new every time."""
    folder = Path(tempfile.mkdtemp(prefix="quantlab-postgres-"))
    password = secrets.token_hex(16)
    try:
        (folder / "password").write_text(password)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        data = str(folder / "data")
        _run([f"{programs}/initdb", "-D", data, "-U", USER, "-A", "scram-sha-256", "--pwfile",
              str(folder / "password"), "-E", "UTF8", "--locale", "C", "--no-sync"])  # fmt: skip
        port = _free_port()
        command = [f"{programs}/postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", "",
                   "-c", "fsync=off", "-c", "max_connections=20"]  # fmt: skip
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(_as_user(command), stdout=log, stderr=log, cwd=folder)
        try:
            url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
            _wait(url, server, folder / "log")
            yield url
        finally:
            os.kill(int((folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGINT)
            server.wait(30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user(command: Sequence[str]) -> list[str]:
    """The command, of a user that is not root."""
    other = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    return [*other, *command]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(_as_user(command), capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    end = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            psycopg.connect(url).close()
            return
        except psycopg.OperationalError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
