"""The pages as a reader without JavaScript has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from clients import client_of
from holdings import add_dataset, add_model, ask
from reading import Read
from seeds import ENDED, LONG, furnish
from starlette.testclient import TestClient

from quantlab.runs.record import load_record
from quantlab.serve.alerts import Event, Result
from quantlab.serve.app import create_app
from quantlab.serve.db import UnavailableError
from quantlab.serve.queue import Queue
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Tokens
from quantlab.serve.watching import Watching
from quantlab.serve.web import assets

HOSTILE = "</title></style><script>alert(1)</script><img src=x onerror='alert(2)'>\"&lt;{{ 7*7 }}"


def read(client: TestClient, address: str, status: int = 200) -> Read:
    """The page, whatever is wrong with it said."""
    answer = client.get(address)
    assert answer.status_code == status, answer.text[:2000]
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    found = Read(answer.text)
    sources = [x["src"] or "" for x in found.of("script")]
    assert sources
    assert all(source.startswith("/static/") for source in sources)
    for _, attributes in found.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert not found.of("style")
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    return found


def addresses(service: Service, run: str) -> list[str]:
    """Of every page that there is."""
    jobs = [f"/jobs/{job.id}" for job in service.queue.recent(limit=5)]
    runs = [job.run for job in service.queue.recent(states=["done"])]
    return [
        "/runs", f"/runs/{run}", f"/runs/{runs[2]}", "/compare",
        f"/compare?old={runs[5]}&new={runs[2]}", "/trends", "/trends/tiny-int8", "/jobs", *jobs,
        "/models", "/datasets", "/submit", *(f"/submit/{verb}" for verb in ("tune", "gate")),
        "/sign-in",
    ]  # fmt: skip


def test_every_page_reads_without_javascript(
    sqlite_service: Service, anyone: TestClient, tune_run: str
) -> None:
    for address in addresses(sqlite_service, tune_run):
        found = read(anyone, address)
        assert len(found.of("h1")) == len(found.of("main")) == 1, address
        assert found.title.endswith("· quantlab"), address
        assert all(x.get("scope") for x in found.of("th")), address
        assert len(found.of("caption")) == len(found.of("table")), address
        assert "secret-place" not in str(found.elements) + found.text, address


def test_every_link_leads_somewhere(
    sqlite_service: Service, anyone: TestClient, tune_run: str
) -> None:
    links = set[str]()
    for address in addresses(sqlite_service, tune_run):
        links |= {x["href"] or "" for x in read(anyone, address).of("a")}
        links |= {x["src"] or "" for x in read(anyone, address).of("img")}
    links -= {link for link in links if link.startswith("#")}
    assert len(links) > 40
    for link in links:
        assert link.startswith("/")
        assert anyone.get(link).status_code == 200, link


def test_an_empty_server_says_what_to_do_first(anyone: TestClient, sqlite_service: Service) -> None:
    first = read(anyone, "/runs").text
    assert "quantlab dataset add NAME FOLDER" in first
    for address in (
        "/trends",
        "/monitors",
        "/jobs",
        "/models",
        "/datasets",
        "/compare",
        "/submit/tune",
    ):
        read(anyone, address)
    add_dataset(sqlite_service)
    add_model(sqlite_service)
    second = read(anyone, "/runs").text
    assert "quantlab dataset add" not in second
    assert second.count("Done: see") == 2


def test_runs_are_found_by_verb_and_model(anyone: TestClient, tune_run: str) -> None:
    found = read(anyone, "/runs?verb=tune")
    assert [x["href"] for x in found.of("a") if (x["href"] or "").startswith("/runs/")] == [
        f"/runs/{tune_run}"
    ]
    assert len(read(anyone, "/runs?model=TINY").of("input", type="checkbox")) == 10
    assert "No runs" in read(anyone, "/runs?model=nothing").text


def test_long_lists_have_parts(
    sqlite_service: Service, anyone: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(sqlite_service)
    for name in ("runs", "jobs"):
        monkeypatch.setattr(f"quantlab.serve.web.routes.{name}.ROWS", 4)
        seen = list[str]()
        address: str | None = f"/{name}"
        while address is not None:
            found = read(anyone, address)
            rows = [x["href"] or "" for x in found.of("a")]
            seen += [x for x in rows if re.fullmatch(rf"/{name}/[^/]+", x)]
            address = next((x["href"] for x in found.of("a", rel="next")), None)
        assert len(seen) == len(set(seen)) == {"runs": 10, "jobs": 14}[name]


def test_a_run(anyone: TestClient, tune_run: str) -> None:
    found = read(anyone, f"/runs/{tune_run}")
    assert "INCONCLUSIVE" in found.text
    assert "95% interval" in found.text
    points = [x["aria-label"] or "" for x in found.of("a") if "aria-label" in x]
    assert [text for text in points if "kept by the tune" in text] == [
        "Trial 2: qdq-mean, decline 0.60%, KL on evaluation images 0.0200, speed 2.05x, 3.84 MB, "
        "on the front, kept by the tune"
    ]
    for words in (ENDED, "KL, calibration", "0.5000", "KL, evaluation", "MACs in int8", "99.5%"):
        assert words in found.text
    rows = {x["id"] for x in found.of("tr") if "id" in x}
    assert {(x["href"] or "")[1:] for x in found.of("a") if (x["href"] or "")[:2] == "#t"} <= rows
    assert "failed: out of memory" in found.text
    report = next(x["href"] for x in found.of("a", **{"class": "button"}))
    assert "The report" in anyone.get(report or "").text


def test_a_trial_is_picked_once(sqlite_service: Service, anyone: TestClient, tune_run: str) -> None:
    found = read(anyone, f"/runs/{tune_run}")
    (place,) = {x["action"] for x in found.of("form") if (x["action"] or "").endswith("/pick")}
    trials = [x["value"] or "" for x in found.of("input", name="trial")]
    assert len(trials) == 4
    answer = anyone.post(place or "", data={"trial": trials[0]}, follow_redirects=False)
    assert answer.headers["location"] == f"/runs/{tune_run}#t-{trials[0]}"
    again = read(anyone, f"/runs/{tune_run}")
    assert len(again.of("input", name="trial")) == 3
    (model,) = [m for m in sqlite_service.catalog.models() if "qdq-plain" in m.name]
    assert model.facts["input_shape"]
    assert f"/api/v1/models/{model.sha256}/file" in [x["href"] for x in again.of("a")]
    (compare,) = [x["href"] for x in again.of("a") if "Compare trial" in str(x.get("aria-label"))]
    form = read(anyone, compare or "")
    chosen = {x["value"] for x in form.of("option") if "selected" in x}
    assert chosen == {model.sha256, sqlite_service.catalog.model("net").sha256}
    assert model.sha256 not in form.text
    answer = anyone.post(place or "", data={"trial": "0" * 12})
    assert answer.status_code == 404


def test_two_runs_are_compared_whatever_their_order(
    sqlite_service: Service, anyone: TestClient, tune_run: str
) -> None:
    new, old = [job.run for job in sqlite_service.queue.recent(verb="compare")][:2]
    ticked = read(anyone, f"/compare?run={new}&run={old}")
    named = read(anyone, f"/compare?old={old}&new={new}")
    assert ticked.text == named.text
    assert "The same first answer on" in named.text
    assert "Tick two runs, not 1." in read(anyone, f"/compare?run={new}", 422).text
    read(anyone, f"/compare?old={old}&new=nothing", 404)


def test_a_trend_says_its_change_in_words(anyone: TestClient, tune_run: str) -> None:
    found = read(anyone, "/trends/tiny-int8?metric=agreement")
    assert re.search(r"Changed at \w{6}: mean 9\d\.\d\d% → \d\d\.\d\d%", found.text)
    assert found.text.count("changed") >= 1
    (picture,) = found.of("img")
    assert "1 change of level" in (picture["alt"] or "")
    answer = anyone.get(picture["src"] or "")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.text.startswith("<svg")
    assert "script" not in answer.headers["content-security-policy"]
    read(anyone, "/trends/nothing", 404)


def test_a_job_by_a_plain_form(sqlite_service: Service, anyone: TestClient, tune_run: str) -> None:
    found = read(anyone, "/submit/evaluate?model=net")
    sent = {x["name"]: x.get("value") or "" for x in found.of("input") if x.get("type") == "hidden"}
    answer = anyone.post(
        "/submit/evaluate", data={**sent, "model": "net", "data": "val"}, follow_redirects=False
    )
    assert answer.status_code == 303
    again = anyone.post(
        "/submit/evaluate", data={**sent, "model": "net", "data": "val"}, follow_redirects=False
    )
    assert again.headers["location"] == answer.headers["location"]
    job = sqlite_service.queue.get(answer.headers["location"].rpartition("/")[2])
    assert job.request == {"verb": "evaluate", "model": "net", "data": "val"}
    page = read(anyone, f"/jobs/{job.id}")
    assert "QUEUED" in page.text
    assert "evaluate --data=val net" in page.text
    assert [x["http-equiv"] for x in page.of("meta") if "http-equiv" in x] == ["refresh"]


def test_a_wrong_form_comes_back_as_it_was(
    sqlite_service: Service, anyone: TestClient, tune_run: str
) -> None:
    before = len(sqlite_service.queue.recent())
    sent = {"model": "net", "seed": "-1", "criterion": HOSTILE, "key": "k"}
    answer = anyone.post("/submit/tune", data=sent)
    assert answer.status_code == 422
    found = Read(answer.text)
    assert len(sqlite_service.queue.recent()) == before
    wrong = [x["id"] for name, x in found.elements if x.get("aria-invalid") == "true"]
    assert wrong == ["data", "criterion", "seed"]
    ids = {x["id"] for _, x in found.elements if "id" in x}
    for _, attributes in found.elements:
        assert set((attributes.get("aria-describedby") or "").split()) <= ids
    assert [x["value"] for x in found.of("input", name="criterion")] == [HOSTILE]
    assert [x["value"] for x in found.of("input", name="key")] == ["k"]
    assert "open" in found.of("details")[0]
    gone = anyone.post("/submit/evaluate", data={"model": "gone", "data": "val", "key": "k"})
    assert gone.status_code == 422
    assert "the service has no model called gone." in Read(gone.text).text
    assert anyone.get("/submit/rm").status_code == 404


def test_a_job_is_cancelled(sqlite_service: Service, anyone: TestClient, tune_run: str) -> None:
    running, waiting = (
        sqlite_service.queue.recent(states=[state])[0] for state in ("running", "queued")
    )
    assert "Cancel this job" in read(anyone, f"/jobs/{running.id}").text
    anyone.post(f"/jobs/{running.id}/cancel")
    anyone.post(f"/jobs/{waiting.id}/cancel")
    assert "STOPPING" in read(anyone, f"/jobs/{running.id}").text
    ended = read(anyone, f"/jobs/{waiting.id}")
    assert "CANCELLED" in ended.text
    assert "Cancel this job" not in ended.text
    assert not ended.of("div", **{"hx-trigger": "every 1500ms"})


def test_of_a_long_story_the_end_is_told(
    sqlite_service: Service, anyone: TestClient, tune_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = sqlite_service.queue.recent(states=["running"])
    assert "left out" not in read(anyone, f"/jobs/{job.id}").text
    monkeypatch.setattr("quantlab.serve.web.routes.jobs.LINES_SHOWN", 2)
    sqlite_service.queue.tell(job, [("say", f"line {i}") for i in range(4)], None)
    text = read(anyone, f"/jobs/{job.id}").text
    assert "Earlier lines are left out. line 2 line 3" in text


def test_nothing_from_elsewhere_becomes_markup(
    sqlite_service: Service, anyone: TestClient, tune_run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names are checked where they come in; records, messages and outputs may hold anything."""
    runs = sqlite_service.settings.home / "store" / "jobs"
    for path in runs.glob("*/1/runs/*/run.json"):
        record = load_record(path)
        record.command = record.error = HOSTILE
        record.warnings = [HOSTILE]
        record.environment = {HOSTILE: HOSTILE}
        record.spec["note"] = HOSTILE
        path.write_text(record.model_dump_json())
    get, recent = Queue.get, Queue.recent

    def poisoned(job: Any) -> Any:
        inputs = {"models": [{"sha256": "0", "name": HOSTILE}], "data": {"data": {"name": HOSTILE}}}
        return replace(
            job, out=HOSTILE, error=HOSTILE, inputs=inputs, files={**job.files, HOSTILE: 1},
            progress={"label": HOSTILE, "note": HOSTILE, "done": 1, "total": 2},
        )  # fmt: skip

    monkeypatch.setattr(Queue, "get", lambda *a: poisoned(get(*a)))
    monkeypatch.setattr(Queue, "recent", lambda *a, **k: [poisoned(j) for j in recent(*a, **k)])
    for address in ("/jobs", f"/jobs/{recent(sqlite_service.queue)[0].id}", f"/runs/{tune_run}"):
        found = read(anyone, address)
        assert found.text.count("<script>alert(1)</script>") >= 2, address
        assert all("alert" not in str(x) for x in found.of("script")), address
        assert len(found.of("img")) == 0, address
    found = read(anyone, f"/runs?model={LONG}&verb={HOSTILE[:50]}")
    assert not [x for x in found.of("script") if "src" not in x]


