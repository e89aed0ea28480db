"""Monitors, alerts and deliveries in the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import update

from quantlab.errors import QuantlabError
from quantlab.serve import watching as module
from quantlab.serve.alerts import MOST_ATTEMPTS, Event, Result
from quantlab.serve.db import MODELS
from quantlab.serve.monitors import Monitor
from quantlab.serve.queue import ConflictError, NotFoundError, TooManyError
from quantlab.serve.service import Service
from quantlab.serve.watching import ATTEMPT_SECONDS, Watching

A, B = "a" * 64, "b" * 64
ASKED = {"verb": "evaluate", "model": "net", "data": "val"}
EVENT = Event("verdict", "The verdict is fail.", "verdict", "pass", "fail")


class Clock:
    """The time, as the test wants it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self, *_: Any) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watching(service: Service, clock: Clock) -> Watching:
    found = Watching(service.database, clock)
    found.add_receiver("hook", "webhook", "https://example.org/")
    return found


def make(watching: Watching, name: str = "nightly", **changed: Any) -> Monitor:
    values = {
        "request": ASKED, "schedule": "0 3 * * *", "on_version": True, "on_environment": False,
        "enabled": True, "receivers": ["hook"],
    }  # fmt: skip
    return watching.create(name, "token", **{**values, **changed})


def test_a_monitor_is_made_changed_and_removed(watching: Watching, clock: Clock) -> None:
    made = make(watching)
    assert made.asked, "its first job is due at once"
    assert made.next is not None
    assert 0 < made.next - clock.now <= 86400
    assert watching.monitors() == [watching.monitor("nightly")] == [made]
    changed = watching.change("nightly", schedule=None, receivers=[])
    assert (changed.schedule, changed.next, changed.receivers) == (None, None, ())
    assert changed.turn == made.turn + 1
    watching.remove("nightly")
    for act in (watching.monitor, watching.remove, watching.change):
        with pytest.raises(NotFoundError, match="nightly"):
            act("nightly")


def test_another_request_begins_anew(watching: Watching) -> None:
    made = make(watching)
    last = Result(time=1.0, verdict="fail").model_dump(mode="json")
    watching.advance(made, {"job": "j", "asked": False, "last": last})
    kept = watching.change("nightly", enabled=True, request=ASKED)
    assert (kept.job, kept.last is not None, kept.asked) == ("j", True, False)
    anew = watching.change("nightly", request={**ASKED, "model": "other"})
    assert (anew.job, anew.last, anew.asked) == (None, None, True)


