"""The database is locked or gone for ten seconds while jobs run: none is lost, none done twice."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import empty_postgres
from processes import started
from waiting import HANGS
from worksite import ask, await_end, await_word, equip

sys.path.insert(0, str(Path(__file__).parents[1]))
from postgres_server import Server, new_server, server_programs

from quantlab.serve.service import Service
from quantlab.serve.settings import Settings

SECONDS = 10.0
TUNE = {
    "strategy": "random", "no_bench": True, "max_trials": 8, "calibration_size": 4,
    "criterion": "agreement >= 60%",
}  # fmt: skip
ASKED = {"verb": "evaluate", "model": "net", "data": "val"}
Away = Callable[[], Any]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds the file."""
    with closing(sqlite3.connect(path, timeout=HANGS, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def stopped(server: Server) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Away]]:
    """An empty database, and a context in which it is away."""
    if request.param == "sqlite":
        path = tmp_path / "home" / "server.db"
        yield f"sqlite:///{path}", lambda: locked(path)
        return
    with new_server(server_programs()) as server:
        empty_postgres(server.url)
        yield server.url, lambda: stopped(server)


def post(url: str, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
    """The status, and what it says."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": key}
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(asked, timeout=HANGS) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_ten_seconds_without_a_database(database: tuple[str, Away], tmp_path: Path) -> None:
    url, away = database
    settings = Settings(home=tmp_path / "home", db=url, machine="here")
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump({"home": str(settings.home), "db": url, "machine": "here"}))
    with Service.open(settings) as service:
        equip(service, tmp_path / "images")
        tune, waiting = ask(service, "tune", **TUNE), ask(service, "evaluate")
        with started("serve", "--config", config, "--port", 0) as server:
            jobs = server.until(r"Serving (http://\S+) from") + "/api/v1/jobs"
            await_word(service, tune, "Trial 2")
            with away():
                gone = time.monotonic()
                status, problem = post(jobs, ASKED, "key")
                assert status == 503
                assert problem["detail"] == "the database does not answer."
                assert problem["remedy"]
                assert not {"quantlab-server", "secret", url} & set(str(problem).split())
                time.sleep(max(0.0, SECONDS - (time.monotonic() - gone)))
            status, asked = post(jobs, ASKED, "key")
            assert status == 202
            assert post(jobs, ASKED, "key") == (200, asked)
            late = service.queue.get(asked["id"])
            ended = await_end(service, tune, waiting, late)
            assert server.end() == 0
        assert [(job.state, job.error) for job in ended] == [("done", None)] * 3
        assert [(job.attempts, job.losses) for job in ended] == [(1, 0)] * 3, "nothing twice"
        assert len(service.queue.recent()) == 3
    assert "Traceback" not in server.said
