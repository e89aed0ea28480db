"""Retention: what goes by which rule, and that nothing which is needed goes; also where the
collector is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from holdings import accuracy, add_dataset, add_model, ask, end, leave_run
from sqlalchemy import Table, update
from waiting import HANGS

from quantlab.cli import main
from quantlab.runs.index import Filter, Index
from quantlab.serve.collector import UNCLAIMED, Collected, Collector, Rules
from quantlab.serve.db import JOBS, MODELS, MONITORS
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.watching import Watching
from quantlab.serve.worker import PLACE

DAY = 86400.0
KILLS = int(os.environ.get("QUANTLAB_KILLS", "6"))


@pytest.fixture
def held(service: Service) -> Service:
    add_model(service)
    add_dataset(service)
    return service


def collector(service: Service, **rules: float) -> Collector:
    found = Collector(service)
    found.rules = Rules(**rules)
    return found


def age(service: Service, table: Table, column: str, days: float, **which: str) -> None:
    """Let rows be so old."""
    with service.database.writing() as connection:
        now = service.database.now(connection)
        query = update(table).values({column: now - days * DAY})
        for name, value in which.items():
            query = query.where(table.c[name] == value)
        connection.execute(query)


def age_file(service: Service, key: str, days: float) -> None:
    path = service.objects.local(key)
    assert path is not None
    when = time.time() - days * DAY
    os.utime(path, (when, when))


def store(service: Service, key: str, days: float, content: bytes = b"123") -> None:
    place = service.settings.home / "written"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    service.objects.put(key, place)
    age_file(service, key, days)


def keys(found: list[Collected], kind: str) -> set[str]:
    return {each.key for each in found if each.kind == kind}


class TestRules:
    def test_without_rules_all_stays(self, held: Service) -> None:
        ask(held)
        end(held)
        age(held, JOBS, "finished", 9999)
        age(held, MODELS, "created", 9999)
        age_file(held, held.catalog.model("net").key, 9999)
        assert collector(held).plan() == []

    def test_jobs_that_are_done_and_others(self, held: Service) -> None:
        jobs = [ask(held).id for _ in range(5)]
        for state in ("done", "failed", "cancelled", "done"):
            end(held, {"a.txt": b"12345"}, state=state)
        for job, days in zip(jobs, (91, 8, 8, 89), strict=False):
            age(held, JOBS, "finished", days, id=job)
        found = collector(held, runs=90 * DAY, errors=7 * DAY)
        planned = found.plan()
        assert keys(planned, "job") == set(jobs[:3])
        assert {each.bytes for each in planned} == {5}
        assert collector(held, runs=90 * DAY).plan() == [planned[0]]
        assert found.collect(planned) == planned
        assert {job.id for job in held.queue.recent()} == set(jobs[3:])
        assert found.plan() == []

    def test_models_but_the_newest_of_a_name(self, held: Service) -> None:
        old = held.catalog.model("net")
        add_model(held, "net", seed=1)
        age(held, MODELS, "created", 40)
        age(held, MODELS, "created", 50, sha256=old.sha256)
        found = collector(held, models=30 * DAY)
        planned = found.plan()
        assert planned == [Collected("model", old.sha256, "net", old.bytes)]
        found.collect(planned)
        assert not held.objects.has(old.key)
        assert held.objects.has(held.catalog.model("net").key)

    def test_models_that_an_open_job_works_on(self, held: Service) -> None:
        ask(held)
        old = held.catalog.model("net")
        add_model(held, "net", seed=1)
        age(held, MODELS, "created", 40)
        age(held, MODELS, "created", 50, sha256=old.sha256)
        assert collector(held, models=30 * DAY).plan() == []

    def test_the_newest_of_a_name_stays_though_it_was_planned(self, held: Service) -> None:
        model = held.catalog.model("net")
        planned = Collected("model", model.sha256, "net", model.bytes)
        assert collector(held).collect([planned]) == []
        assert held.objects.has(model.key)

    def test_what_baselines_and_newest_models_come_from(self, held: Service) -> None:
        ids = [ask(held).id for _ in range(3)]
        for _ in ids:
            end(held)
        held.catalog.add_baseline("accepted", ids[0], {"b.yaml": f"jobs/{ids[0]}/1/b.yaml"})
        model = held.catalog.model("net")
        held.catalog.add_model(model.sha256, "made", model.bytes, {}, ids[1])
        age(held, JOBS, "finished", 100)
        assert keys(collector(held, runs=DAY).plan(), "job") == {ids[2]}

    def test_what_monitors_need(self, held: Service) -> None:
        old = held.catalog.model("net")
        add_model(held, "net", seed=1)
        age(held, MODELS, "created", 40)
        age(held, MODELS, "created", 50, sha256=old.sha256)
        jobs = [ask(held).id for _ in range(2)]
        for _ in jobs:
            end(held)
        age(held, JOBS, "finished", 40)
        found = collector(held, models=DAY, runs=DAY)
        assert keys(found.plan(), "job") == set(jobs)
        assert keys(found.plan(), "model") == {old.sha256}
        watched = {"request": {"verb": "evaluate", "model": old.sha256, "data": "val"}}
        Watching(held.database).create(
            "nightly", "local", **watched, schedule=None, on_version=False, on_environment=False,
            enabled=False, receivers=[],
        )  # fmt: skip
        with held.database.writing() as connection:
            connection.execute(update(MONITORS).values(last={"job": jobs[0]}))
        assert keys(found.plan(), "job") == {jobs[1]}
        assert keys(found.plan(), "model") == set()

    def test_what_came_to_hang_on_it_since(self, held: Service) -> None:
        job = ask(held)
        end(held)
        age(held, JOBS, "finished", 100)
        found = collector(held, runs=DAY)
        planned = found.plan()
        held.catalog.add_baseline("accepted", job.id, {"b.yaml": f"jobs/{job.id}/1/b.yaml"})
        assert len(planned) == 1
        assert found.collect(planned) == []
        assert held.queue.get(job.id)


class TestObjects:
    def test_what_no_row_names(self, held: Service) -> None:
        ask(held)
        job = end(held, {"a.txt": b"a"})
        named = f"{job.folder}/a.txt"
        stray = ["models/" + "b" * 64, "jobs/0123/1/a.txt", f"jobs/{job.id}/7/a.txt", "uploads/1/0"]
        for key in (*stray, named, held.catalog.model("net").key):
            if key in stray:
                store(held, key, 2)
            else:
                age_file(held, key, 2)
        store(held, "jobs/4567/1/a.txt", 0.5)
        store(held, "theirs/a.txt", 2)
        found = collector(held)
        planned = found.plan()
        assert keys(planned, "object") == set(stray)
        assert {each.bytes for each in planned} == {3}
        found.collect(planned)
        assert [held.objects.has(key) for key in stray] == [False] * 4
        assert held.objects.has(named)
        assert held.objects.has("jobs/4567/1/a.txt")
        assert held.objects.has("theirs/a.txt")

    def test_files_of_a_job_at_work(self, held: Service) -> None:
        ask(held)
        job = held.queue.claim("w", "here")
        assert job is not None
        store(held, f"{job.folder}/runs/r/run.json", 9)
        assert collector(held).plan() == []

    def test_one_that_was_named_since(self, held: Service) -> None:
        sha256 = "c" * 64
        store(held, f"models/{sha256}", 2)
        found = collector(held)
        planned = found.plan()
        held.catalog.add_model(sha256, "late", 3, {})
        found.collect(planned)
        assert held.objects.has(f"models/{sha256}")

    def test_figures_of_a_run_that_no_job_has(self, held: Service) -> None:
        ask(held)
        leave_run(held, "20261122T101500Z-evaluate-ab12cd", accuracy())
        with held.database.writing() as connection:
            connection.execute(update(JOBS).values(run=None))
        found = collector(held)
        with held.database.reading() as connection:
            now = held.database.now(connection)
        lost = found.plan()
        old = now - 1795342500 > UNCLAIMED + held.settings.job_time  # 2026-11-22T10:15
        assert bool(keys(lost, "history")) == old
        found.collect(lost)
        with Index(held.settings.db_url, PLACE) as index:
            assert bool(index.rows(Filter())) != old


def test_at_the_command_line(tmp_path: Path) -> None:
    config = tmp_path / "server.yaml"
    config.write_text(f"home: {tmp_path / 'home'}\nkeep_errors: 7d\n")
    with Service.open(Settings(home=tmp_path / "home")) as service:
        add_model(service)
        add_dataset(service)
        job = ask(service)
        end(service, {"a.txt": b"a"}, state="failed")
        age(service, JOBS, "finished", 8)

    def run(*words: str) -> str:
        done = CliRunner().invoke(main, ["server", "gc", "--config", str(config), *words])
        assert done.exit_code == 0, done.output
        return done.output

    line = f"job  evaluate {job.id}  1 bytes\n"
    assert run("--dry-run") == f"{line}1 items of 1 bytes would be deleted.\n"
    assert run() == f"{line}1 items of 1 bytes were deleted.\n"
    assert run() == "Nothing to delete.\n"


def test_a_collector_that_is_killed_loses_nothing_that_is_named(tmp_path: Path) -> None:
    """It is killed at any moment, again and again, until it comes to its end."""
    settings = Settings(home=tmp_path / "home", keep_runs=30 * DAY, keep_models=30 * DAY)
    with Service.open(settings) as service:
        stays, goes = fill(service)
        config = tmp_path / "server.yaml"
        config.write_text(f"home: {settings.home}\nkeep_runs: 30d\nkeep_models: 30d\n")
        command = [sys.executable, "-c", KILLED, str(config)]
        dice = random.Random(20)
        for _ in range(KILLS):
            child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert child.stdout is not None
            for _ in range(dice.randrange(1, 12)):  # after so many steps
                child.stdout.readline()
            child.send_signal(signal.SIGKILL)
            child.stdout.close()
            child.wait(HANGS)
            check_named(service)
        subprocess.run(command, check=True, timeout=HANGS, stdout=subprocess.DEVNULL)
        check_named(service)
        assert {job.id for job in service.queue.recent()} == stays
        listing = service.objects.listing()
        for key in goes & set(listing):  # a kill has left it without a row; it is young no more
            age_file(service, key, 2)
        subprocess.run(command, check=True, timeout=HANGS, stdout=subprocess.DEVNULL)
        assert not goes & set(service.objects.listing())
        check_named(service)


KILLED = """
import sys
from pathlib import Path
from quantlab.serve.collector import Collector
from quantlab.serve.objects import Objects
from quantlab.serve.service import Service
from quantlab.serve.settings import load_settings
from quantlab.serve.db import Database