@pytest.fixture
def guarded(sqlite_service: Service) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A browser that is not signed in, and tokens by scope."""
    tokens = {
        scope: Tokens(sqlite_service.database).create(f"my-{scope}", scope)[1]
        for scope in ("read", "submit")
    }
    with client_of(create_app(sqlite_service)) as client:
        client.headers["Sec-Fetch-Site"] = "same-origin"
        yield client, tokens


def test_signing_in_and_out(guarded: tuple[TestClient, dict[str, str]]) -> None:
    client, tokens = guarded
    answer = client.get("/runs?verb=tune", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Fruns")
    wrong = client.post("/sign-in", data={"token": "quantlab_x", "next": "/jobs"})
    assert wrong.status_code == 403
    assert "not known" in Read(wrong.text).text
    sent = {"token": tokens["read"], "next": "/jobs"}
    answer = client.post("/sign-in", data=sent, follow_redirects=False)
    assert answer.headers["location"] == "/jobs"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    found = read(client, "/jobs")
    assert "my-read" in found.text
    assert "New job" not in found.text
    read(client, "/submit", 403)
    (csrf,) = {x["value"] for x in found.of("input", name="csrf_token")}
    assert client.post("/sign-out").status_code == 403
    out = client.post("/sign-out", data={"csrf_token": csrf}, follow_redirects=False)
    assert out.headers["location"] == "/sign-in"
    assert client.get("/jobs", follow_redirects=False).status_code == 303


def test_a_cookie_is_for_https_alone_there(sqlite_service: Service) -> None:
    token = Tokens(sqlite_service.database).create("me", "read", 60.0)[1]
    with client_of(create_app(sqlite_service), base_url="https://127.0.0.1") as client:
        answer = client.post("/sign-in", data={"token": token}, follow_redirects=False)
        assert "Secure" in answer.headers["set-cookie"]
        assert re.search(r"Max-Age=(5\d|60)\b", answer.headers["set-cookie"])


@pytest.mark.parametrize(
    "next_page", ["//evil.example", "https://evil.example", "/\\evil.example", "\t//x", "/a\nb"]
)
def test_nobody_is_sent_elsewhere(
    guarded: tuple[TestClient, dict[str, str]], next_page: str
) -> None:
    client, tokens = guarded
    sent = {"token": tokens["read"], "next": next_page}
    answer = client.post("/sign-in", data=sent, follow_redirects=False)
    assert answer.headers["location"] == "/"


def test_a_form_of_another_page_does_nothing(
    sqlite_service: Service, guarded: tuple[TestClient, dict[str, str]]
) -> None:
    client, tokens = guarded
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    client.post("/sign-in", data={"token": tokens["submit"]})
    sent = {"model": "net", "data": "val", "key": "k"}
    assert client.post("/submit/evaluate", data=sent).status_code == 403
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert client.post("/submit/evaluate", data=sent, headers=elsewhere).status_code == 403
    assert not sqlite_service.queue.recent()
    found = read(client, "/submit/evaluate")
    (csrf,) = {x["value"] or "" for x in found.of("input", name="csrf_token")}
    client.post("/submit/evaluate", data={**sent, "csrf_token": csrf})
    assert len(sqlite_service.queue.recent()) == 1


def test_the_job_of_another_token_is_let_alone(
    sqlite_service: Service, guarded: tuple[TestClient, dict[str, str]]
) -> None:
    client, tokens = guarded
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    job = ask(sqlite_service, token="somebody")
    client.post("/sign-in", data={"token": tokens["submit"]})
    found = read(client, f"/jobs/{job.id}")
    assert "Cancel this job" not in found.text
    (csrf,) = {x["value"] or "" for x in found.of("input", name="csrf_token")}
    answer = client.post(f"/jobs/{job.id}/cancel", data={"csrf_token": csrf})
    assert answer.status_code == 403
    assert sqlite_service.queue.get(job.id).state == "queued"


def test_problems_look_like_pages(anyone: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Not Found" in read(anyone, "/nowhere", 404).title
    assert "There is no job abc." in read(anyone, "/jobs/abc", 404).text
    assert "query.state" in read(anyone, "/jobs?state=odd", 422).text
    for address in ("/jobs/..%2f", "/jobs/zzz", "/runs/.git", "/trends/..."):
        assert "pattern" not in read(anyone, address, 404).text

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("the database sqlite:///secret does not answer.")

    monkeypatch.setattr(Queue, "recent", away)
    answer = anyone.get("/jobs")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert "secret" not in answer.text
    assert "The database does not answer." in Read(answer.text).text


def test_assets_are_kept_by_browsers_as_long_as_they_are_the_same(anyone: TestClient) -> None:
    address = assets.address("pages.css")
    answer = anyone.get(address)
    assert answer.headers["content-type"].startswith("text/css")
    assert "immutable" in answer.headers["cache-control"]
    tag = answer.headers["etag"]
    assert anyone.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert "no-cache" in anyone.get("/static/pages.css").headers["cache-control"]
    for name in ("report.html.j2", "../views.py", "%2e%2e/views.py", "vendor", "", "pages.css/"):
        assert anyone.get(f"/static/{name}").status_code == 404


def test_pages_do_without_htmx(anyone: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an editable install without a registry in reach leaves them."""
    from quantlab.serve.web import rendering

    monkeypatch.setitem(rendering._templates().globals, "htmx", False)
    sources = [x["src"] or "" for x in read(anyone, "/jobs").of("script")]
    assert not [source for source in sources if "htmx" in source]


