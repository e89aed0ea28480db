"""Index: the entries of run folders in a database, SQLite or PostgreSQL, through SQLAlchemy.

Whatever it holds can be read from the folders again. So there are no migrations: another shape of
the tables, or another way to read records, gets another VERSION, and with it tables of its own,
which fill by themselves.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Float,
    Row,
    Select,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.engine import URL, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from quantlab.errors import MissingExtraError, RecordError
from quantlab.runs.entry import Entry, Listed
from quantlab.runs.figures import Figure, RecordedFigure
from quantlab.stats.paired import Interval

VERSION = 1
IN_MEMORY = "sqlite://"
SECONDS_TO_WAIT = 10
"""For another process that holds the database, and for a server that does not answer."""
SECONDS_TO_PAUSE = 0.05
AT_ONCE = 500
"""Rows in one statement."""

_META = sa.MetaData()
_RUNS = Table(
    f"quantlab_runs_v{VERSION}",
    _META,
    Column("place", String, primary_key=True),
    Column("folder", String, primary_key=True),
    Column("stamp", String, nullable=False),
    Column("id", String, nullable=False),
    Column("verb", String, nullable=False),
    Column("status", String, nullable=False),
    Column("started", String, nullable=False),
    Column("models", String, nullable=False),
    Column("verdict", String, nullable=False),
    Column("top1", Float(53)),
    Column("decline", Float(53)),
    Column("problem", String, nullable=False),
    sa.Index(f"quantlab_runs_v{VERSION}_newest", "place", "started", "folder"),
)
_FIGURES = Table(
    f"quantlab_figures_v{VERSION}",
    _META,
    Column("place", String, nullable=False),
    Column("folder", String, nullable=False),
    Column("metric", String, nullable=False),
    Column("model", String, nullable=False),
    Column("sha256", String, nullable=False),
    Column("series", String, nullable=False),
    Column("value", Float(53), nullable=False),
    Column("low", Float(53)),
    Column("high", Float(53)),
    sa.Index(f"quantlab_figures_v{VERSION}_of_run", "place", "folder"),
    sa.Index(f"quantlab_figures_v{VERSION}_of_model", "model", "metric"),
)
_Rows = TypeVar("_Rows", bound=tuple[Any, ...])
_Item = TypeVar("_Item")


class IndexBusyError(RecordError):
    """Another process has locked the database for too long."""


@dataclass(frozen=True)
class Filter:
    """Which entries: of a verb, of models whose name or sha256 has ``model`` in it, begun at
    ``since`` (ISO 8601 in UTC) or later; the newest ``limit``, of those that come after the one of
    the folder ``after``."""

    verb: str | None = None
    model: str | None = None
    since: str | None = None
    limit: int | None = None
    after: str | None = None


class Index:
    """A database of entries. ``place`` names the folder of this machine's runs among those that
    share the database; only its rows are ever changed.

    A context. Raises RecordError for a database that cannot be used, Busy for one that another
    process holds, MissingExtraError where PostgreSQL's driver is missing.
    """

    def __init__(self, url: str, place: str = "") -> None:
        self.url, self.place = url, place
        with self._plain_errors():
            self._engine = _engine(url)
        try:
            with self._plain_errors():
                self._written(_create)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def stamps(self) -> dict[str, str]:
        """What each folder's record looked like when it was read."""
        query = select(_RUNS.c.folder, _RUNS.c.stamp).where(_RUNS.c.place == self.place)
        with self._plain_errors(), self._engine.connect() as connection:
            return {row.folder: row.stamp for row in connection.execute(query)}

    def update(self, changed: Sequence[tuple[str, Entry]], gone: Collection[str]) -> None:
        """Replace the entries of these folders, each with its stamp, and delete those of folders
        that no longer exist: all of it or nothing."""
        runs = [self._run_row(stamp, entry) for stamp, entry in changed]
        figures = [row for _, entry in changed for row in self._figure_rows(entry)]
        old = [*gone, *(entry.folder for _, entry in changed)]

        def write(connection: Connection) -> None:
            for table in (_RUNS, _FIGURES):
                for part in _parts(old):
                    mine = (table.c.place == self.place) & table.c.folder.in_(part)
                    connection.execute(delete(table).where(mine))
            for table, rows in ((_RUNS, runs), (_FIGURES, figures)):
                for batch in _parts(rows):
                    connection.execute(insert(table), batch)

        if old:
            with self._plain_errors():
                self._written(write)

    def clear(self) -> None:
        """Delete all entries of this place."""

        def write(connection: Connection) -> None:
            for table in (_RUNS, _FIGURES):
                connection.execute(delete(table).where(table.c.place == self.place))

        with self._plain_errors():
            self._written(write)

    def entries(self, wanted: Filter, *, everywhere: bool = False) -> list[Listed]:
        """The entries that pass, the newest first, those with a problem last. ``everywhere``: of
        all places."""
        rows = self.rows(wanted, everywhere=everywhere)
        return [Listed(row.place, _entry(row)) for row in rows]

    def rows(self, wanted: Filter, *, everywhere: bool = False) -> Sequence[Row[Any]]:
        """The same as rows, whose ``models`` are for ``about``."""
        query = self._of_place(select(_RUNS), _RUNS, everywhere)
        if wanted.verb is not None:
            query = query.where(_RUNS.c.verb == wanted.verb)
        if wanted.model is not None:
            query = query.where(_RUNS.c.models.icontains(wanted.model, autoescape=True))
        if wanted.since is not None:
            query = query.where(_RUNS.c.started >= wanted.since)
        if wanted.after is not None:
            query = query.where(_later_in_list(wanted.after))
        query = query.order_by(_RUNS.c.started.desc(), _RUNS.c.folder.desc()).limit(wanted.limit)
        with self._plain_errors(), self._engine.connect() as connection:
            return connection.execute(query).all()

    def measured(
        self, model: str, metrics: Collection[str], *, everywhere: bool = False
    ) -> list[RecordedFigure]:
        """The figures of the models of that name, the oldest first."""
        same = (_RUNS.c.place == _FIGURES.c.place) & (_RUNS.c.folder == _FIGURES.c.folder)
        query = select(_FIGURES, _RUNS.c.started).join(_RUNS, same)
        query = self._of_place(query, _FIGURES, everywhere)
        query = query.where((_FIGURES.c.model == model) & _FIGURES.c.metric.in_(metrics))
        query = query.order_by(_RUNS.c.started, _RUNS.c.folder)
        with self._plain_errors(), self._engine.connect() as connection:
            return [
                RecordedFigure(row.place, row.folder, row.started, _figure(row))
                for row in connection.execute(query)
            ]

    def models(self, *, everywhere: bool = False) -> list[str]:
        """The names of all models that have figures."""
        query = self._of_place(select(_FIGURES.c.model).distinct(), _FIGURES, everywhere)
        with self._plain_errors(), self._engine.connect() as connection:
            return sorted(connection.scalars(query))

    def _of_place(self, query: Select[_Rows], table: Table, everywhere: bool) -> Select[_Rows]:
        return query if everywhere else query.where(table.c.place == self.place)

    def _run_row(self, stamp: str, entry: Entry) -> dict[str, object]:
        return {
            "place": self.place,
            "folder": entry.folder,
            "stamp": stamp,
            "id": entry.id,
            "verb": entry.verb,
            "status": entry.status,
            "started": entry.started,
            "models": "\n".join(f"{name}\t{sha256}" for name, sha256 in entry.models),
            "verdict": entry.verdict,
            "top1": entry.top1,
            "decline": entry.decline,
            "problem": entry.problem,
        }

    def _figure_rows(self, entry: Entry) -> Iterator[dict[str, object]]:
        for figure in entry.figures:
            yield {
                "place": self.place,
                "folder": entry.folder,
                "metric": figure.metric,
                "model": figure.model,
                "sha256": figure.sha256,
                "series": figure.series,
                "value": figure.value,
                "low": figure.interval.low if figure.interval else None,
                "high": figure.interval.high if figure.interval else None,
            }

    def _written(self, write: Callable[[Connection], None]) -> None:
        """One transaction; made again where other processes were in its way."""
        end = time.monotonic() + SECONDS_TO_WAIT
        while True:
            try:
                with self._engine.begin() as connection:
                    write(connection)
                return
            except DBAPIError as error:
                if not _is_transient(error) or time.monotonic() > end:
                    raise
                time.sleep(SECONDS_TO_PAUSE)

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """What the database cannot do, in a line."""
        try:
            yield
        except (SQLAlchemyError, ValueError) as error:
            raise _problem(self.url, error) from error


