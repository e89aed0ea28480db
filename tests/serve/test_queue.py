"""The queue: leases, idempotency, exclusive jobs, and many workers at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import update

from quantlab.serve.db import JOBS, Database
from quantlab.serve.queue import (
    Asked,
    ConflictError,
    JobOutcome,
    LeaseLostError,
    NotFoundError,
    Queue,
    TooManyError,
)

EVALUATE = Asked("evaluate", {"verb": "evaluate", "model": "m"}, {"models": []}, exclusive=False)
BENCH = Asked("bench", {"verb": "bench", "models": ["m"]}, {"models": []}, exclusive=True)
DONE = JobOutcome("done", 0, out="Top-1", run="run-1", files={"a.txt": 3})


@pytest.fixture
def queue(db_url: str) -> Iterator[Queue]:
    with Database(db_url) as database:
        database.create()
        yield Queue(database, lease=60, losses=2)


def end_lease(queue: Queue, job_id: str) -> None:
    """As if its worker had been silent for long."""
    with queue.database.writing() as connection:
        connection.execute(update(JOBS).where(JOBS.c.id == job_id).values(lease=1.0))


def test_a_job_from_its_beginning_to_its_end(queue: Queue) -> None:
    job, new = queue.submit(EVALUATE, "token")
    assert new
    assert (job.state, job.attempts, job.ended) == ("queued", 0, False)
    claimed = queue.claim("w", "here")
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.attempts) == (job.id, "running", 1)
    assert queue.claim("v", "there") is None
    queue.tell(claimed, [("say", "one"), ("warn", "two")], {"done": 1})
    assert queue.get(job.id).progress == {"done": 1}
    assert queue.heartbeat(claimed) is False
    ended = queue.finish(claimed, DONE)
    assert (ended.state, ended.exit_code, ended.out, ended.run) == ("done", 0, "Top-1", "run-1")
    assert (ended.files, ended.folder) == ({"a.txt": 3}, f"jobs/{job.id}/1")
    assert ended.finished is not None
    assert ended.created <= (ended.started or 0) <= ended.finished
    first, second = queue.events(job.id)
    assert (first.kind, first.text, second.kind) == ("say", "one", "warn")
    assert queue.events(job.id, after=first.number) == [second]
    assert queue.of_run("run-1") == ended
    with pytest.raises(LeaseLostError):
        queue.finish(claimed, DONE)


def test_what_is_not_there(queue: Queue) -> None:
    for ask in (queue.get, queue.cancel, queue.of_run):
        with pytest.raises(NotFoundError):
            ask("nothing")
    assert queue.claim("w", "here") is None
    assert queue.recent() == []


def test_the_same_key_is_the_same_job(queue: Queue) -> None:
    job, new = queue.submit(EVALUATE, "token", "key")
    again, new_again = queue.submit(EVALUATE, "token", "key")
    assert (new, new_again) == (True, False)
    assert again == job
    with pytest.raises(ConflictError):
        queue.submit(BENCH, "token", "key")
    other, new = queue.submit(BENCH, "another token", "key")
    assert new
    assert other.id != job.id


def test_the_same_key_from_many_sides_at_once(queue: Queue) -> None:
    found: list[str] = []
    start = threading.Barrier(8)

    def submit() -> None:
        start.wait()
        found.append(queue.submit(EVALUATE, "token", "key")[0].id)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert len(queue.recent()) == 1


def test_a_token_may_have_so_many_open_jobs(queue: Queue) -> None:
    first, _ = queue.submit(EVALUATE, "token", most=2)
    queue.submit(EVALUATE, "token", most=2)
    with pytest.raises(TooManyError, match="2 jobs"):
        queue.submit(EVALUATE, "token", most=2)
    queue.submit(EVALUATE, "another token", most=2)
    queue.cancel(first.id)
    queue.submit(EVALUATE, "token", most=2)


def test_a_lost_worker_s_job_is_another_s(queue: Queue) -> None:
    job, _ = queue.submit(EVALUATE, "token")
    first = queue.claim("w", "here")
    assert first is not None
    end_lease(queue, job.id)
    second = queue.claim("v", "there")
    assert second is not None
    assert (second.id, second.attempts, second.losses) == (job.id, 2, 1)
    assert [event.kind for event in queue.events(job.id)] == ["again"]
    for late in (lambda: queue.heartbeat(first), lambda: queue.tell(first, [("say", "x")], None)):
        with pytest.raises(LeaseLostError):
            late()
    with pytest.raises(LeaseLostError):
        queue.finish(first, DONE)
    assert queue.finish(second, DONE).folder == f"jobs/{job.id}/2"


def test_a_worker_that_was_only_slow_goes_on(queue: Queue) -> None:
    job, _ = queue.submit(EVALUATE, "token")
    claimed = queue.claim("w", "here")
    assert claimed is not None
    end_lease(queue, job.id)
    assert queue.heartbeat(claimed) is False
    assert queue.claim("v", "there") is None
    assert queue.finish(claimed, DONE).state == "done"


def test_a_job_that_loses_all_its_workers_fails(queue: Queue) -> None:
    job, _ = queue.submit(EVALUATE, "token")
    for number in range(1, 4):
        claimed = queue.claim("w", "here")
        assert claimed is not None
        assert claimed.attempts == number
        end_lease(queue, job.id)
    assert queue.claim("w", "here") is None
    failed = queue.get(job.id)
    assert failed.state == "failed"
    assert failed.error == "3 workers were lost while they worked on it."


def test_a_worker_that_is_stopped_gives_its_job_back(queue: Queue) -> None:
    job, _ = queue.submit(EVALUATE, "token")
    for number in range(1, 6):
        claimed = queue.claim("w", "here")
        assert claimed is not None
        assert (claimed.attempts, claimed.losses) == (number, 0)
        queue.release(claimed)
        assert queue.get(job.id).state == "queued"


def test_cancelling(queue: Queue) -> None:
    waiting, _ = queue.submit(EVALUATE, "token")
    assert queue.cancel(waiting.id).state == "cancelled"
    assert queue.claim("w", "here") is None
    running, _ = queue.submit(EVALUATE, "token")
    claimed = queue.claim("w", "here")
    assert claimed is not None
    assert queue.heartbeat(claimed) is False
    asked = queue.cancel(running.id)
    assert (asked.state, asked.cancelled) == ("running", True)
    assert queue.heartbeat(claimed) is True
    queue.finish(claimed, JobOutcome("cancelled", 130))
    assert queue.cancel(running.id).state == "cancelled"
    assert queue.get(running.id).exit_code == 130


def test_a_cancelled_job_whose_worker_is_lost_does_not_begin_again(queue: Queue) -> None:
    job, _ = queue.submit(EVALUATE, "token")
    queue.claim("w", "here")
    queue.cancel(job.id)
    end_lease(queue, job.id)
    assert queue.claim("w", "here") is None
    assert queue.get(job.id).state == "cancelled"


def test_a_job_that_times_is_alone_on_its_machine(queue: Queue) -> None:
    queue.submit(EVALUATE, "token")
    bench, _ = queue.submit(BENCH, "token")
    last, _ = queue.submit(EVALUATE, "token")
    first = queue.claim("a", "here")
    assert first is not None
    assert queue.claim("b", "here") is None, "the machine is not quiet"
    there = queue.claim("c", "there")
    assert there is not None
    assert there.id == bench.id
    assert queue.claim("d", "there") is None, "it must stay alone"
    behind = queue.claim("b", "here")
    assert behind is not None
    assert behind.id == last.id, "jobs that do not time share a machine"
    queue.finish(there, DONE)
    queue.submit(BENCH, "token")
    assert queue.claim("c", "there") is not None


def test_the_list_is_in_pages(queue: Queue) -> None:
    ids = [queue.submit(EVALUATE if i % 2 else BENCH, "token")[0].id for i in range(5)]
    queue.cancel(ids[0])
    assert [job.id for job in queue.recent()] == ids[::-1]
    first = queue.recent(limit=2)
    assert [job.id for job in queue.recent(before=first[-1].number, limit=2)] == ids[2:0:-1]
    assert [job.id for job in queue.recent(states=["cancelled"])] == ids[:1]
    assert [job.id for job in queue.recent(verb="evaluate")] == [ids[3], ids[1]]


def test_workers_in_each_other_s_way_take_every_job_once(queue: Queue) -> None:
    ids = {queue.submit(EVALUATE, "token")[0].id for _ in range(30)}
    taken: list[str] = []

    def work(name: str) -> None:
        while (job := queue.claim(name, name)) is not None:
            taken.append(job.id)
            queue.finish(job, DONE)

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(ids)
    assert all(job.state == "done" and job.attempts == 1 for job in queue.recent(limit=50))