def test_what_cannot_be_a_monitor(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    make(watching)
    with pytest.raises(ConflictError, match="nightly"):
        make(watching)
    with pytest.raises(NotFoundError, match="receiver called nobody"):
        make(watching, "other", receivers=["nobody"])
    with pytest.raises(QuantlabError, match="no schedule"):
        make(watching, "other", schedule="soon")
    monkeypatch.setattr(module, "MOST", 1)
    with pytest.raises(TooManyError):
        make(watching, "other")
    assert [each.name for each in watching.monitors()] == ["nightly"]


def test_names_stand_for_their_newest_models(service: Service, watching: Watching) -> None:
    service.catalog.add_model(A, "net", 1, {})
    service.catalog.add_model(B, "net", 1, {})
    service.catalog.add_model(A, "other", 1, {})
    with service.database.writing() as connection:
        old = (MODELS.c.sha256 == A) & (MODELS.c.name == "net")
        connection.execute(update(MODELS).where(old).values(created=1.0))
    assert watching.seen(["net.onnx", A, "none"]).models == {"net.onnx": B}
    for machine, words in (("m", "CPU 1"), ("n", "CPU 1"), ("m", "CPU 2")):
        watching.runs_on(machine, words)
    assert watching.seen([]).machines == ("CPU 1", "CPU 2")


def test_one_of_many_servers_takes_a_turn(service: Service, watching: Watching) -> None:
    monitor = make(watching)
    others = [Watching(service.database) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        took = list(pool.map(lambda w: w.advance(monitor, {"job": "j"}, [EVENT]), others))
    assert sum(took) == 1
    assert len(watching.alerts()) == len(watching.deliveries()) == 1
    assert not watching.advance(monitor, {"job": None}), "the turn is over"


def test_a_monitor_that_was_changed_meanwhile_keeps_its_turn(watching: Watching) -> None:
    monitor = make(watching)
    watching.change("nightly", enabled=False)
    assert not watching.advance(monitor, {"job": "j"}, [EVENT])
    assert watching.alerts() == []


def test_silenced_alerts_are_kept_and_not_sent(watching: Watching, clock: Clock) -> None:
    make(watching)
    watching.silence("nightly", clock.now + 10)
    assert watching.advance(watching.monitor("nightly"), {}, [EVENT])
    clock.now += 10
    assert watching.advance(watching.monitor("nightly"), {}, [EVENT])
    assert [alert.silenced for alert in watching.alerts()] == [False, True]
    assert len(watching.deliveries()) == 1
    watching.silence("nightly", clock.now + 10)
    assert watching.silence("nightly", None).silenced is None


def test_each_delivery_is_taken_by_one(service: Service, watching: Watching, clock: Clock) -> None:
    monitor = make(watching)
    watching.advance(monitor, {}, [EVENT, Event("mended", "It runs again.", "mended")])
    others = [Watching(service.database, clock) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        taken = [each for found in pool.map(Watching.take, others) for each in found]
    assert sorted(each.alert.kind for each in taken) == ["mended", "verdict"]
    assert {each.attempts for each in taken} == {1}
    assert watching.take() == []


def test_an_attempt_that_nobody_tells_of_is_made_again(watching: Watching, clock: Clock) -> None:
    """Its server was killed between sending and writing that down."""
    watching.advance(make(watching), {}, [EVENT])
    (first,) = watching.take()
    clock.now += ATTEMPT_SECONDS - 1
    assert watching.take() == []
    clock.now += 1
    (again,) = watching.take()
    assert (again.number, again.attempts) == (first.number, 2)
    watching.sent(first, "500", taken=False)  # it was not dead, only slow
    assert watching.deliveries()[0].log == ()
    watching.sent(again, "200 OK", taken=True)
    (done,) = watching.deliveries()
    assert (done.state, done.log) == ("delivered", ((clock.now, "200 OK"),))


def test_what_fails_is_tried_later_and_later_and_then_given_up(
    watching: Watching, clock: Clock
) -> None:
    watching.advance(make(watching), {}, [EVENT])
    pauses = []
    for _ in range(MOST_ATTEMPTS):
        (taken,) = watching.take()
        watching.sent(taken, "it answered 500.", taken=False)
        (waits,) = watching.deliveries()
        pauses.append(waits.due - clock.now)
        clock.now = waits.due - 1
        assert watching.take() == []
        clock.now += 1
    assert watching.take() == []
    (failed,) = watching.deliveries()
    assert (failed.state, len(failed.log)) == ("failed", MOST_ATTEMPTS)
    assert 15 <= pauses[0] <= 45
    assert 4 * 3600 < sum(pauses[:-1]) < 12 * 3600


def test_receivers(watching: Watching) -> None:
    assert len(watching.receiver("hook").secret) >= 40
    with pytest.raises(ConflictError):
        watching.add_receiver("hook", "slack", "https://example.org/")
    delivery = watching.test("hook")
    assert (delivery.alert.kind, delivery.state) == ("test", "waiting")
    make(watching)
    with pytest.raises(ConflictError, match="nightly"):
        watching.remove_receiver("hook")
    watching.remove("nightly")
    watching.remove_receiver("hook")
    assert watching.receivers() == []
    assert watching.deliveries()[0].state == "failed"
    for act in (watching.receiver, watching.remove_receiver, watching.test):
        with pytest.raises(NotFoundError, match="hook"):
            act("hook")


def test_lists_have_parts(watching: Watching) -> None:
    make(watching)
    for _ in range(3):
        watching.advance(watching.monitor("nightly"), {}, [EVENT])
    numbers = [alert.number for alert in watching.alerts(monitor="nightly")]
    assert numbers == sorted(numbers, reverse=True)
    assert [a.number for a in watching.alerts(before=numbers[0], limit=1)] == [numbers[1]]
    assert watching.alerts(monitor="other") == []
    assert len(watching.deliveries(alert=numbers[0])) == 1
    assert len(watching.deliveries(state="waiting", limit=2)) == 2
    assert watching.deliveries(state="failed") == []
