"""Answers in JSON: what they hold, their entity tags, and who shares one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import sqlalchemy as sa
from clients import app_of, client_of, clients_of, close_applications
from holdings import add_dataset, add_model, ask, end, leave_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from waiting import HANGS, until

from quantlab.runs.index import _META as HISTORY
from quantlab.runs.index import Index
from quantlab.serve.api.answers import TO_ASK_AGAIN, Replies, Reply, matches
from quantlab.serve.api.audit import AuditLine
from quantlab.serve.api.baselines import BaselineView
from quantlab.serve.api.common import ListPage
from quantlab.serve.api.datasets import DatasetView
from quantlab.serve.api.jobs import FileView, JobSummary, JobView
from quantlab.serve.api.models import ModelView
from quantlab.serve.api.recipes import RecipeView
from quantlab.serve.api.runs import RunSummary, RunView, TrialView
from quantlab.serve.api.trends import Measured, TrendView
from quantlab.serve.db import META, MODELS
from quantlab.serve.queue import NotFoundError
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.worker import PLACE

LISTS: dict[str, type[BaseModel]] = {
    "jobs": ListPage[JobSummary],
    "jobs?limit=2": ListPage[JobSummary],
    "models": ListPage[ModelView],
    "runs": ListPage[RunSummary],
    "runs?since=2020-01-01": ListPage[RunSummary],
    "datasets": ListPage[DatasetView],
    "recipes": ListPage[RecipeView],
    "baselines": ListPage[BaselineView],
    "trends": ListPage[Measured],
    "audit": ListPage[AuditLine],
}


@pytest.fixture
def full(stocked: Service) -> Service:
    """Something of everything."""
    for _ in range(2):
        ask(stocked)
    job = leave_run(stocked, files={"report.html": b"<p>"})
    ask(stocked, key="k", threads=2)
    told = {"kind": "progress", "label": "Evaluating", "total": 12, "done": 3, "note": ""}
    claimed = stocked.queue.claim("w", "here")
    assert claimed is not None
    stocked.queue.tell(claimed, [], told)
    stocked.catalog.add_model("b" * 64, "net+b", 5, {"kl": 1e-20, "é": [1.5, None]}, job.id)
    stocked.catalog.add_recipe("mine", "name: mine\n")
    stocked.catalog.add_baseline("accepted", job.id, {"b.yaml": f"{job.folder}/b.yaml"})
    return stocked


def test_an_answer_is_what_its_models_would_say(full: Service) -> None:
    """In the same order, and to the last byte."""
    client = client_of(app_of(full))
    client.post("/api/v1/jobs", json={})  # refused: a line of the audit log
    (job,) = full.queue.recent(states=["done"])
    views = {
        f"jobs/{job.id}": JobView,
        f"jobs/{job.id}/files": ListPage[FileView],
        "models/net": ModelView,
        "datasets/val": DatasetView,
        "baselines/accepted": BaselineView,
        f"runs/{job.run}": RunView,
        f"runs/{job.run}/trials": ListPage[TrialView],
        "trends/net": TrendView,
    }
    for path, view in {**LISTS, **views}.items():
        response = client.get(f"/api/v1/{path}")
        assert response.headers["content-type"] == "application/json"
        assert response.text == view.model_validate_json(response.content).model_dump_json(), path
        assert path.endswith("trials") or response.json().get("items") != [], path


def test_what_the_client_has_is_not_sent_again(full: Service) -> None:
    client = client_of(app_of(full))
    for path in [*LISTS, "models/net", "datasets/val", "trends/net"]:
        address = f"/api/v1/{path}"
        first = client.get(address)
        tag = first.headers["etag"]
        same = client.get(address, headers={"If-None-Match": tag})
        assert (same.status_code, same.content) == (304, b""), path
        assert same.headers["etag"] == tag
        assert same.headers["cache-control"] == first.headers["cache-control"] == TO_ASK_AGAIN
        other = client.get(address, headers={"If-None-Match": '"another"'})
        assert (other.status_code, other.content) == (200, first.content)


def test_a_tag_opens_nothing(full: Service) -> None:
    """Who may not read is refused, whatever he says to have."""
    reader, stranger = clients_of(full, "read", "submit")
    tag = {"If-None-Match": reader.get("/api/v1/jobs").headers["etag"]}
    stranger.headers["Authorization"] = "Bearer nobody"
    assert stranger.get("/api/v1/jobs", headers=tag).status_code == 401
    assert reader.get("/api/v1/audit", headers={"If-None-Match": "*"}).status_code == 403


@pytest.mark.parametrize(
    ("given_", "found"),
    [
        (None, False),
        ("", False),
        ('W/"a"', True),
        ('"a"', True),
        ('"b", W/"a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
    ],
)
def test_tags_are_compared_weakly(given_: str | None, found: bool) -> None:
    assert matches(given_, 'W/"a"') is found


def test_a_list_asks_the_database_no_more_often_for_more_rows(sqlite_service: Service) -> None:
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    client = client_of(app_of(sqlite_service))
    client.get("/api/v1/health")  # connects
    said: list[str] = []
    sa.event.listen(sa.Engine, "before_cursor_execute", heard := lambda *a: said.append(a[2]))
    try:

        def statements() -> list[int]:
            counts = []
            for path in LISTS:
                said.clear()
                assert client.get(f"/api/v1/{path}").status_code == 200
                counts.append(len(said))
            return counts

        few = statements()
        for number in range(1, 9):
            ask(sqlite_service)
            leave_run(sqlite_service, f"202611{number:02}T101500Z-evaluate-ab12cd")
            add_model(sqlite_service, f"net{number}", seed=number)
            add_dataset(sqlite_service, f"val{number}")
        assert statements() == few
        assert max(few) <= 2, "BEGIN, and one more"
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", heard)


def removed_model(service: Service, number: int) -> None:
    with service.database.writing() as connection:
        connection.execute(sa.delete(MODELS).where(MODELS.c.name == f"m{number}"))


def forgotten_run(service: Service, number: int) -> None:
    with Index(service.settings.db_url, PLACE) as index:
        index.update((), [run_name(number)])


def run_name(number: int) -> str:
    return f"202611{number + 1:02}T101500Z-evaluate-ab12cd"


def left_run(service: Service, number: int) -> None:
    if service.queue.recent(states=["queued"]):
        leave_run(service, run_name(number))


def ended(service: Service, number: int) -> None:
    if service.queue.recent(states=["queued"]):
        end(service, {f"{number}.txt": b"abc"})


def unnamed_dataset(service: Service, number: int) -> None:
    if f"d{number}" in [each.name for each in service.catalog.datasets()]:
        service.catalog.remove_dataset(f"d{number}")


CHANGES: dict[str, Callable[[Service, int], object]] = {
    "a job is asked for": lambda service, _: ask(service),
    "a job ends": ended,
    "a job leaves a run": left_run,
    "the newest job is cancelled": lambda s, _: [s.queue.cancel(j.id) for j in s.queue.recent()],
    "a run is forgotten": forgotten_run,
    "a model is added": lambda s, n: s.catalog.add_model(f"{n}" * 64, f"m{n}", n + 1, {"n": n}),
    "a model is removed": removed_model,
    "a dataset is named": lambda service, n: add_dataset(service, f"d{n}"),
    "a name of a dataset goes": unnamed_dataset,
    "a recipe is kept": lambda s, n: s.catalog.add_recipe(f"r{n}", f"name: r{n}\n"),
    "nothing": lambda *_: None,
}


def drop_all(service: Service) -> None:
    with service.database.writing() as connection:
        META.drop_all(connection)
        HISTORY.drop_all(connection)


@pytest.fixture(scope="module", params=["sqlite", pytest.param("pg", marks=pytest.mark.postgres)])
def changing(request: pytest.FixtureRequest) -> Iterator[Callable[[], Service]]:
    """Makes services that hold a model and a dataset, one at a time."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with ExitStack() as last:

        def make() -> Service:
            last.close()
            home = Path(last.enter_context(TemporaryDirectory()))
            bounds = {"requests_a_minute": 10**6, "max_queued": 10**6}
            service = last.enter_context(Service.open(Settings(home=home, db=url, **bounds)))
            last.callback(drop_all, service)
            last.callback(close_applications)
            add_model(service)
            add_dataset(service)
            return service

        yield make


