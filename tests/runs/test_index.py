"""The index, in SQLite and in PostgreSQL."""

from __future__ import annotations

import builtins
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from quantlab.errors import MissingExtraError, RecordError
from quantlab.runs.entry import Entry
from quantlab.runs.figures import Figure
from quantlab.runs.folders import refresh
from quantlab.runs.index import Filter, Index, IndexBusyError, shown
from quantlab.stats.paired import Interval
from quantlab.testing.runs import fake_run


def entry(folder: str, **fields: Any) -> Entry:
    figures = (
        Figure("top1", "net", "a" * 64, "100 images", 0.7, Interval(0.6, 0.8)),
        Figure("latency", "net", "a" * 64, "Z80, batch 1", 4.0),
    )
    facts: dict[str, Any] = {
        "id": folder, "verb": "compare", "status": "success", "models": (("net", "a" * 64),),
        "started": "2026-01-01T00:00:00+00:00", "verdict": "pass", "top1": 0.7, "decline": -0.01,
        "figures": figures,
    }  # fmt: skip
    return Entry(folder, **{**facts, **fields})


def folders(index: Index, **wanted: Any) -> list[str]:
    return [listed.entry.folder for listed in index.entries(Filter(**wanted))]


def test_entries_come_back_as_they_were_but_for_their_figures(url: str) -> None:
    whole = entry("a", models=(("fp32", ""), ("net", "a" * 64)))
    bare = Entry("b", problem="damaged")
    with Index(url) as index:
        index.update([("1", whole), ("2", bare)], ())
        found = [listed.entry for listed in index.entries(Filter())]
        assert index.stamps() == {"a": "1", "b": "2"}
        measured = index.measured("net", ["top1", "latency"])
    assert found == [entry("a", models=whole.models, figures=()), bare]
    assert {m.figure for m in measured} == set(whole.figures)
    assert {(m.folder, m.started) for m in measured} == {("a", whole.started)}


def test_an_update_replaces_and_forgets(url: str) -> None:
    with Index(url) as index:
        index.update([("1", entry("a")), ("1", entry("b"))], ())
        index.update([("2", entry("b", verdict="fail", figures=()))], ["a", "never there"])
        assert [x.entry.verdict for x in index.entries(Filter())] == ["fail"]
        assert index.measured("net", ["top1"]) == []
        assert index.models() == []
        index.clear()
        assert index.stamps() == {}