def _create(connection: Connection) -> None:
    """The tables, and what tables that were made before have not."""
    _META.create_all(connection)
    for index in _RUNS.indexes:
        index.create(connection, checkfirst=True)


def _later_in_list(folder: str) -> sa.ColumnElement[bool]:
    """Whether an entry comes after the folder's one where the newest is first."""
    its = select(_RUNS.c.started).where(_RUNS.c.folder == folder).limit(1).scalar_subquery()
    return sa.tuple_(_RUNS.c.started, _RUNS.c.folder) < sa.tuple_(its, sa.literal(folder))


def shown(url: str) -> str:
    """A database's URL without its password."""
    return re.sub(r"(//[^:/@]*:).*@", r"\1***@", url)


def with_driver(url: URL) -> URL:
    """PostgreSQL's driver is psycopg where none is named. Raises MissingExtraError without it."""
    if url.drivername in ("postgresql", "postgres"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername == "postgresql+psycopg":
        try:
            url.get_dialect().import_dbapi()
        except ImportError as error:
            raise MissingExtraError("psycopg", "postgres", "a database in PostgreSQL") from error
    return url


def _engine(text: str) -> Engine:
    url = with_driver(make_url(text))
    if url.drivername == "postgresql+psycopg":
        waits = {"connect_timeout": SECONDS_TO_WAIT}
        # All statements of a transaction see one state: who deletes a run and then its figures does
        # not delete the figures alone of a run that another process has put there in between.
        return create_engine(
            url, pool_pre_ping=True, connect_args=waits, isolation_level="REPEATABLE READ"
        )
    if url.get_backend_name() != "sqlite":
        raise ArgumentError("neither SQLite nor PostgreSQL")
    if url.database:
        return create_engine(url, connect_args={"timeout": SECONDS_TO_WAIT})
    return create_engine(url, poolclass=StaticPool)


def _is_transient(error: DBAPIError) -> bool:
    """Whether the error comes from another process that writes the same rows or tables, so that a
    retry will succeed."""
    signs = ("already exists", "deadlock", "locked", "could not serialize")
    return isinstance(error, IntegrityError) or any(sign in str(error.orig) for sign in signs)


def _problem(url: str, error: Exception) -> RecordError:
    if not isinstance(error, DBAPIError):
        return RecordError(
            f"{shown(url)!r} is not the URL of an SQLite or PostgreSQL database.",
            "Such as sqlite:///history.db or postgresql://USER:PASSWORD@HOST/DATABASE",
        )
    reason = next(filter(None, map(str.strip, str(error.orig).splitlines())), "no reason given")
    kind = IndexBusyError if "locked" in reason else RecordError
    return kind(
        f"the index {shown(url)} cannot be used: {reason.rstrip('.')}.",
        "The run folders are unharmed. Mend the database, or name another one with --db.",
    )


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    return (items[i : i + AT_ONCE] for i in range(0, len(items), AT_ONCE))


def _entry(row: Row[Any]) -> Entry:
    models = [line.split("\t") for line in row.models.splitlines()]
    return Entry(
        folder=row.folder,
        id=row.id,
        verb=row.verb,
        status=row.status,
        started=row.started,
        models=tuple((name, sha256) for name, sha256 in models),
        verdict=row.verdict,
        top1=row.top1,
        decline=row.decline,
        problem=row.problem,
    )


def about(models: str) -> tuple[str, str]:
    """Of a row's models the name and sha256 of the one that the run is about."""
    name, _, sha256 = models.rpartition("\n")[2].partition("\t")
    return name, sha256


def _figure(row: Row[Any]) -> Figure:
    interval = None if row.low is None or row.high is None else Interval(row.low, row.high)
    return Figure(row.metric, row.model, row.sha256, row.series, row.value, interval)
