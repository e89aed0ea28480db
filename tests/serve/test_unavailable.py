"""The database is locked or gone for a while: a clear 503, and no job is lost or done twice."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clients import app_of, client_of
from holdings import add_dataset, add_model
from postgres_server import new_server, server_programs
from sqlalchemy import select
from waiting import HANGS, until

from quantlab.serve import db
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings

JOB = {"verb": "evaluate", "model": "net", "data": "val"}
JOBS = "/api/v1/jobs"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with one second in the place of five."""
    monkeypatch.setattr(db, "SECONDS_TO_WAIT", 1)


@contextmanager
def stocked(settings: Settings) -> Iterator[Service]:
    with Service.open(settings) as service:
        add_model(service)
        add_dataset(service)
        yield service


def submit(client: Any, key: str) -> Any:
    return client.post(JOBS, json=JOB, headers={"Idempotency-Key": key})


def keys_of(service: Service) -> list[str]:
    with service.database.reading() as connection:
        return list(connection.scalars(select(db.JOBS.c.key).order_by(db.JOBS.c.number)))


def check_503(response: Any) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["detail"] == "the database does not answer."
    assert "again" in problem["remedy"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process's connection holds the database."""
    other = sqlite3.connect(path, isolation_level=None)
    try:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")
    finally:
        other.close()


def test_sqlite_is_locked(tmp_path: Path) -> None:
    with stocked(Settings(home=tmp_path)) as service:
        client = client_of(app_of(service))
        assert submit(client, "before").status_code == 202
        with locked(tmp_path / "server.db"):
            for _ in range(2):
                check_503(submit(client, "while"))
            assert client.get(JOBS).status_code == 200, "readers do not wait in WAL"
        assert submit(client, "while").status_code == 202
        assert submit(client, "while").status_code == 200
        assert keys_of(service) == ["before", "while"]


def test_sqlite_is_locked_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "SECONDS_TO_WAIT", int(HANGS))
    with stocked(Settings(home=tmp_path)) as service:
        client = client_of(app_of(service))
        with locked(tmp_path / "server.db"):
            found: list[int] = []
            asking = threading.Thread(target=lambda: found.append(submit(client, "k").status_code))
            asking.start()
            time.sleep(0.3)
            assert found == []
        asking.join(HANGS)
        assert found == [202], "it waits for who is done soon"


def test_sqlite_is_locked_and_many_ask(tmp_path: Path) -> None:
    """More than there are connections: they are answered, and nobody waits for ever."""
    with stocked(Settings(home=tmp_path)) as service:
        client = client_of(app_of(service))
        found = dict[str, list[int]]()

        def ask(key: str) -> None:
            found.setdefault(key, []).append(submit(client, key).status_code)

        with locked(tmp_path / "server.db"):
            all_of(40, ask)
            assert {status for codes in found.values() for status in codes} == {503}
        all_of(40, lambda key: until(lambda: (ask(key), found[key][-1] != 503)[1]))
        assert {codes[-1] for codes in found.values()} == {202}
        assert sorted(keys_of(service)) == sorted(found)


def all_of(count: int, ask: Callable[[str], None]) -> None:
    threads = [threading.Thread(target=ask, args=(f"k{i}",)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS)
    assert not any(thread.is_alive() for thread in threads)


def test_health_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stocked(Settings(home=tmp_path)) as service:
        client = client_of(app_of(service))
        assert client.get("/api/v1/health").status_code == 200

        def away(*_: Any) -> Any:
            raise db.UnavailableError(
                "the database /home/me/server.db does not answer.", "Try again."
            )

        monkeypatch.setattr(type(service.database), "reading", away)
        response = client.get("/api/v1/health")
        check_503(response)
        assert "/home/me" not in response.text


@pytest.mark.postgres
def test_postgresql_is_stopped_and_started_again(tmp_path: Path) -> None:
    with new_server(server_programs()) as server:
        settings = Settings(home=tmp_path / "home", db=server.url)
        with stocked(settings) as service:
            client = client_of(app_of(service))
            token_free_reads = [JOBS, "/api/v1/models", "/api/v1/runs", "/api/v1/health"]
            assert submit(client, "before").status_code == 202
            server.stop()
            started = time.monotonic()
            while time.monotonic() - started < 2:
                check_503(submit(client, "while"))
                for path in token_free_reads:
                    check_503(client.get(path))
                time.sleep(0.5)  # a client keeps to the limit of its rate
            server.start()
            assert submit(client, "before").status_code == 200
            assert submit(client, "while").status_code == 202
            assert keys_of(service) == ["before", "while"]
            for path in token_free_reads:
                assert client.get(path).status_code == 200