steps = st.lists(st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 2)), max_size=8)
FEW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@FEW
@given(steps)
def test_a_tag_changes_with_the_answer(
    changing: Callable[[], Service], taken: list[tuple[str, int]]
) -> None:
    """After any inserts, updates and deletes an application says what one says that was never
    asked before, and 304 just where nothing of it is new."""
    service = changing()
    client = client_of(app_of(service))
    had = {path: client.get(f"/api/v1/{path}") for path in LISTS}
    for change, number in taken:
        CHANGES[change](service, number)
        fresh = client_of(app_of(service))
        for path, old in had.items():
            tag = {"If-None-Match": old.headers["etag"]}
            now = client.get(f"/api/v1/{path}", headers=tag)
            expected = fresh.get(f"/api/v1/{path}")
            assert now.status_code == (304 if expected.content == old.content else 200), path
            if now.status_code == 200:
                assert now.content == expected.content, path
                had[path] = now


@FEW
@given(st.integers(0, 7), st.integers(1, 4), st.lists(st.integers(0, 3), max_size=6))
def test_pages_neither_repeat_nor_skip_while_rows_are_added(
    changing: Callable[[], Service], before: int, limit: int, added: list[int]
) -> None:
    service = changing()
    made = 0

    def add(count: int) -> None:
        nonlocal made
        for _ in range(count):
            ask(service)
            leave_run(service, run_name(made))
            service.catalog.add_model(f"{made:064x}", f"m{made}", 1, {})
            made += 1

    add(before)
    client = client_of(app_of(service))
    for path, key in (("jobs", "id"), ("runs", "run"), ("models", "sha256")):
        whole = client.get(f"/api/v1/{path}?limit=200").json()["items"]
        there = [item[key] for item in whole]
        address, found, more = f"/api/v1/{path}?limit={limit}", [], list(added)
        while address:
            page = client.get(address).json()
            found += [item[key] for item in page["items"]]
            address = page["next"]
            add(more.pop() if more else 0)
        assert found == there