@pytest.fixture
def alerting(tmp_path: Path) -> Iterator[Service]:
    """A furnished service that may send alerts to a host."""
    settings = Settings(home=tmp_path / "alerting", alert_hosts=("hooks.example.org",))
    with Service.open(settings) as service:
        furnish(service)
        yield service


def test_a_job_becomes_a_monitor(alerting: Service) -> None:
    (job, *_) = alerting.queue.recent(verb="compare", states=["done"])
    watching = Watching(alerting.database)
    with client_of(create_app(alerting)) as anyone:
        assert "No monitor watches" in read(anyone, "/monitors").text
        receiver = {"name": "hook", "form": "webhook", "address": "https://hooks.example.org/x"}
        made = anyone.post("/receivers", data=receiver)
        secret = watching.receiver("hook").secret
        assert secret in made.text
        assert secret not in read(anyone, "/monitors").text
        assert f"/jobs/{job.id}/watch" in [
            x["href"] for x in read(anyone, f"/jobs/{job.id}").of("a")
        ]
        form = read(anyone, f"/jobs/{job.id}/watch")
        assert [x["value"] for x in form.of("input", name="receiver")] == ["hook"]
        given = {"job": job.id, "name": "nightly", "schedule": "0 3 * * *", "receiver": "hook"}
        anyone.post("/monitors", data={**given, "on_version": "true"})
        (monitor,) = watching.monitors()
        assert monitor.request["fp32"] == "net", "the newest of its name"
        assert (monitor.on_version, monitor.on_environment) == (True, False)
        assert anyone.post("/monitors", data={**given, "name": "a b"}).status_code == 422
        assert anyone.post("/monitors", data={**given, "schedule": "soon"}).status_code == 422


