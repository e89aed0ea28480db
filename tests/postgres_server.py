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
SECONDS_TO_START = 600
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


class Server:
    """A server in a folder, with an empty database at ``url``. The password is new every time."""

    def __init__(self, programs: str, folder: Path) -> None:
        self._folder, self._data = folder, str(folder / "data")
        password, port = secrets.token_hex(16), _free_port()
        self.url = f"postgresql://{USER}:{password}@127.0.0.1:{port}/postgres"
        (folder / "password").write_text(password)
        if os.geteuid() == 0:
            for path in (folder, folder / "password"):
                shutil.chown(path, "postgres", "postgres")
        make = ("-D", self._data, "-U", USER, "--pwfile", str(folder / "password"))
        execution = ("-A", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync")
        _run([f"{programs}/initdb", *make, *execution])
        place = ("-D", self._data, "-h", "127.0.0.1", "-p", str(port), "-k", "")
        bounds = ("-c", "fsync=off", "-c", "max_connections=30")
        self._command = [f"{programs}/postgres", *place, *bounds]

    def start(self) -> None:
        """It answers."""
        log = self._folder / "log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                _as_user(self._command), stdout=file, stderr=file, cwd=self._folder
            )
        _wait(self.url, self._process, log)

    def stop(self) -> None:
        """It does not, and has cut all connections."""
        if self._process.poll() is not None:
            return
        pid = (self._folder / "data" / "postmaster.pid").read_text().split()[0]
        os.kill(int(pid), signal.SIGINT)
        self._process.wait(SECONDS_TO_START)


@contextmanager
def new_server(programs: str) -> Iterator[Server]:
    """A fresh server that runs."""
    folder = Path(tempfile.mkdtemp(prefix="quantlab-postgres-"))
    try:
        server = Server(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def running_server(programs: str) -> Iterator[str]:
    """The URL of a fresh server."""
    with new_server(programs) as server:
        yield server.url


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
