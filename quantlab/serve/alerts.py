"""Alerts: what follows from a monitor's last and new result, and how it is written. Pure."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict

from quantlab.errors import shown
from quantlab.report.history import change_words
from quantlab.runs.metrics import METRICS
from quantlab.runs.trend import Series

Kind = Literal["verdict", "change point", "cannot run", "mended", "test"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Form = Literal["webhook", "slack", "teams", "mail"]
FORMS: tuple[Form, ...] = get_args(Form)
SIGNATURE = "X-Quantlab-Signature"
LONGEST_WORDS = 1000
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 3600.0
"""Seconds after the first failure of a delivery, and at most after a later one."""
MOST_ATTEMPTS = 14
"""Of one delivery, over about eight hours."""


class Shift(BaseModel):
    """A change of a figure's level: the first run after it, and in words."""

    model_config = ConfigDict(frozen=True)

    run: str
    rises: bool
    words: str


class Result(BaseModel):
    """What a monitor's job has shown. ``problem`` is why it could not run; verdict and ``shifts``
    (by metric and conditions) are then those of the last that could. ``time`` is in seconds since
    1970."""

    model_config = ConfigDict(frozen=True)

    time: float
    job: str | None = None
    run: str | None = None
    verdict: str = ""
    problem: str = ""
    shifts: dict[str, tuple[Shift, ...]] = {}


@dataclass(frozen=True)
class Event:
    """Something to tell; ``words`` are one sentence, ``key`` distinguishes it from all others of
    its monitor's job."""

    kind: Kind
    words: str
    key: str
    was: str = ""
    now: str = ""


def standing(last: Result | None, new: Result) -> Result:
    """The new result, with what the last one knew where the new one could not run."""
    if not new.problem or last is None:
        return new
    return new.model_copy(update={"verdict": last.verdict, "shifts": last.shifts})


def events_of(last: Result | None, new: Result) -> Iterator[Event]:
    """What is new since the last result. A first verdict is news unless it passes; changes of
    level are news in series that the last result had."""
    stuck = last is not None and bool(last.problem)
    if new.problem:
        if not stuck:
            yield Event("cannot run", f"It cannot run: {new.problem}", "cannot run")
        return
    if stuck:
        yield Event("mended", "It runs again.", "mended")
    was = last.verdict if last is not None else ""
    if new.verdict and new.verdict != (was or "pass"):
        words = f"The verdict is {new.verdict}" + (f", it was {was}." if was else ".")
        yield Event("verdict", words, "verdict", was, new.verdict)
    for series, shifts in new.shifts.items():
        for shift in _appeared(last.shifts.get(series) if last is not None else None, shifts):
            digest = hashlib.sha256(series.encode()).hexdigest()[:16]
            yield Event("change point", shift.words, f"change point {digest} {shift.run}")


def _appeared(before: Sequence[Shift] | None, shifts: Sequence[Shift]) -> list[Shift]:
    """The shifts that were not known. With every new figure a known one may move to a run nearby:
    one that is gone stands for one in the same direction that has come."""
    if before is None:
        return []
    runs, known = {shift.run for shift in shifts}, {shift.run for shift in before}
    gone = [shift.rises for shift in before if shift.run not in runs]
    news = []
    for shift in shifts:
        if shift.run in known:
            continue
        if shift.rises in gone:
            gone.remove(shift.rises)
        else:
            news.append(shift)
    return news


def shifts_of(series: Sequence[Series], run: str) -> dict[str, tuple[Shift, ...]]:
    """The changes of level in the series that hold a run, by series."""
    return {
        f"{each.metric}, {each.conditions}": tuple(
            Shift(
                run=each.points[change.index].folder,
                rises=change.after > change.before,
                words=f"{METRICS[each.metric].title}: {change_words(each, change, {})}",
            )
            for change in each.changes
        )
        for each in series
        if any(point.folder == run for point in each.points)
    }


@dataclass(frozen=True)
class Alert:
    """An event as it was kept. ``links`` are addresses by what is there; ``silenced``: it was kept
    and not sent."""

    number: int
    kind: Kind
    monitor: str
    words: str
    was: str
    now: str
    links: dict[str, str]
    silenced: bool
    time: float

    @property
    def title(self) -> str:
        """Its headline."""
        return f"quantlab: {self.monitor}: {self.kind}" if self.monitor else "quantlab: a test"


def pause(attempts: int, chance: random.Random | None = None) -> float:
    """Seconds until the next attempt after so many: twice as long each time, by chance up to half
    as much more or less, so that many do not come at once."""
    usual = min(FIRST_PAUSE * 2.0 ** min(attempts - 1, 30), LONGEST_PAUSE)
    return usual * (chance or random.Random()).uniform(0.5, 1.5)


def body_of(alert: Alert, form: Form, sent: float) -> bytes:
    """The JSON that a receiver of this form gets; ``sent`` is when."""
    made = {"webhook": _webhook, "slack": _slack, "teams": _teams}[form](alert, sent)
    return json.dumps(made).encode()


def signature(secret: str, body: bytes) -> str:
    """The value of the header SIGNATURE: the HMAC of the body as it is sent."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def mail_of(alert: Alert, sender: str, receiver: str, sent: float) -> EmailMessage:
    """The message that says it. An alert that is sent again has the same Message-ID."""
    message = EmailMessage()
    message["Subject"] = alert.title
    message["From"], message["To"] = sender, receiver
    message["Date"] = datetime.fromtimestamp(sent, UTC)
    message["Message-ID"] = f"<alert-{alert.number}@{sender.rpartition('@')[2]}>"
    lines = [alert.words, "", *(f"{name}: {link}" for name, link in alert.links.items())]
    message.set_content("\n".join(lines) + "\n")
    return message


def _webhook(alert: Alert, sent: float) -> dict[str, Any]:
    return {
        "id": alert.number,
        "sent": _iso(sent),
        "kind": alert.kind,
        "monitor": alert.monitor,
        "words": alert.words,
        "was": alert.was,
        "now": alert.now,
        "time": _iso(alert.time),
        "links": alert.links,
    }


def _slack(alert: Alert, _: float) -> dict[str, Any]:
    title, words = _slack_text(alert.title), _slack_text(alert.words)
    links = " · ".join(f"<{link}|{name}>" for name, link in alert.links.items())
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": f"*{title}*\n{words}"}}]
    if links:
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": links}})
    return {"text": f"{title}: {words}", "blocks": blocks}


def _slack_text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _teams(alert: Alert, _: float) -> dict[str, Any]:
    """An Adaptive Card, which Teams' workflows take."""
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [
            {"type": "TextBlock", "text": alert.title, "weight": "Bolder", "wrap": True},
            {"type": "TextBlock", "text": alert.words, "wrap": True},
        ],
        "actions": [
            {"type": "Action.OpenUrl", "title": name, "url": link}
            for name, link in alert.links.items()
        ],
    }
    kind = "application/vnd.microsoft.card.adaptive"
    return {"type": "message", "attachments": [{"contentType": kind, "content": card}]}


def _iso(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def short_words(text: str) -> str:
    """A job's error as a part of a sentence."""
    return shown(" ".join(text.split()), LONGEST_WORDS)
