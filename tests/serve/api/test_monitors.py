from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from clients import clients_of
from holdings import add_dataset, add_model
from starlette.testclient import TestClient

from quantlab.serve.alerts import Event
from quantlab.serve.audit_log import AuditLog
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.watching import Watching

MONITORS, ALERTS = "/api/v1/monitors", "/api/v1/alerts"
RECEIVERS = f"{ALERTS}/receivers"
REQUEST = {"verb": "evaluate", "model": "net", "data": "val"}
MONITOR = {"name": "nightly", "request": REQUEST, "schedule": "0 3 * * *", "receivers": ["hook"]}
LINKS = {"job": "https://q.example.org/jobs/a"}
HOOK = {"name": "hook", "form": "webhook", "address": "https://hooks.example.org/a?key=hidden"}


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Service]:
    """A service that may send alerts to a host."""
    hosts = ("hooks.example.org", "example.org")
    mail = {"alert_smtp": "smtp://127.0.0.1:1", "alert_from": "q@example.org"}
    with Service.open(Settings(home=tmp_path / "home", alert_hosts=hosts, **mail)) as service:
        add_model(service)
        add_dataset(service)
        yield service


@pytest.fixture
def callers(watched: Service) -> tuple[TestClient, TestClient, TestClient]:
    """Of the scopes read, submit and admin; there is a receiver."""
    reader, submitter, admin = clients_of(watched, "read", "submit", "admin")
    assert admin.post(RECEIVERS, json=HOOK).status_code == 201
    return reader, submitter, admin


def test_a_monitor_s_life(callers: Any) -> None:
    reader, submitter, _ = callers
    made = submitter.post(MONITORS, json=MONITOR)
    assert made.status_code == 201
    view, place = made.json(), made.headers["location"]
    assert place == view["links"]["self"] == f"{MONITORS}/nightly"
    assert (view["request"], view["receivers"]) == (REQUEST, ["hook"])
    assert (view["on_version"], view["on_environment"], view["enabled"]) == (True, False, True)
    assert view["last"] is None
    next_time = datetime.fromisoformat(view["next"])
    assert (next_time.hour, next_time.minute) == (3, 0)
    assert reader.get(place).json() == view
    assert reader.get(MONITORS).json() == {"items": [view], "next": None}
    changed = submitter.patch(place, json={"schedule": None, "receivers": []}).json()
    assert (changed["schedule"], changed["next"], changed["receivers"]) == (None, None, [])
    assert changed["request"] == REQUEST
    assert submitter.patch(place, json={"enabled": False}).json()["enabled"] is False
    assert submitter.post(f"{place}/run").status_code == 202
    assert submitter.delete(place).status_code == 204
    assert reader.get(place).status_code == 404


def test_scopes_and_owners(callers: Any, watched: Service) -> None:
    reader, submitter, admin = callers
    assert reader.post(MONITORS, json=MONITOR).status_code == 403
    assert submitter.post(RECEIVERS, json={**HOOK, "name": "other"}).status_code == 403
    assert submitter.post(f"{RECEIVERS}/hook/test").status_code == 403
    assert submitter.delete(f"{RECEIVERS}/hook").status_code == 403
    assert admin.post(MONITORS, json=MONITOR).status_code == 201
    place = f"{MONITORS}/nightly"
    for client, status in ((reader, 403), (submitter, 403), (admin, 200)):
        found = [
            client.patch(place, json={"enabled": True}),
            client.post(f"{place}/silence", json={"until": None}),
        ]
        assert [answer.status_code for answer in found] == [status] * 2
    assert submitter.post(f"{place}/run").status_code == 403
    assert submitter.delete(place).status_code == 403
    actions = [line.action for line in AuditLog(watched.database).lines()]
    assert {"POST create_monitor", "PATCH change_monitor", "POST create_receiver"} <= {*actions}
    assert not [line for line in AuditLog(watched.database).lines() if "hidden" in str(line)]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"request": {**REQUEST, "model": "nobody"}}, 404),
        ({"request": {**REQUEST, "data": "nobody"}}, 404),
        ({"request": {**REQUEST, "verb": "tune"}}, 422),
        ({"request": {**REQUEST, "data": "/etc"}}, 422),
        ({"receivers": ["nobody"]}, 404),
        ({"schedule": "soon"}, 422),
        ({"schedule": "* * * * * *"}, 422),
        ({"schedule": "0 0 31 2 *"}, 422),
        ({"name": "../a"}, 422),
        ({"token": "other"}, 422),
    ],
    ids=str,
)
def test_what_is_no_monitor(callers: Any, changed: dict[str, Any], status: int) -> None:
    _, submitter, _ = callers
    assert submitter.post(MONITORS, json={**MONITOR, **changed}).status_code == status
    assert submitter.get(MONITORS).json()["items"] == []
    submitter.post(MONITORS, json=MONITOR)
    if "name" not in changed:
        assert submitter.patch(f"{MONITORS}/nightly", json=changed).status_code == status
    assert submitter.post(MONITORS, json=MONITOR).status_code == 409