def test_a_monitor_s_page_and_its_buttons(alerting: Service) -> None:
    watching = Watching(alerting.database)
    watching.add_receiver("hook", "webhook", "https://hooks.example.org/x")
    watched = {"verb": "evaluate", "model": "net", "data": "val"}
    watching.create(
        "nightly", "local", request=watched, schedule="0 3 * * *", on_version=True,
        on_environment=False, enabled=True, receivers=["hook"],
    )  # fmt: skip
    last = Result(time=1.0, problem=HOSTILE).model_dump(mode="json")
    event = Event("cannot run", f"It cannot run: {HOSTILE}", "cannot run")
    values = {"last": last, "asked": False}
    watching.advance(watching.monitor("nightly"), values, [event], {})
    with client_of(create_app(alerting)) as anyone:
        for address in ("/monitors", "/monitors/nightly"):
            found = read(anyone, address)
            assert "cannot run" in found.text.lower()
            assert "hook: waiting" in found.text
            assert not found.of("img")
            assert len(found.of("caption")) == len(found.of("table"))
        for act, data in (("run", {}), ("pause", {}), ("silence", {"days": "7"})):
            anyone.post(f"/monitors/nightly/{act}", data=data)
        monitor = watching.monitor("nightly")
        assert (monitor.asked, monitor.enabled) == (True, False)
        assert monitor.silenced is not None
        notes = read(anyone, "/monitors").text
        assert "paused" in notes
        assert "silenced until" in notes
        anyone.post("/monitors/nightly/resume")
        anyone.post("/monitors/nightly/silence")
        monitor = watching.monitor("nightly")
        assert (monitor.enabled, monitor.silenced) == (True, None)
        anyone.post("/receivers/hook/test")
        assert watching.alerts()[0].kind == "test"
        assert anyone.post("/monitors/nightly/other").status_code == 404
        anyone.post("/monitors/nightly/remove")
        anyone.post("/receivers/hook/remove")
        assert watching.monitors() == watching.receivers() == []


def test_who_may_press_a_monitor_s_buttons(
    guarded: tuple[TestClient, dict[str, str]], sqlite_service: Service
) -> None:
    client, tokens = guarded
    mine = Tokens(sqlite_service.database).verify(tokens["submit"])
    assert mine is not None
    for name, owner in (("theirs", "another"), ("mine", mine.id)):
        Watching(sqlite_service.database).create(
            name, owner, request={"verb": "evaluate", "model": "net", "data": "val"},
            schedule=None, on_version=True, on_environment=False, enabled=True, receivers=[],
        )  # fmt: skip
    for scope, name, may in (
        ("read", "mine", False),
        ("submit", "theirs", False),
        ("submit", "mine", True),
    ):
        client.cookies.clear()
        client.cookies.set("quantlab_token", tokens[scope])
        forms = [form["action"] for form in read(client, f"/monitors/{name}").of("form")]
        assert (f"/monitors/{name}/run" in forms) is may
        assert "/receivers" not in [f["action"] for f in read(client, "/monitors").of("form")]
        answer = client.post(f"/monitors/{name}/remove", follow_redirects=False)
        assert answer.status_code == 403, "it has no second token of our page"
