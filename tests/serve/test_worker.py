"""Workers at work: real confined children on tiny models, from a claim to a result."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock
from sqlalchemy import select, update
from waiting import HANGS, until
from worksite import (
    CLASSES,
    ask,
    await_end,
    await_word,
    equip,
    file_of,
    net,
    said,
    upload,
    working,
)

from quantlab.cli import main
from quantlab.errors import OutputError
from quantlab.runs.index import Filter, Index
from quantlab.serve.db import JOBS, UnavailableError
from quantlab.serve.objects import Objects
from quantlab.serve.queue import Job, Queue
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.worker import PLACE, Worker, _Lease, _plain, own_folder
from quantlab.testing.images import image_folder, listed_folder
from quantlab.testing.models import tiny_classifier


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with the model ``net`` and the dataset ``val``."""
    with Service.open(Settings(home=tmp_path / "home", machine="here")) as opened:
        equip(opened, tmp_path / "images")
        yield opened


def with_settings(service: Service, **changed: Any) -> Service:
    return replace(service, settings=service.settings.model_copy(update=changed))


def record_of(service: Service, job: Job) -> dict[str, Any]:
    return dict(json.loads(file_of(service, job, f"runs/{job.run}/run.json")))


def local(folder: Path, *words: str) -> Any:
    """What the command line says in a folder that is laid out as a job's is."""
    (folder / "datasets").mkdir(parents=True)
    image_folder(folder / "datasets" / "val", CLASSES, 3)
    net(folder / "net.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return CliRunner().invoke(main, words)


def test_evaluate_is_what_it_is_at_the_command_line(service: Service, tmp_path: Path) -> None:
    with working(service):
        (job,) = await_end(service, ask(service, "evaluate"))
    assert (job.state, job.exit_code, job.error, job.attempts) == ("done", 0, None, 1)
    here = local(tmp_path / "local", "evaluate", "--data=datasets/val", "net.onnx")
    assert here.exit_code == 0
    assert [line for line in here.stdout.splitlines() if "Top-" in line] == [
        line for line in str(job.out).splitlines() if "Top-" in line
    ]
    record = record_of(service, job)
    (mine,) = (tmp_path / "local" / "runs").glob("*/run.json")
    assert record["results"]["accuracy"] == json.loads(mine.read_text())["results"]["accuracy"]
    assert record["command"] == json.loads(mine.read_text())["command"]
    assert str(tmp_path) not in json.dumps(record), "no place of the server is in the record"
    assert set(job.files) >= {f"runs/{job.run}/run.json"}
    assert not set(job.files) & {"net.onnx", "datasets/val"}, "inputs are no results"
    assert all(len(file_of(service, job, name)) == size for name, size in job.files.items())
    assert "Repeat: quantlab evaluate" in said(service, job)


def test_the_run_is_in_the_history_and_its_trend(service: Service) -> None:
    with working(service):
        jobs = await_end(service, ask(service, "evaluate"), ask(service, "evaluate"))
    with Index(service.settings.db_url, PLACE) as index:
        assert {listed.entry.folder for listed in index.entries(Filter())} == {
            job.run for job in jobs
        }
        measured = index.measured("net", ["top1"])
    assert [each.folder for each in measured] == sorted(str(job.run) for job in jobs)
    assert service.queue.of_run(str(jobs[0].run)) == jobs[0]


def test_quantize_leaves_a_model_that_compare_takes(service: Service) -> None:
    with working(service):
        (made,) = await_end(service, ask(service, "quantize"))
        assert (made.state, made.error) == ("done", None)
        model = service.catalog.model("net.int8")
        content = file_of(service, made, "net.int8.onnx")
        assert model.sha256 == hashlib.sha256(content).hexdigest()
        assert (model.job, model.bytes, model.facts["quantized"]) == (made.id, len(content), True)
        assert service.objects.has(model.key)
        asked = ask(service, "compare", fp32="net", int8="net.int8", no_bench=True)
        (compared,) = await_end(service, asked)
    assert (compared.state, compared.error) == ("done", None)
    assert compared.exit_code in (0, 1, 3)
    assert f"runs/{compared.run}/report.html" in compared.files


def test_bench_times_models(service: Service) -> None:
    with working(service):
        asked = ask(service, "bench", models=["net"], rounds=2, seconds=0.1)
        assert asked.exclusive
        (job,) = await_end(service, asked)
    assert (job.state, job.error) == ("done", None)
    assert record_of(service, job)["results"]


def test_a_baseline_is_kept_and_a_gate_judges_by_it(service: Service) -> None:
    with working(service):
        (accepted,) = await_end(service, ask(service, "baseline", name="release-1"))
        assert (accepted.state, accepted.error) == ("done", None)
        kept = service.catalog.baseline("release-1")
        assert kept.job == accepted.id
        assert set(kept.files) >= {"quantlab-baseline.yaml"}
        rules = ["top1.decline <= 1%", "agreement >= 95%"]
        asked = ask(service, "gate", models=["net"], baseline="release-1", require=rules)
        (gated,) = await_end(service, asked)
    assert (gated.state, gated.error) == ("done", None)
    assert gated.exit_code in (0, 3)
    assert {"junit.xml", "comment.md", "benchmark.json"} <= set(gated.files)


def test_tune_writes_the_best_and_its_trials(service: Service, tmp_path: Path) -> None:
    judged = listed_folder(tmp_path / "judged", [0, 1, 2, 3, 0], seed=7, list_name="mine.txt")
    service.catalog.add_dataset("judged", judged, judged / "mine.txt", None, {})
    few = {"no_bench": True, "max_trials": 2, "calibration_size": 4}
    with working(service):
        (job,) = await_end(service, ask(service, "tune", eval_data="judged", **few))
    assert (job.state, job.error) == ("done", None)
    assert "net.int8.onnx" in job.files
    assert service.catalog.model("net.int8").job == job.id
    assert len(trials(service, job.folder)) == 2
    assert job.progress is None
    assert "best so far" in said(service, job)
    record = record_of(service, job)
    assert record["results"]["data"]["labelled"] is True, "by the list, which no reader looks for"
    assert record["results"]["data"]["images"] == 5
    for name in job.files:
        assert str(tmp_path).encode() not in file_of(service, job, name), name


def test_a_job_that_fails_says_what_the_command_line_says(service: Service, tmp_path: Path) -> None:
    with working(service):
        (job,) = await_end(service, ask(service, "evaluate", pipeline="nonsense"))
    words = ("evaluate", "--pipeline=nonsense", "--data=datasets/val", "net.onnx")
    here = local(tmp_path / "local", *words)
    assert (job.state, job.exit_code) == ("failed", here.exit_code) == ("failed", 2)
    assert f"Error: {job.error}" == here.stderr.strip()
    assert len(str(job.error).splitlines()) == 2
    assert record_of(service, job)["status"] == "error"


def test_the_worker_goes_on_after_whatever_fails(service: Service, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    upload(service, tmp_path / "net.onnx", "broken")
    lost = image_folder(tmp_path / "lost", CLASSES)
    service.catalog.add_dataset("lost", lost, None, None, {"images": 8})
    bad = [ask(service, "evaluate", model="broken"), ask(service, "evaluate", data="lost")]
    lost.rename(tmp_path / "moved")
    good = ask(service, "evaluate")
    with working(service):
        broken, gone, done = await_end(service, *bad, good)
    assert (broken.state, broken.exit_code) == ("failed", 2)
    assert (gone.state, gone.error) == ("failed", "the dataset lost is not on this machine.")
    assert done.state == "done"


def test_a_waiting_job_is_cancelled(service: Service) -> None:
    waiting, other = ask(service, "evaluate"), ask(service, "evaluate")
    service.queue.cancel(waiting.id)
    with working(service):
        cancelled, _ = await_end(service, waiting, other)
    assert (cancelled.state, cancelled.attempts, cancelled.files) == ("cancelled", 0, {})


ENDLESS = {"strategy": "random", "no_bench": True, "budget": 3600, "calibration_size": 4}


def test_a_tune_that_is_cancelled_keeps_its_best_file(service: Service) -> None:
    with working(service):
        job = ask(service, "tune", **ENDLESS)
        await_word(service, job, "best so far")
        service.queue.cancel(job.id)
        (ended,) = await_end(service, job)
        (after,) = await_end(service, ask(service, "evaluate", model="net.int8"))
    assert (ended.state, ended.exit_code, ended.error) == ("cancelled", 130, "It was cancelled.")
    assert "net.int8.onnx" in ended.files
    assert record_of(service, ended)["status"] == "interrupted"
    assert service.catalog.model("net.int8").job == ended.id
    assert after.state == "done"


def test_a_job_that_takes_too_long_is_stopped(service: Service) -> None:
    with working(with_settings(service, job_time=3.0)):
        (job,) = await_end(service, ask(service, "tune", **ENDLESS))
    assert job.state == "failed"
    assert job.error == "it took longer than 3 s and was stopped."


def test_a_job_that_needs_too_much_memory_is_ended(service: Service, tmp_path: Path) -> None:
    upload(service, tiny_classifier(tmp_path / "large.onnx", classes=CLASSES, size=1024))
    with working(with_settings(service, job_memory=400_000_000)):
        (job,) = await_end(service, ask(service, "evaluate", model="large", batch_size=12))
    assert (job.state, job.error) == ("failed", "it needed more than 0.4 GB of memory.")


def test_a_worker_that_is_stopped_gives_its_tune_back(service: Service, tmp_path: Path) -> None:
    """Another one, of another machine, goes on with the run: nothing finished is done again."""
    with working(service):
        job = ask(service, "tune", **{**ENDLESS, "max_trials": 6})
        await_word(service, job, "Trial 3")
        kept = set[str]()
        while not kept:
            kept = trials(service, f"jobs/{job.id}/1")
    given_back = service.queue.get(job.id)
    assert (given_back.state, given_back.losses) == ("queued", 0)
    assert not list((tmp_path / "home" / "work").glob("*/*"))
    places = {"db": service.settings.db_url, "home": tmp_path / "elsewhere"}
    there = with_settings(service, **places, machine="there")
    with working(there):
        (done,) = await_end(service, job)
    assert (done.state, done.attempts, done.losses) == ("done", 2, 0)
    assert "again" in [event.kind for event in service.queue.events(job.id)]
    assert kept <= trials(service, done.folder)
    words = said(service, job).partition("another one goes on.")[2]
    assert "Trial 1:" not in words, "what was finished is not made again"
    assert not service.objects.sizes(f"jobs/{job.id}/1"), "the first attempt has left nothing"
    with Index(service.settings.db_url, PLACE) as index:
        assert [listed.entry.folder for listed in index.entries(Filter())] == [done.run]


def trials(service: Service, folder: str) -> set[str]:
    """The finished trials below a folder of the store, by their records' names and contents."""
    names = [name for name in service.objects.sizes(folder) if "/trials/" in name]
    found = set[str]()
    for name in names:
        if name.endswith(".json"):
            with service.objects.open(f"{folder}/{name}") as file:
                if json.loads(content := file.read())["status"] != "scored":
                    found.add(f"{name} {hashlib.sha256(content).hexdigest()}")
    return found


def test_nothing_of_an_earlier_attempt_stays(service: Service) -> None:
    """One that had put all away, but could not say so."""
    job = ask(service, "evaluate")
    queue = service.queue

    class Forgetful(Queue):
        def finish(self, job: Job, outcome: Any) -> Job:
            raise RuntimeError("the power is gone")

    broken = replace(service, queue=Forgetful(service.database, lease=0.5))
    with (
        own_folder(service.settings.work, "first") as folder,
        pytest.raises(RuntimeError, match="power"),
    ):
        Worker(broken).step(folder)
    with Index(service.settings.db_url, PLACE) as index:
        (ghost,) = index.entries(Filter())
    with working(service):
        (done,) = await_end(service, job)
    assert (done.state, done.attempts) == ("done", 2)
    assert done.run != ghost.entry.folder
    with Index(service.settings.db_url, PLACE) as index:
        assert [listed.entry.folder for listed in index.entries(Filter())] == [done.run]
    assert service.objects.sizes(f"jobs/{job.id}").keys() == {f"2/{name}" for name in done.files}
    assert queue.get(job.id) == done


def test_an_attempt_that_was_lost_counts_for_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker slept, and another one has done the job meanwhile."""
    job = ask(service, "evaluate")
    slept, woken = threading.Event(), threading.Event()
    put = Objects.put

    def slow(self: Objects, key: str, source: Path) -> None:
        if key.startswith(f"jobs/{job.id}/1/"):
            slept.set()
            assert woken.wait(HANGS)
        put(self, key, source)

    def never(self: Queue, job: Job) -> bool:
        if job.attempts > 1:
            return beat(self, job)
        return False

    beat = Queue.heartbeat
    monkeypatch.setattr(Objects, "put", slow)
    monkeypatch.setattr(Queue, "heartbeat", never)
    sleeper = replace(service, queue=Queue(service.database, lease=0.5))
    with working(sleeper) as first:
        assert slept.wait(HANGS)
        first.stop.set()
        with working(service):
            (done,) = await_end(service, job)
        woken.set()
    assert (done.state, done.attempts) == ("done", 2)
    assert service.queue.get(job.id) == done
    assert not service.objects.sizes(f"jobs/{job.id}/1")


def test_a_lease_is_kept_while_anything_takes_long(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.serve.worker.BEAT", 0.1)
    job = ask(service, "evaluate")
    queue = Queue(service.database)
    claimed = queue.claim("w", "here")
    assert claimed is not None
    first = lease_of(service, job)
    with _Lease(queue, claimed) as lease:
        until(lambda: lease_of(service, job) > first)
        assert queue.claim("v", "there") is None
        lease.check()
        queue.cancel(job.id)
        until(lambda: lease.cancelled)
    with service.database.writing() as connection:
        connection.execute(update(JOBS).values(lease=1.0))
    assert queue.claim("v", "there") is None, "it was cancelled"
    assert service.queue.get(job.id).state == "cancelled"


def lease_of(service: Service, job: Job) -> float:
    with service.database.reading() as connection:
        return float(connection.scalar(select(JOBS.c.lease).where(JOBS.c.id == job.id)) or 0)


def test_a_store_that_is_away_costs_an_attempt_not_the_job(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    get, failures = Objects.get, iter([OutputError("the store cannot be used.")])

    def once(self: Objects, key: str, target: Path) -> None:
        for error in failures:
            raise error
        get(self, key, target)

    monkeypatch.setattr(Objects, "get", once)
    hasty = replace(service, queue=Queue(service.database, lease=0.5))
    with working(hasty):
        (job,) = await_end(service, ask(service, "evaluate"))
    assert (job.state, job.attempts, job.losses) == ("done", 2, 1)


def test_a_database_that_is_away_stops_no_worker(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, claim = Queue.finish, Queue.claim
    away = {finish: 2, claim: 2}

    def flaky(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            away[function] -= 1
            if away[function] >= 0:
                raise UnavailableError("the database does not answer.")
            return function(*arguments)

        return call

    monkeypatch.setattr(Queue, "finish", flaky(finish))
    monkeypatch.setattr(Queue, "claim", flaky(claim))
    with working(service):
        (job,) = await_end(service, ask(service, "evaluate"))
    assert (job.state, job.attempts) == ("done", 1)


def test_a_worker_survives_what_nobody_thought_of(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    claim, failures = Queue.claim, iter([ZeroDivisionError()])

    def once(*arguments: Any) -> Any:
        for error in failures:
            raise error
        return claim(*arguments)

    monkeypatch.setattr(Queue, "claim", once)
    with working(service):
        (job,) = await_end(service, ask(service, "evaluate"))
    assert job.state == "done"
    assert "a job was given up" in caplog.text


def test_words_that_no_database_holds() -> None:
    """A name that is no UTF-8, as a file system has it, and a C string's end."""
    name = "\udcff\udcfeä.png"
    assert _plain(f"{name}\0, \n") == "??ä.png?, \n"


class TestOwnFolder:
    def test_it_goes_with_its_worker(self, tmp_path: Path) -> None:
        work = tmp_path / "work"
        with own_folder(work, "a") as folder:
            (folder / "file").touch()
            assert folder.is_absolute()
        assert [path.name for path in work.iterdir()] == ["starting"]

    def test_what_a_killed_worker_has_left_goes_with_the_next_start(self, tmp_path: Path) -> None:
        work = tmp_path / "work"
        (work / "dead" / "job").mkdir(parents=True)
        (work / "dead.lock").touch()
        (work / "early.lock").touch()
        (work / "alive").mkdir()
        with FileLock(work / "alive.lock"), own_folder(work, "b"):
            assert {path.name for path in work.iterdir()} == {
                *("alive", "alive.lock", "b", "b.lock", "starting")
            }

    def test_what_is_still_in_use_goes_another_time(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = tmp_path / "work"
        (work / "dead").mkdir(parents=True)
        (work / "dead.lock").touch()
        with monkeypatch.context() as patch:
            patch.setattr("quantlab.serve.worker.shutil.rmtree", lambda *_, **__: None)
            with own_folder(work, "a"):
                assert (work / "dead.lock").exists()
        with own_folder(work, "c"):
            assert {path.name for path in work.iterdir()} == {"c", "c.lock", "starting"}

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        image_folder(tmp_path / "images", 1)
        with own_folder(tmp_path / "work", "a") as folder:
            (folder / "datasets").symlink_to(tmp_path / "images")
        assert list((tmp_path / "images").rglob("*.png"))
