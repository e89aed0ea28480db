"""Monitors from their being due to the alert at its receiver, without a wait."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from holdings import accuracy, add_dataset, add_model, end, leave_run
from receiving import Receiving, mailing, receiving
from test_watching import Clock

from quantlab.serve.alerts import SIGNATURE
from quantlab.serve.outgoing import Outgoing
from quantlab.serve.queue import Job
from quantlab.serve.runs import Runs
from quantlab.serve.service import Service
from quantlab.serve.watcher import Watcher
from quantlab.serve.watching import ATTEMPT_SECONDS, Watching

URL = "https://q.example.org"
COMPARED = {"verb": "compare", "fp32": "net", "int8": "net", "data": "val"}
MEASURED = {"verb": "evaluate", "model": "net", "data": "val"}


class Site:
    """A service with a monitor, a receiver, and watchers that share a clock."""

    def __init__(self, service: Service, runs: Runs, got: Receiving) -> None:
        self.service, self.runs, self.got, self.clock = service, runs, got, Clock()
        self.watching = Watching(service.database, self.clock)
        self.outgoing = Outgoing((got.url.removeprefix("http://"),), private=True)
        self.secret = self.watching.add_receiver("hook", "webhook", got.url).secret
        self.watcher = self.another()

    def another(self) -> Watcher:
        return Watcher(self.service, self.runs, URL, outgoing=self.outgoing, watching=self.watching)

    def monitor(self, request: Any = COMPARED, **changed: Any) -> None:
        values = {
            "request": request, "schedule": "0 3 * * *", "on_version": True,
            "on_environment": True, "enabled": True, "receivers": ["hook"],
        }  # fmt: skip
        self.watching.create("nightly", "local", **{**values, **changed})

    def open_jobs(self) -> list[Job]:
        return self.service.queue.recent(states=["queued", "running"])

    def ends(self, **outcome: Any) -> None:
        """Its job begins and ends, and is looked at."""
        self.watcher.look()
        assert len(self.open_jobs()) == 1
        end(self.service, **outcome)
        self.watcher.look()

    def told(self) -> list[str]:
        return [alert.kind for alert in reversed(self.watching.alerts())]

    def tomorrow(self) -> None:
        self.clock.now += 86400


@pytest.fixture
def site(sqlite_service: Service) -> Iterator[Site]:
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    with Runs(sqlite_service) as runs, receiving() as got:
        yield Site(sqlite_service, runs, got)


def test_a_verdict_that_changes_reaches_the_receiver(site: Site) -> None:
    site.monitor()
    site.ends(exit_code=0)
    assert site.told() == []
    site.tomorrow()
    site.ends(exit_code=1, run="20261122T101500Z-compare-ab12cd")
    assert site.told() == ["verdict"]
    site.watcher.deliver()
    (body,), (headers,) = site.got.bodies, site.got.headers
    digest = hmac.digest(site.secret.encode(), body, hashlib.sha256).hex()
    assert headers[SIGNATURE] == f"sha256={digest}"
    told = json.loads(body)
    assert (told["monitor"], told["was"], told["now"]) == ("nightly", "pass", "fail")
    assert told["sent"] == datetime.fromtimestamp(site.clock.now, UTC).isoformat(
        timespec="milliseconds"
    )
    assert told["links"]["report"] == f"{URL}/runs/20261122T101500Z-compare-ab12cd"
    (job, _) = site.service.queue.recent()
    assert told["links"]["job"] == f"{URL}/jobs/{job.id}"
    (delivery,) = site.watching.deliveries()
    assert (delivery.state, delivery.log[0][1]) == ("delivered", "200 OK")
    site.tomorrow()
    site.ends(exit_code=1)
    site.watcher.deliver()
    assert len(site.got.bodies) == 1, "it is told once"


def test_one_job_at_a_time_and_what_was_missed_is_one(site: Site) -> None:
    site.monitor()
    for _ in range(3):
        site.watcher.look()
        site.tomorrow()
    assert len(site.service.queue.recent()) == 1
    end(site.service)
    for _ in range(3):
        site.watcher.look()
    assert len(site.service.queue.recent()) == 2
    end(site.service)
    for _ in range(3):
        site.watcher.look()
    assert len(site.service.queue.recent()) == 2


def test_a_new_version_and_another_cpu_make_jobs(site: Site) -> None:
    site.watching.runs_on("m", "CPU 1, onnxruntime 1.20")
    site.monitor(schedule=None)
    site.ends()
    site.watcher.look()
    assert site.open_jobs() == []
    newest = add_model(site.service, seed=1)
    site.ends()
    job = site.service.queue.recent()[0]
    assert {model["sha256"] for model in job.inputs["models"]} == {newest.sha256}
    site.watcher.look()
    assert site.open_jobs() == []
    site.watching.runs_on("m", "CPU 1, onnxruntime 1.21")
    site.ends()
    assert len(site.service.queue.recent()) == 3


def test_the_first_worker_is_no_change(site: Site) -> None:
    """It begins after the monitor's job was submitted."""
    site.monitor(schedule=None)
    site.watcher.look()
    site.watching.runs_on("m", "CPU 1")
    end(site.service)
    for _ in range(3):
        site.watcher.look()
    assert site.open_jobs() == []
    site.watching.runs_on("m", "CPU 2")
    site.watcher.look()
    assert len(site.open_jobs()) == 1


def test_several_servers_submit_a_due_job_once(site: Site) -> None:
    site.monitor()
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Watcher.look, [site.another() for _ in range(4)]))
        assert len(site.open_jobs()) == 1
        end(site.service, exit_code=1)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Watcher.look, [site.another() for _ in range(4)]))
        site.tomorrow()
    assert site.told() == ["verdict"]