def test_many_entries_in_several_statements(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.runs.index.AT_ONCE", 7)
    names = [f"{i:03d}" for i in range(50)]
    with Index(url) as index:
        index.update([("1", entry(name)) for name in names], ())
        index.update([("2", entry(name)) for name in names], ())
        assert folders(index) == names[::-1]
        assert len(index.measured("net", ["top1"])) == 50
        index.update((), names[:30])
        assert folders(index) == names[:29:-1]


def test_filters(url: str) -> None:
    with Index(url) as index:
        index.update(
            [
                ("1", entry("old", started="2025-12-31T23:59:59+00:00", verb="tune")),
                ("1", entry("new", started="2026-02-01T00:00:00+00:00")),
                ("1", entry("mid", models=(("Net_V2%", "beef" + "0" * 60),))),
            ],
            (),
        )
        assert folders(index) == ["new", "mid", "old"]
        assert folders(index, limit=2) == ["new", "mid"]
        assert folders(index, verb="tune") == ["old"]
        assert folders(index, since="2026-01-01T00:00:00+00:00") == ["new", "mid"]
        assert folders(index, model="net_v2%") == ["mid"]
        assert folders(index, model="beef") == ["mid"]
        assert folders(index, model="netxv2") == []
        assert folders(index, model="a' OR 1=1 --") == []


def test_texts_of_all_kinds(url: str) -> None:
    odd = entry("ö 'x' \"y\" 日本 %s", models=(("模型", ""),), verdict="\ufffd")
    with Index(url) as index:
        index.update([("1", odd)], ())
        (found,) = index.entries(Filter(model="模"))
    assert (found.entry.folder, found.entry.models) == (odd.folder, odd.models)


def test_places_share_a_database_and_leave_each_other_alone(url: str) -> None:
    with Index(url, "here") as here, Index(url, "there") as there:
        here.update([("1", entry("a"))], ())
        there.update([("1", entry("a", started="2027")), ("1", entry("b"))], ())
        there.update((), ["a"])
        assert folders(here) == ["a"]
        assert [(x.place, x.entry.folder) for x in here.entries(Filter(), everywhere=True)] == [
            ("there", "b"),
            ("here", "a"),
        ]
        assert len(here.measured("net", ["top1"], everywhere=True)) == 2
        here.clear()
        assert folders(there) == ["b"]


def test_what_it_holds_survives_it(url: str) -> None:
    with Index(url) as index:
        index.update([("1", entry("a"))], ())
    with Index(url) as index:
        assert folders(index) == ["a"]


AT_WORK = """
import sys
from contextlib import closing
from pathlib import Path
from quantlab.runs.folders import refresh
from quantlab.runs import index as module
from quantlab.runs.index import Index
module.SECONDS_TO_WAIT = 600
url, root, times = sys.argv[1:]
for _ in range(int(times)):
    with Index(url) as index:
        index.clear()
        refresh(index, Path(root))
"""


def test_processes_that_index_at_once_agree(url: str, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    names = sorted(fake_run(root, n=20).name for _ in range(4))
    command = [sys.executable, "-c", AT_WORK, url, str(root), "12"]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], said
    with Index(url) as index:
        refresh(index, root)
        assert sorted(folders(index)) == names
        assert len(index.measured("tiny-int8", ["top1"])) == 4


@pytest.mark.postgres
def test_who_clears_takes_no_figures_of_a_run_that_comes_meanwhile(postgres_url: str) -> None:
    with Index(postgres_url, "cleared") as index, Index(postgres_url, "cleared") as other:
        coming = iter([("1", entry("a"))])

        @sa.event.listens_for(index._engine, "after_cursor_execute")
        def meanwhile(*_: object) -> None:
            for one in coming:
                other.update([one], ())

        index.clear()
        assert next(coming, None) is None
        assert len(index.measured("net", ["top1"])) == len(folders(index))
        index.clear()
        assert folders(index) == []


def test_a_password_is_not_told() -> None:
    assert shown("postgresql://me:se@cr:et@host/db") == "postgresql://me:***@host/db"
    assert shown("sqlite:///a@b:c.db") == "sqlite:///a@b:c.db"
    with pytest.raises(RecordError) as caught:
        Index("postgresql://me:s3cret@127.0.0.1:1/db")
    assert "s3cret" not in str(caught.value)
    assert "cannot be used" in caught.value.problem
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.postgres
def test_a_wrong_password_and_a_missing_database(postgres_url: str) -> None:
    head, _, tail = postgres_url.partition("@")
    wrong = f"{head[:-4]}@{tail}"
    with pytest.raises(RecordError, match="password authentication failed"):
        Index(wrong)
    with pytest.raises(RecordError, match='database "nope" does not exist'):
        Index(postgres_url.replace("/postgres", "/nope"))


@pytest.mark.postgres
def test_a_connection_that_was_ended_is_made_again(postgres_url: str) -> None:
    import psycopg

    with Index(postgres_url, "going away") as index:
        index.update([("1", entry("a"))], ())
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        with psycopg.connect(postgres_url) as connection:
            connection.execute(end)
        index.update([("1", entry("b"))], ())
        assert sorted(folders(index)) == ["a", "b"]


@pytest.mark.parametrize(
    "url", ["nonsense", "foo://x/y", "mysql://me:pw@host/db", "postgresql://h:x/"]
)
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(RecordError, match="is not the URL of an SQLite or PostgreSQL database"):
        Index(url)


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "psycopg":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"quantlab\[postgres\]"):
        Index("postgresql://127.0.0.1:1/x")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(b"not a database at all " * 99)
    with pytest.raises(RecordError, match="file is not a database"):
        Index(f"sqlite:///{path}")
    with pytest.raises(RecordError, match="unable to open"):
        Index(f"sqlite:///{tmp_path}/no/such/folder.db")


def test_a_database_that_another_process_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.runs.index.SECONDS_TO_WAIT", 0.2)
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with Index(url) as index:
        held = sqlite3.connect(tmp_path / "x.db")
        held.execute("BEGIN EXCLUSIVE")
        try:
            with pytest.raises(IndexBusyError, match="locked"):
                index.update([("1", entry("a"))], ())
            with pytest.raises(IndexBusyError, match="locked"):
                index.entries(Filter())
        finally:
            held.rollback()
            held.close()
        index.update([("1", entry("a"))], ())
        assert folders(index) == ["a"]


def test_a_list_is_read_in_its_order(tmp_path: Path) -> None:
    """Not sorted at each request; also where an older quantlab has made the tables."""
    path = tmp_path / "history.db"
    with Index(f"sqlite:///{path}") as index:
        index.update([("1", entry("a"))], ())
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP INDEX quantlab_runs_v1_newest")
    said: list[str] = []
    sa.event.listen(sa.Engine, "before_cursor_execute", heard := lambda *a: said.append(a[2]))
    try:
        with Index(f"sqlite:///{path}") as index:
            assert index.rows(Filter(limit=2))
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", heard)
    with closing(sqlite3.connect(path)) as other:
        plan = str(other.execute(f"EXPLAIN QUERY PLAN {said[-1]}", ("", 2, 0)).fetchall())
    assert "quantlab_runs_v1_newest" in plan
    assert "TEMP B-TREE" not in plan
