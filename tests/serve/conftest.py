"""Services for tests: one in SQLite, one in PostgreSQL, and what they hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from waiting import HANGS

from quantlab.runs.index import with_driver
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def patient_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database on a busy machine is waited for; tests of one that does not answer wait less."""
    monkeypatch.setattr("quantlab.serve.db.SECONDS_TO_WAIT", int(HANGS))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'server.db'}"
        return
    url: str = request.getfixturevalue("postgres_url")
    empty_postgres(url)
    yield url
    empty_postgres(url)


def empty_postgres(url: str) -> None:
    """Forget all tables of the service and of the history."""
    engine = sa.create_engine(with_driver(sa.make_url(url)))
    with engine.begin() as connection:
        for name in sa.inspect(connection).get_table_names():
            if name.startswith("quantlab_"):
                connection.execute(sa.text(f'DROP TABLE "{name}" CASCADE'))
    engine.dispose()


@pytest.fixture
def settings(tmp_path: Path, db_url: str) -> Settings:
    """A home of its own."""
    return Settings(home=tmp_path / "home", db=db_url, machine="here")


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """An empty service in SQLite, and again in PostgreSQL."""
    with Service.open(settings) as opened:
        yield opened


@pytest.fixture
def sqlite_service(tmp_path: Path) -> Iterator[Service]:
    """An empty service with its embedded defaults."""
    with Service.open(Settings(home=tmp_path / "home", machine="here")) as opened:
        yield opened


def make_request(**fields: Any) -> Any:
    """A request of the API."""
    from quantlab.serve.service import _REQUEST

    return _REQUEST.validate_python(fields)


@pytest.fixture
def own_postgres(postgres_url: str) -> Iterator[str]:
    """The PostgreSQL server, with nothing of a service in it."""
    empty_postgres(postgres_url)
    yield postgres_url
    empty_postgres(postgres_url)


@pytest.fixture(autouse=True)
def _applications_closed() -> Iterator[None]:
    """Applications of the test let their databases go."""
    yield
    if (clients := sys.modules.get("clients")) is not None:
        clients.close_applications()