def test_silence(callers: Any) -> None:
    _, submitter, _ = callers
    submitter.post(MONITORS, json=MONITOR)
    place, now = f"{MONITORS}/nightly/silence", datetime.now(UTC)
    until = (now + timedelta(days=1)).isoformat(timespec="milliseconds")
    assert submitter.post(place, json={"until": until}).json()["silenced"] == until
    for over in ("0001-01-01T00:00:00+14:00", now.isoformat(), None):
        assert submitter.post(place, json={"until": over}).json()["silenced"] is None
    for wrong in ("9999-12-31T00:00:00-14:00", "2027-01-01T00:00:00", "soon"):
        assert submitter.post(place, json={"until": wrong}).status_code == 422


def test_a_receiver_s_secret_is_shown_once(callers: Any, watched: Service) -> None:
    _, _, admin = callers
    again = admin.post(RECEIVERS, json={**HOOK, "name": "again"}).json()
    secret = Watching(watched.database).receiver("again").secret
    assert again["secret"] == secret
    assert again["host"] == "hooks.example.org"
    later = admin.get(RECEIVERS).text + admin.get(f"{ALERTS}/deliveries").text
    assert "hidden" not in later
    assert secret not in later
    slack = admin.post(RECEIVERS, json={**HOOK, "name": "slack", "form": "slack"}).json()
    assert slack["secret"] is None
    mail = {"name": "me", "form": "mail", "address": "me@example.org"}
    assert admin.post(RECEIVERS, json=mail).json()["host"] == "me@example.org"


@pytest.mark.parametrize(
    ("form", "address"),
    [
        ("webhook", "https://elsewhere.example.org/"),
        ("webhook", "http://hooks.example.org/"),
        ("slack", "https://127.0.0.1/"),
        ("teams", "file:///etc/passwd"),
        ("mail", "me@elsewhere.example.org"),
        ("mail", "me@example.org\r\nBcc: you@example.org"),
        ("pager", "https://hooks.example.org/"),
    ],
)
def test_where_alerts_may_not_go(callers: Any, form: str, address: str) -> None:
    _, _, admin = callers
    answer = admin.post(RECEIVERS, json={"name": "new", "form": form, "address": address})
    assert answer.status_code == 422
    assert [each["name"] for each in admin.get(RECEIVERS).json()["items"]] == ["hook"]


def test_receivers_in_use_stay(callers: Any) -> None:
    _, submitter, admin = callers
    submitter.post(MONITORS, json=MONITOR)
    assert admin.post(RECEIVERS, json=HOOK).status_code == 409
    assert admin.delete(f"{RECEIVERS}/hook").status_code == 409
    submitter.delete(f"{MONITORS}/nightly")
    assert admin.delete(f"{RECEIVERS}/hook").status_code == 204
    assert admin.delete(f"{RECEIVERS}/hook").status_code == 404


def test_alerts_and_deliveries(callers: Any, watched: Service) -> None:
    reader, submitter, admin = callers
    submitter.post(MONITORS, json=MONITOR)
    watching = Watching(watched.database)
    event = Event("verdict", "The verdict is fail.", "verdict", "pass", "fail")
    for _ in range(3):
        watching.advance(watching.monitor("nightly"), {}, [event], LINKS)
    test = admin.post(f"{RECEIVERS}/hook/test")
    assert test.status_code == 202
    assert test.json()["state"] == "waiting"
    first = reader.get(f"{ALERTS}?monitor=nightly&limit=2").json()
    assert len(first["items"]) == 2
    (last,) = reader.get(first["next"]).json()["items"]
    assert (last["was"], last["now"], last["links"]) == ("pass", "fail", LINKS)
    assert len(reader.get(ALERTS).json()["items"]) == 4
    taken = watching.take()[0]
    watching.sent(taken, "it answered 500.", taken=False)
    (delivery,) = reader.get(f"{ALERTS}/deliveries?alert={taken.alert.number}").json()["items"]
    assert (delivery["attempts"], delivery["log"][0]["outcome"]) == (1, "it answered 500.")
    assert delivery["next"] is not None
    assert reader.get(f"{ALERTS}/deliveries?state=failed").json()["items"] == []
