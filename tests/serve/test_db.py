"""The database: whole transactions, and Unavailable for one that is locked or gone."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import insert, select

from quantlab.errors import QuantlabError
from quantlab.serve.db import META, RECIPES, Database, UnavailableError


@pytest.fixture
def database(db_url: str) -> Iterator[Database]:
    with Database(db_url) as opened:
        opened.create()
        yield opened


def recipes(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.scalars(select(RECIPES.c.name).order_by(RECIPES.c.name)))


def add(database: Database, name: str) -> None:
    with database.writing() as connection:
        connection.execute(insert(RECIPES).values(name=name, text="", created=0.0))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program holds the file: nobody else writes."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


def test_making_the_tables_again_changes_nothing(database: Database) -> None:
    add(database, "a")
    database.create()
    with Database(database.url) as again:
        again.create()
        assert recipes(again) == ["a"]


def test_many_start_at_once(db_url: str) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(6)

    def create() -> None:
        with Database(db_url) as database:
            start.wait()
            try:
                database.create()
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=create) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Database(db_url) as database, database.reading() as connection:
        assert set(META.tables) <= set(sa.inspect(connection).get_table_names())


def test_a_transaction_that_fails_has_not_been(database: Database) -> None:
    def fail() -> None:
        with database.writing() as connection:
            connection.execute(insert(RECIPES).values(name="a", text="", created=0.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert recipes(database) == []


def test_a_reader_sees_one_state(database: Database) -> None:
    add(database, "a")
    with database.reading() as connection:
        before = list(connection.scalars(select(RECIPES.c.name)))
        if "sqlite" in database.url:
            add(database, "b")
            assert list(connection.scalars(select(RECIPES.c.name))) == before == ["a"]


def test_the_clock_goes_on(database: Database) -> None:
    with database.writing() as connection:
        first = database.now(connection)
        time.sleep(0.01)
        second = database.now(connection)
    assert first < second
    assert abs(second - time.time()) < 60


def test_those_who_must_be_alone_take_turns(database: Database) -> None:
    inside: list[str] = []
    order: list[str] = []

    def enter(name: str) -> None:
        with database.writing(alone=True):
            inside.append(name)
            order.append(",".join(inside))
            time.sleep(0.02)
            inside.remove(name)

    threads = [threading.Thread(target=enter, args=(str(i),)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order) == ["0", "1", "2", "3", "4"]


def test_one_that_is_locked_is_unavailable_then_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.serve.db.SECONDS_TO_WAIT", 0.2)
    with Database(f"sqlite:///{tmp_path / 'server.db'}") as database:
        database.create()
        with held(tmp_path / "server.db"):
            assert recipes(database) == [], "reading goes on"
            with pytest.raises(UnavailableError, match="locked") as caught:
                add(database, "a")
            with Database(database.url) as late, pytest.raises(UnavailableError):
                late.create()
        assert "Try again" in caught.value.remedy
        add(database, "a")
        assert recipes(database) == ["a"]


@pytest.mark.parametrize("url", ["nonsense", "mysql://h/d", "sqlite://", "", "oracle://x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(QuantlabError, match="is not the URL"):
        Database(url)


def test_one_that_is_not_there() -> None:
    url = "postgresql://user:secret@127.0.0.1:1/x"
    with Database(url) as database, pytest.raises(UnavailableError) as caught:
        database.create()
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "server.db").write_bytes(b"no database " * 500)
    database = Database(f"sqlite:///{tmp_path / 'server.db'}")
    with database, pytest.raises(QuantlabError, match="not a database"):
        database.create()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(QuantlabError, match="file"):
        Database(f"sqlite:///{tmp_path / 'file' / 'server.db'}")


@pytest.mark.postgres
def test_what_postgresql_cannot_hold_is_the_askers_fault(own_postgres: str) -> None:
    with Database(own_postgres) as database:
        database.create()
        with pytest.raises(QuantlabError, match="the database cannot store this value") as caught:
            add(database, "a\0b")
        assert not isinstance(caught.value, UnavailableError)
        with pytest.raises(QuantlabError, match="cannot store"):
            add(database, "a" * 500)


@pytest.mark.postgres
def test_connections_that_were_cut_are_made_again(own_postgres: str) -> None:
    """As by a server that was started anew."""
    with Database(own_postgres) as database:
        database.create()
        add(database, "a")
        with Database(own_postgres) as other, other.writing() as connection:
            others = sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            connection.execute(others)
        add(database, "b")
        assert recipes(database) == ["a", "b"]


@pytest.mark.postgres
def test_a_user_who_may_make_no_tables_is_told(own_postgres: str) -> None:
    with Database(own_postgres) as database, database.writing() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS quantlab_poor"))
        connection.execute(sa.text("CREATE ROLE quantlab_poor LOGIN PASSWORD 'poor'"))
    poor = sa.make_url(own_postgres).set(username="quantlab_poor", password="poor")
    database = Database(poor.render_as_string(hide_password=False))
    with database, pytest.raises(QuantlabError, match="needs the right to make tables"):
        database.create()


def test_every_commit_changes_the_version(database: Database, tmp_path: Path) -> None:
    """One of another process too; it waits for nobody."""
    if "postgresql" in database.url:
        assert database.version() is None
        return
    seen = [database.version()]

    def changed() -> bool:
        seen.append(database.version())
        return seen[-1] != seen[-2]

    assert not changed()
    add(database, "a")
    assert changed()
    recipes(database)
    assert not changed()
    with database.writing() as connection:
        connection.execute(insert(RECIPES).values(name="b", text="", created=0.0))
        assert not changed()
        connection.rollback()
    assert not changed()
    with Database(database.url) as other:
        add(other, "c")
    assert changed()
    with held(tmp_path / "server.db"):
        assert not changed()
    assert None not in seen


def test_a_database_that_was_not_opened_has_no_version(db_url: str) -> None:
    with Database(db_url) as database:
        assert database.version() is None