def answers(service: Service) -> Replies:
    return Replies(service.database)


class Slow:
    """Makes answers when it is let; ``begun`` counts them."""

    def __init__(self) -> None:
        self.begun, self.let = 0, threading.Semaphore(0)

    def __call__(self) -> Reply:
        self.begun += 1
        number = self.begun
        assert self.let.acquire(timeout=HANGS)
        return Reply(str(number).encode())


async def begun(slow: Slow, count: int) -> None:
    await asyncio.to_thread(until, lambda: slow.begun == count)


def test_who_asks_meanwhile_shares_what_is_made_after_it(service: Service) -> None:
    """Never what was begun before he asked."""

    async def asked() -> None:
        found, slow = answers(service), Slow()

        def again() -> asyncio.Task[Reply]:
            return asyncio.create_task(found.made("/a", slow, lasting=False))

        first = again()
        await begun(slow, 1)
        later = [again() for _ in range(20)]
        elsewhere = await found.made("/b", lambda: Reply(b"b"), lasting=False)
        assert (elsewhere.body, first.done()) == (b"b", False)
        slow.let.release()
        assert (await first).body == b"1"
        await begun(slow, 2)
        last = again()
        later[0].cancel()
        slow.let.release(2)
        assert {(await task).body for task in later[1:]} == {b"2"}
        assert (await last).body == b"3"
        assert slow.begun == 3

    asyncio.run(asked())


def test_an_error_is_of_all_who_asked_and_of_nobody_after(service: Service) -> None:
    async def asked() -> None:
        found = answers(service)

        def fails() -> Reply:
            raise NotFoundError("there is no such thing.")

        tasks = [asyncio.create_task(found.made("/a", fails, lasting=True)) for _ in range(3)]
        for task in tasks:
            with pytest.raises(NotFoundError):
                await task
        assert (await found.made("/a", lambda: Reply(b"a"), lasting=True)).body == b"a"

    asyncio.run(asked())


def test_an_answer_is_given_again_until_a_commit(sqlite_service: Service) -> None:
    """Also one that came while it was made, or from another process."""

    async def asked() -> None:
        found, made = answers(sqlite_service), 0

        def make() -> Reply:
            nonlocal made
            made += 1
            if made == 2:
                sqlite_service.catalog.add_recipe("while", "name: a\n")
            return Reply(str(made).encode())

        async def body(lasting: bool = True) -> bytes:
            return (await found.made("/a", make, lasting=lasting)).body

        assert [await body() for _ in range(3)] == [b"1"] * 3
        with Service.open(sqlite_service.settings) as other:
            other.catalog.add_recipe("mine", "name: a\n")
        assert [await body() for _ in range(3)] == [b"2", b"3", b"3"]
        assert [await body(lasting=False) for _ in range(2)] == [b"3", b"3"]

    asyncio.run(asked())


def test_what_does_not_last_is_made_each_time(service: Service) -> None:
    async def asked() -> None:
        found, made = answers(service), iter(range(9))
        bodies = [
            (await found.made("/a", lambda: Reply(str(next(made)).encode()), lasting=False)).body
            for _ in range(3)
        ]
        assert bodies == [b"0", b"1", b"2"]

    asyncio.run(asked())


def test_not_all_answers_are_kept(sqlite_service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.serve.api.answers.MOST_KNOWN", 4)

    async def asked() -> None:
        found = answers(sqlite_service)
        for number in range(20):
            await found.made(f"/{number}", lambda: Reply(b""), lasting=True)
            assert len(found._known) <= 4

    asyncio.run(asked())


def test_the_history_is_a_part_of_what_a_commit_changes(full: Service) -> None:
    """It is written through an engine of its own."""
    client: Any = client_of(app_of(full))
    old = client.get("/api/v1/runs").headers["etag"]
    with Index(full.settings.db_url, PLACE) as index:
        index.clear()
    new = client.get("/api/v1/runs", headers={"If-None-Match": old})
    assert (new.status_code, new.json()["items"]) == (200, [])