def told(kind, name):
    whole = getattr(kind, name)
    def step(*args, **options):
        print(name, flush=True)
        found = whole(*args, **options)
        print(name, flush=True)
        return found
    setattr(kind, name, step)

with Service.open(load_settings(Path(sys.argv[1]))) as service:
    collector = Collector(service)
    planned = collector.plan()
    for name in ("remove", "remove_one"):
        told(Objects, name)
    told(Database, "now")
    collector.collect(planned)
"""


def fill(service: Service) -> tuple[set[str], set[str]]:
    """Old and young jobs and models, one with a baseline: the jobs that stay, and the keys that
    go."""
    add_dataset(service)
    first = add_model(service, "net", seed=0)
    for seed in range(1, 5):
        add_model(service, "net", seed=seed)
    newest = service.catalog.model("net")
    jobs = []
    for number in range(8):
        ask(service)
        run = f"2026112{number}T101500Z-evaluate-ab12c{number}"
        jobs.append(leave_run(service, run, accuracy(), {"report.html": b"<p>"}))
    accepted = jobs[0]
    place = service.settings.home / "written"
    service.objects.put(f"{accepted.folder}/b.yaml", place)
    service.catalog.add_baseline("accepted", accepted.id, {"b.yaml": f"{accepted.folder}/b.yaml"})
    for job in jobs[:6]:
        age(service, JOBS, "finished", 40, id=job.id)
    age(service, MODELS, "created", 40)
    age(service, MODELS, "created", 39, sha256=newest.sha256)
    stays = {accepted.id, *(job.id for job in jobs[6:])}
    old = {f"{job.folder}/{name}" for job in jobs[1:6] for name in service.queue.get(job.id).files}
    return stays, old | {first.key}


def check_named(service: Service) -> None:
    """All that the database names is in the store."""
    for model in service.catalog.models():
        assert service.objects.has(model.key)
    for baseline in service.catalog.baselines():
        assert all(map(service.objects.has, baseline.files.values()))
        assert service.queue.get(baseline.job)
    for job in service.queue.recent():
        there = set(service.objects.sizes(job.folder))
        assert set(job.files) <= there
    assert service.catalog.model("net")


def test_the_rules_are_those_of_the_settings() -> None:
    found = Rules.of(Settings(keep_runs=90 * DAY, keep_errors=7 * DAY))
    assert found == replace(Rules(), runs=90 * DAY, errors=7 * DAY)
    parsed: Any = Settings.model_validate({"keep_models": "30d"})
    assert parsed.keep_models == 30 * DAY
