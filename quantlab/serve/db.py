"""Database: the service's tables in SQLite (WAL) or PostgreSQL, through SQLAlchemy Core.

Times are seconds since 1970, by the database's own clock (in SQLite: this machine's), so that
machines whose clocks differ agree on which lease has ended.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Integer,
    String,
    Table,
    Text,
)
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    ProgrammingError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from quantlab.errors import QuantlabError
from quantlab.runs.index import shown, with_driver

VERSION = 1
SECONDS_TO_WAIT = 5
"""For who holds the database, and for a server that does not answer; then it is unavailable."""
CONNECTIONS = 16
_NOTICES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
"""In seconds: how PostgreSQL's client comes to know that the server's machine is gone."""

META = sa.MetaData()


def _table(name: str, *columns: Any) -> Table:
    return Table(f"quantlab_{name}_v{VERSION}", META, *columns)


TOKENS = _table(
    "tokens",
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("scope", String(16), nullable=False),
    Column("created", Float(53), nullable=False),
    Column("expires", Float(53)),
)
DATASETS = _table(
    "datasets",
    Column("name", String(128), primary_key=True),
    Column("path", Text, nullable=False),
    Column("list_file", Text),
    Column("synsets", Text),
    Column("facts", JSON, nullable=False),
    Column("created", Float(53), nullable=False),
)
MODELS = _table(
    "models",
    Column("sha256", String(64), primary_key=True),
    Column("name", String(128), primary_key=True, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("facts", JSON, nullable=False),
    Column("job", String(32)),
    Column("created", Float(53), nullable=False, index=True),
    Column("token", String(32)),
)
RECIPES = _table(
    "recipes",
    Column("name", String(128), primary_key=True),
    Column("text", Text, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("token", String(32)),
)
BASELINES = _table(
    "baselines",
    Column("name", String(128), primary_key=True),
    Column("job", String(32), nullable=False),
    Column("files", JSON, nullable=False),
    Column("created", Float(53), nullable=False),
)
UPLOADS = _table(
    "uploads",
    Column("id", String(32), primary_key=True),
    Column("token", String(32), nullable=False),
    Column("name", String(128), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("done", Boolean, nullable=False),
    Column("created", Float(53), nullable=False),
)
JOBS = _table(
    "jobs",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("token", String(32), nullable=False),
    Column("key", String(128)),
    Column("digest", String(64), nullable=False),
    Column("verb", String(16), nullable=False),
    Column("request", JSON, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("exclusive", Boolean, nullable=False),
    Column("state", String(16), nullable=False),
    Column("cancelled", Boolean, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("worker", String(128)),
    Column("machine", String(128)),
    Column("lease", Float(53)),
    Column("progress", JSON),
    Column("exit_code", Integer),
    Column("out", Text),
    Column("error", Text),
    Column("run", String(128)),
    Column("files", JSON),
    Column("created", Float(53), nullable=False),
    Column("started", Float(53)),
    Column("finished", Float(53)),
    Column("reason", String(16)),
    sa.UniqueConstraint("token", "key"),
    sa.Index(f"quantlab_jobs_v{VERSION}_of_state", "state", "number"),
    sa.Index(f"quantlab_jobs_v{VERSION}_of_run", "run"),
    sa.Index(f"quantlab_jobs_v{VERSION}_of_end", "finished"),
)
WORKERS = _table(
    "workers",
    Column("name", String(128), primary_key=True),
    Column("machine", String(128), nullable=False),
    Column("seen", Float(53), nullable=False),
)
EVENTS = _table(
    "events",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("job", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("text", Text, nullable=False),
    Column("time", Float(53), nullable=False),
    sa.Index(f"quantlab_events_v{VERSION}_of_job", "job", "number"),
)
AUDIT = _table(
    "audit",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("time", Float(53), nullable=False),
    Column("token", String(32), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", Text, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("request", String(64)),
)
MACHINES = _table(
    "machines",
    Column("machine", String(128), primary_key=True),
    Column("words", Text, nullable=False),
)
"""CPU and runtimes of each worker's machine, as of its last worker's start."""
MONITORS = _table(
    "monitors",
    Column("id", String(32), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("token", String(32), nullable=False),
    Column("request", JSON, nullable=False),
    Column("schedule", String(128)),
    Column("on_version", Boolean, nullable=False),
    Column("on_environment", Boolean, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("receivers", JSON, nullable=False),
    Column("silenced", Float(53)),
    Column("turn", Integer, nullable=False),
    Column("next", Float(53)),
    Column("asked", Boolean, nullable=False),
    Column("job", String(32)),
    Column("created", Float(53), nullable=False),
    Column("seen", JSON, nullable=False),
    Column("last", JSON),
)
RECEIVERS = _table(
    "receivers",
    Column("name", String(128), primary_key=True),
    Column("form", String(16), nullable=False),
    Column("address", Text, nullable=False),
    Column("secret", String(64), nullable=False),
    Column("created", Float(53), nullable=False),
)
ALERTS = _table(
    "alerts",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("key", String(300), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("monitor", String(128), nullable=False, index=True),
    Column("words", Text, nullable=False),
    Column("was", String(32), nullable=False),
    Column("now", String(32), nullable=False),
    Column("links", JSON, nullable=False),
    Column("silenced", Boolean, nullable=False),
    Column("time", Float(53), nullable=False),
)
DELIVERIES = _table(
    "deliveries",
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("alert", Integer, nullable=False, index=True),
    Column("receiver", String(128), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", Float(53), nullable=False),
    Column("log", JSON, nullable=False),
    sa.Index(f"quantlab_deliveries_v{VERSION}_of_state", "state", "due"),
)


class UnavailableError(QuantlabError):
    """The database cannot be reached or is locked for now; nothing was changed."""


class Database:
    """A context. Raises UnavailableError where it does not answer, QuantlabError for a wrong
    URL."""

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self._engine = _engine(url)
        except (ArgumentError, ValueError) as error:
            raise QuantlabError(
                f"{shown(url)!r} is not the URL of an SQLite or PostgreSQL database.",
                "Such as sqlite:///server.db or postgresql://USER:PASSWORD@HOST/DATABASE",
            ) from error
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise QuantlabError(f"there is no place for {shown(url)}: {reason}.") from error
        self._watching: sqlite3.Connection | None = None

    def create(self) -> None:
        """Make the tables that are not there. Raises QuantlabError where it may not."""
        try:
            with self.writing(alone=True) as connection:
                META.create_all(connection)
                _complete(connection)
            if self._engine.dialect.name == "sqlite" and self._watching is None:
                self._watching = sqlite3.connect(
                    str(self._engine.url.database), timeout=0, check_same_thread=False
                )
        except ProgrammingError as error:
            raise QuantlabError(
                f"the database {shown(self.url)} cannot be used: {_reason(error)}.",
                "Its user needs the right to make tables.",
            ) from error

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()
        if self._watching is not None:
            self._watching.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that sees one consistent state."""
        with self._plain_errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self, *, alone: bool = False) -> Iterator[Connection]:
        """One transaction, all of it or nothing; ``alone``: no two such at a time. In SQLite no
        two writers ever are."""
        engine = self._engine.execution_options(quantlab_writes=True)
        with self._plain_errors(), engine.begin() as connection:
            if alone:
                self._alone(connection)
            yield connection

    def _alone(self, connection: Connection) -> None:
        if self._engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(0x71_6C_61_62)))

    def now(self, connection: Connection) -> float:
        """The time, in seconds since 1970."""
        if self._engine.dialect.name == "postgresql":
            clock = sa.func.extract("epoch", sa.func.clock_timestamp())
            return float(connection.scalar(sa.select(clock)) or 0)
        return time.time()

    def version(self) -> int | None:
        """A number that every commit changes, without a wait; None where there is none now
        (PostgreSQL has none that is cheap). For one thread at a time."""
        if self._watching is None:
            return None
        try:
            return int(self._watching.execute("PRAGMA data_version").fetchall()[0][0])
        except sqlite3.Error:
            return None

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, PoolTimeout) as error:
            if isinstance(error, IntegrityError | ProgrammingError):
                raise
            if isinstance(error, DataError):
                raise QuantlabError("the database cannot store this value.") from error
            raise _unavailable(self.url, error) from error


