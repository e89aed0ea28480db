"""What follows from two results, and how it is written."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from typing import Any

import pytest

from quantlab.runs.change_points import ChangePoint
from quantlab.runs.trend import Point, Series
from quantlab.serve.alerts import (
    FORMS,
    LONGEST_PAUSE,
    Alert,
    Result,
    Shift,
    body_of,
    events_of,
    mail_of,
    pause,
    shifts_of,
    signature,
    standing,
)


def result(verdict: str = "pass", problem: str = "", **shifts: tuple[Shift, ...]) -> Result:
    return Result(time=1.0, job="j", run="r", verdict=verdict, problem=problem, shifts=shifts)


def shift(run: str, rises: bool = False) -> Shift:
    return Shift(run=run, rises=rises, words=f"changed at {run}")


PASS, FAIL, STUCK = result(), result("fail"), result("", "no dataset called val.")


@pytest.mark.parametrize(
    ("last", "new", "kinds"),
    [
        (None, PASS, []),
        (None, FAIL, ["verdict"]),
        (None, result(""), []),  # of evaluate, which judges nothing
        (None, STUCK, ["cannot run"]),
        (PASS, PASS, []),
        (PASS, FAIL, ["verdict"]),
        (FAIL, FAIL, []),
        (FAIL, PASS, ["verdict"]),
        (FAIL, result("inconclusive"), ["verdict"]),
        (PASS, STUCK, ["cannot run"]),
        (standing(PASS, STUCK), STUCK, []),
        (standing(PASS, STUCK), result("", "another problem."), []),
        (standing(PASS, STUCK), PASS, ["mended"]),
        (standing(PASS, STUCK), FAIL, ["mended", "verdict"]),
        (standing(FAIL, STUCK), FAIL, ["mended"]),
        (STUCK, FAIL, ["mended", "verdict"]),
    ],
)
def test_what_is_told(last: Result | None, new: Result, kinds: list[str]) -> None:
    assert [event.kind for event in events_of(last, new)] == kinds


def test_a_verdict_says_what_it_was() -> None:
    (event,) = events_of(PASS, FAIL)
    assert (event.was, event.now) == ("pass", "fail")
    assert event.words == "The verdict is fail, it was pass."


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ((), ("b",), ["b"]),
        (("b",), ("b",), []),
        (("b",), ("c",), []),  # it moved
        (("b",), ("c", "d"), ["d"]),
        (("b", "c"), ("c",), []),
        (("b",), ("+c",), ["c"]),  # in the other direction: another one
    ],
)
def test_a_change_of_level_is_told_once(
    before: tuple[str, ...], now: tuple[str, ...], told: list[str]
) -> None:
    old, new = (
        result(top1=tuple(shift(run.strip("+"), "+" in run) for run in runs))
        for runs in (before, now)
    )
    events = list(events_of(old, new))
    assert [event.words for event in events] == [f"changed at {run}" for run in told]
    assert len({event.key for event in events}) == len(events)


def test_of_a_series_that_is_new_nothing_is_told() -> None:
    """Its changes were there before the monitor looked."""
    assert not list(events_of(PASS, result(top1=(shift("b"),))))
    assert not list(events_of(None, result(top1=(shift("b"),))))


def test_what_was_known_stays_while_nothing_runs() -> None:
    known = result("fail", top1=(shift("b"),))
    kept = standing(known, STUCK)
    assert (kept.verdict, kept.shifts, kept.problem) == ("fail", known.shifts, STUCK.problem)
    assert not list(events_of(kept, kept))


def test_shifts_are_those_of_the_run_s_own_series() -> None:
    points = tuple(
        Point(f"20260101T0000{i:02}Z-evaluate-ab{i}", "", "", "", 0.8 - 0.1 * (i > 1), None)
        for i in range(4)
    )
    change = ChangePoint(2, 0.8, 0.7, 0.01)
    series = [Series("top1", c, points[:n], (change,)) for c, n in (("x", 4), ("y", 3))]
    found = shifts_of(series, points[3].folder)
    assert list(found) == ["top1, x"]
    ((told,),) = found.values()
    assert (told.run, told.rises) == (points[2].folder, False)
    assert "80" in told.words
    assert "70" in told.words


ALERT = Alert(
    number=7, kind="verdict", monitor="nightly", words="The verdict is <fail> & so on.", was="pass",
    now="fail", links={"report": "https://q.example.org/runs/r"}, silenced=False, time=60.0,
)  # fmt: skip


def written(form: Any) -> dict[str, Any]:
    return dict(json.loads(body_of(ALERT, form, 120.0)))


def test_a_webhook_says_all_and_when_it_was_sent() -> None:
    found = written("webhook")
    assert (found["id"], found["kind"], found["monitor"]) == (7, "verdict", "nightly")
    assert (found["was"], found["now"], found["links"]) == ("pass", "fail", ALERT.links)
    assert found["sent"] == "1970-01-01T00:02:00.000+00:00"
    assert found["time"] == "1970-01-01T00:01:00.000+00:00"
    assert "secret" not in str(found)


def test_a_signature_is_the_hmac_of_the_body() -> None:
    body = body_of(ALERT, "webhook", 120.0)
    expected = hmac.digest(b"key", body, hashlib.sha256).hex()
    assert signature("key", body) == f"sha256={expected}"
    assert signature("key", body_of(ALERT, "webhook", 121.0)) != signature("key", body)


def test_slack_s_and_teams_forms() -> None:
    slack = written("slack")
    assert "&lt;fail&gt; &amp; so on" in slack["text"]
    assert slack["blocks"][1]["text"]["text"] == "<https://q.example.org/runs/r|report>"
    (card,) = written("teams")["attachments"]
    assert card["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert card["content"]["type"] == "AdaptiveCard"
    assert card["content"]["body"][1]["text"] == ALERT.words
    assert card["content"]["actions"][0]["url"] == "https://q.example.org/runs/r"


def test_a_mail_is_the_same_when_it_is_sent_again() -> None:
    first, again = (mail_of(ALERT, "q@example.org", "me@example.org", t) for t in (1.0, 2.0))
    assert first["Message-ID"] == again["Message-ID"] == "<alert-7@example.org>"
    assert first["Subject"] == "quantlab: nightly: verdict"
    assert "https://q.example.org/runs/r" in first.get_content()
    assert set(FORMS) == {"webhook", "slack", "teams", "mail"}


def test_pauses_double_up_to_an_hour_and_differ() -> None:
    chance = random.Random(0)
    for attempts, usual in ((1, 30), (2, 60), (5, 480), (30, LONGEST_PAUSE), (999, LONGEST_PAUSE)):
        found = [pause(attempts, chance) for _ in range(200)]
        assert all(0.5 * usual <= each <= 1.5 * usual for each in found)
        assert len(set(found)) > 100