def test_a_server_that_is_killed_after_it_submitted(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.monitor()
    with monkeypatch.context() as patched:
        patched.setattr(Watching, "advance", lambda *_, **__: False)
        site.watcher.look()
    (job,) = site.open_jobs()
    site.watcher.look()
    assert [each.id for each in site.open_jobs()] == [job.id]
    assert site.watching.monitor("nightly").job == job.id


def test_a_server_that_is_killed_after_it_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.watching.test("hook")
    with monkeypatch.context() as patched:
        patched.setattr(Watching, "sent", lambda *_, **__: None)
        site.watcher.deliver()
    assert site.watching.deliveries()[0].state == "waiting"
    site.another().deliver()
    assert len(site.got.bodies) == 1
    site.clock.now += ATTEMPT_SECONDS
    site.another().deliver()
    first, again = map(json.loads, site.got.bodies)
    assert first["id"] == again["id"], "by which a receiver knows it"
    assert site.watching.deliveries()[0].state == "delivered"


def test_a_server_that_is_told_to_end_leaves_deliveries_to_the_next(site: Site) -> None:
    site.watching.test("hook")
    site.watcher.stop.set()
    site.watcher.deliver()
    assert site.got.bodies == []
    site.clock.now += ATTEMPT_SECONDS
    site.another().deliver()
    assert len(site.got.bodies) == 1


def test_what_cannot_run_is_told_once_and_so_is_its_end(site: Site) -> None:
    site.monitor()
    site.service.catalog.remove_dataset("val")
    for _ in range(2):
        site.watcher.look()
        site.tomorrow()
    assert site.told() == ["cannot run"]
    assert "no dataset called val" in site.watching.alerts()[0].words
    add_dataset(site.service)
    site.ends(state="failed", exit_code=2, error="its images cannot be read.")
    assert site.told() == ["cannot run"]
    site.tomorrow()
    site.ends()
    assert site.told() == ["cannot run", "mended"]
    last = site.watching.monitor("nightly").last
    assert last is not None
    assert (last.verdict, last.problem) == ("pass", "")


def test_a_change_of_level_is_told(site: Site) -> None:
    site.monitor(MEASURED)
    for day in range(1, 9):
        site.watcher.look()
        top1 = accuracy(0.9 if day < 4 else 0.1)
        ends = top1["accuracy"]["top1"]["interval"]
        ends |= {"low": ends["low"] + 0.15, "high": ends["high"] - 0.15}
        leave_run(site.service, f"202611{day:02}T101500Z-evaluate-ab12c{day}", top1)
        site.watcher.look()
        site.tomorrow()
    assert site.told() == ["change point"]
    words = site.watching.alerts()[0].words
    assert "90" in words
    assert "10" in words
    assert "ab12c4" in words


def test_a_job_that_was_cancelled(site: Site) -> None:
    site.monitor()
    site.watcher.look()
    site.service.queue.cancel(site.open_jobs()[0].id)
    site.watcher.look()
    assert site.told() == ["cannot run"]
    assert "cancelled" in site.watching.alerts()[0].words


def test_a_request_of_another_version(site: Site) -> None:
    site.monitor({"verb": "evaluate", "old": 1})
    site.watcher.look()
    assert site.told() == ["cannot run"]
    assert "another version" in site.watching.alerts()[0].words


def test_one_monitor_that_fails_does_not_keep_others(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    site.monitor()
    site.watching.create(
        "another", "local", request=MEASURED, schedule=None, on_version=True,
        on_environment=False, enabled=True, receivers=[],
    )  # fmt: skip
    begin = Watcher._begin

    def broken(self: Watcher, monitor: Any, *more: Any) -> None:
        if monitor.name == "another":
            raise ZeroDivisionError
        begin(self, monitor, *more)

    monkeypatch.setattr(Watcher, "_begin", broken)
    site.watcher.look()
    assert len(site.open_jobs()) == 1
    assert "the monitor another was not looked after" in caplog.text


def test_a_receiver_that_fails_gets_it_later(site: Site) -> None:
    site.got.answer = lambda i: (500 if i == 0 else 200, {})
    site.watching.test("hook")
    site.watcher.deliver()
    (waits,) = site.watching.deliveries()
    assert waits.state == "waiting"
    site.watcher.deliver()
    assert len(site.got.bodies) == 1
    site.clock.now = waits.due
    site.watcher.deliver()
    (done,) = site.watching.deliveries()
    failed, taken = (words for _, words in done.log)
    assert "answered 500" in failed
    assert taken == "200 OK"
    first, second = (json.loads(body)["sent"] for body in site.got.bodies)
    assert first != second, "each attempt is signed with its own time"


def test_a_host_that_is_taken_off_the_list_gets_nothing_any_more(site: Site) -> None:
    site.watching.test("hook")
    site.watcher.outgoing = replace(site.outgoing, hosts=())
    site.watcher.deliver()
    assert site.got.bodies == []
    assert "may not go to" in site.watching.deliveries()[0].log[0][1]


def test_a_mail_s_receiver_gets_a_mail(site: Site) -> None:
    site.watching.add_receiver("me", "mail", "me@example.org")
    site.watching.test("me")
    with mailing() as (url, envelopes):
        site.watcher.outgoing = Outgoing(("example.org",), smtp=url, sender="q@example.org")
        site.watcher.deliver()
    assert [envelope.rcpt_tos for envelope in envelopes] == [["me@example.org"]]
    assert site.watching.deliveries()[0].state == "delivered"