def _complete(connection: Connection) -> None:
    """Add the columns, which may be null, and indexes that tables made before have not."""
    there = sa.inspect(connection)
    preparer = connection.dialect.identifier_preparer
    for table in META.sorted_tables:
        known = {column["name"] for column in there.get_columns(table.name)}
        for column in table.columns:
            if column.name not in known:
                kind = column.type.compile(connection.dialect)
                added = f"{preparer.format_column(column)} {kind}"
                connection.exec_driver_sql(
                    f"ALTER TABLE {preparer.format_table(table)} ADD COLUMN {added}"
                )
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _engine(text: str) -> Engine:
    url = with_driver(make_url(text))
    if url.get_backend_name() == "postgresql":
        waits = f"-c lock_timeout={SECONDS_TO_WAIT}s -c statement_timeout={2 * SECONDS_TO_WAIT}s"
        return sa.create_engine(
            url,
            pool_pre_ping=True,
            pool_size=CONNECTIONS // 4,
            max_overflow=CONNECTIONS // 4,
            pool_timeout=SECONDS_TO_WAIT,
            connect_args={"connect_timeout": SECONDS_TO_WAIT, "options": waits, **_NOTICES},
        )
    if url.get_backend_name() != "sqlite" or not url.database:
        raise ArgumentError("neither an SQLite file nor PostgreSQL")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        pool_size=CONNECTIONS,
        pool_timeout=SECONDS_TO_WAIT,
        connect_args={"timeout": SECONDS_TO_WAIT, "check_same_thread": False},
    )
    sa.event.listen(engine, "connect", _prepare)
    sa.event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:
    """SQLite as a server needs it. Python must not begin transactions by itself."""
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    """A writer takes its lock at once: one that starts as a reader could not wait for it."""
    writes = connection.get_execution_options().get("quantlab_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _unavailable(url: str, error: SQLAlchemyError) -> UnavailableError:
    return UnavailableError(
        f"the database {shown(url)} does not answer: {_reason(error)}.",
        "Nothing was changed. Try again in a moment.",
    )


def _reason(error: SQLAlchemyError) -> str:
    """The first line of what the driver says."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no reason given"
