from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from clients import HERE, app_of, client_of, clients_of
from fastapi import FastAPI, Form
from holdings import add_dataset, add_model

from quantlab.serve import guard
from quantlab.serve.access import COOKIE, CSRF_FIELD, CSRF_HEADER, MayRead, csrf_token
from quantlab.serve.api.answers import TO_ASK_AGAIN
from quantlab.serve.audit_log import AuditLog
from quantlab.serve.db import UnavailableError
from quantlab.serve.guard import HEADERS
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Tokens

JOB = {"verb": "evaluate", "model": "net", "data": "val"}
RECIPE = "/api/v1/recipes/mine"


@pytest.fixture
def served(sqlite_service: Service) -> Service:
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    return sqlite_service


@pytest.fixture
def slow_service(tmp_path: Any) -> Iterator[Service]:
    """Lets nobody make more than a few requests."""
    with Service.open(Settings(home=tmp_path / "home", requests_a_minute=6)) as opened:
        yield opened


def lines(service: Service) -> list[tuple[str, str, str]]:
    return [
        (line.action, line.subject, line.outcome) for line in AuditLog(service.database).lines()
    ]


class TestWhoAsks:
    def test_nobody_without_a_token(self, served: Service) -> None:
        Tokens(served.database).create("a", "read")
        app = app_of(served)
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic YTpi"}):
            response = client_of(app).get("/api/v1/models", headers=headers)
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["title"] == "Unauthorized"

    def test_health_needs_none(self, served: Service) -> None:
        Tokens(served.database).create("a", "read")
        assert client_of(app_of(served)).get("/api/v1/health").status_code == 200

    def test_scopes(self, served: Service) -> None:
        read, submit, admin = clients_of(served, "read", "submit", "admin")
        found = [
            [
                client.get("/api/v1/models").status_code,
                client.post("/api/v1/jobs", json=JOB).status_code,
                client.get("/api/v1/audit").status_code,
            ]
            for client in (read, submit, admin)
        ]
        assert found == [[200, 403, 403], [200, 202, 403], [200, 202, 200]]

    def test_a_revoked_token_is_refused_soon(
        self, served: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (client,) = clients_of(served, "read")
        assert client.get("/api/v1/models").status_code == 200
        Tokens(served.database).revoke("my-read")
        monkeypatch.setattr("quantlab.serve.access.REMEMBERED_SECONDS", 0.0)
        assert client.get("/api/v1/models").status_code == 401

    def test_an_expired_token_is_refused_even_where_it_is_remembered(
        self, served: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token, text = Tokens(served.database).create("a", "read", 60.0)
        client = client_of(app_of(served), text)
        assert client.get("/api/v1/models").status_code == 200
        monkeypatch.setattr("quantlab.serve.access.time.time", lambda: token.created + 61)
        monkeypatch.setattr("quantlab.serve.db.time.time", lambda: token.created + 61)
        assert client.get("/api/v1/models").status_code == 401

    def test_a_token_is_looked_up_once_in_a_while(
        self, served: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (client,) = clients_of(served, "read")
        client.get("/api/v1/models")
        monkeypatch.setattr(Tokens, "verify", lambda *_: pytest.fail("looked up again"))
        assert client.get("/api/v1/models").status_code == 200


class TestWithoutTokens:
    def test_this_machine_may_do_everything(self, served: Service) -> None:
        client = client_of(app_of(served))
        assert client.get("/api/v1/audit").status_code == 200
        assert client.post("/api/v1/jobs", json=JOB).status_code == 202

    @pytest.mark.parametrize(
        "options",
        [
            {"client": ("192.0.2.1", 5)},
            {"base_url": "http://quantlab.example"},
            {"base_url": "http://127.0.0.1.example"},
            {"headers": {"X-Forwarded-For": "192.0.2.1"}},
            {"headers": {"Forwarded": "for=192.0.2.1"}},
        ],
    )
    def test_nobody_else(self, served: Service, options: dict[str, Any]) -> None:
        client = client_of(app_of(served), **options)
        assert client.get("/api/v1/models").status_code == 401

    @pytest.mark.parametrize("host", ["localhost:8765", "127.0.0.1:8765", "[::1]:8765"])
    def test_by_any_name_of_this_machine(self, served: Service, host: str) -> None:
        client = client_of(app_of(served), base_url=f"http://{host}")
        assert client.get("/api/v1/models").status_code == 200

    def test_no_longer_once_there_is_one(
        self, served: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = client_of(app_of(served))
        assert client.get("/api/v1/models").status_code == 200
        tokens = Tokens(served.database)
        tokens.create("a", "read")
        monkeypatch.setattr("quantlab.serve.access.REMEMBERED_SECONDS", 0.0)
        assert client.get("/api/v1/models").status_code == 401
        tokens.revoke("a")
        assert client.get("/api/v1/models").status_code == 401, "open again"

    def test_not_for_a_page_of_another_site(self, served: Service) -> None:
        client = client_of(app_of(served))
        foreign = {"Origin": "http://evil.example"}
        assert client.post("/api/v1/jobs", json=JOB, headers=foreign).status_code == 403
        own = {"Origin": HERE}
        assert client.post("/api/v1/jobs", json=JOB, headers=own).status_code == 202


class TestPages:
    """Requests with a cookie."""

    @pytest.fixture
    def client(self, served: Service) -> Any:
        self.text = Tokens(served.database).create("page", "submit")[1]
        return client_of(app_of(served), cookies={COOKIE: self.text})

    def token(self) -> str:
        from starlette.requests import Request

        cookie = f"{COOKIE}={self.text}".encode()
        return csrf_token(Request({"type": "http", "headers": [(b"cookie", cookie)]}))

    def test_reading_needs_no_more_than_the_cookie(self, client: Any) -> None:
        assert client.get("/api/v1/models").status_code == 200

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Origin": HERE}, 202),
            ({"Sec-Fetch-Site": "same-origin"}, 202),
            ({"Sec-Fetch-Site": "same-origin", "Origin": HERE}, 202),
            ({}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://127.0.0.1.evil.example"}, 403),
            ({"Origin": "http://["}, 403),
            ({"Sec-Fetch-Site": "cross-site", "Origin": HERE}, 403),
            ({"Sec-Fetch-Site": "same-site"}, 403),
            ({"Sec-Fetch-Site": "none"}, 403),
        ],
    )
    def test_writing_needs_our_own_page(
        self, client: Any, headers: dict[str, str], status: int
    ) -> None:
        given = {**headers, CSRF_HEADER: self.token()}
        response = client.post("/api/v1/jobs", json=JOB, headers=given)
        assert response.status_code == status

    @pytest.mark.parametrize("given", [None, "", "x", "0" * 64, "\xe4"])
    def test_writing_needs_the_pages_token(self, client: Any, given: str | None) -> None:
        headers = {"Origin": HERE} | ({} if given is None else {CSRF_HEADER: given.encode()})
        assert client.post("/api/v1/jobs", json=JOB, headers=headers).status_code == 403

    def test_the_pages_token_is_of_this_cookie(self, client: Any, served: Service) -> None:
        mine = self.token()
        self.text = Tokens(served.database).create("other", "submit")[1]
        assert self.token() != mine
        headers = {"Origin": HERE, CSRF_HEADER: self.token()}
        assert client.post("/api/v1/jobs", json=JOB, headers=headers).status_code == 403

    def test_a_form_may_have_it_as_a_field(self, client: Any) -> None:
        app: FastAPI = client.app

        async def page(_: MayRead, name: str = Form()) -> str:
            return name

        app.add_api_route("/page", page, methods=["POST"])
        headers, form = {"Origin": HERE}, {"name": "x", CSRF_FIELD: self.token()}
        assert client.post("/page", data=form, headers=headers).json() == "x"
        assert client.post("/page", data={"name": "x"}, headers=headers).status_code == 403
        files = {"file": b"abc"}
        assert client.post("/page", data=form, files=files, headers=headers).json() == "x"

    def test_a_header_goes_before_the_cookie(self, client: Any) -> None:
        headers = {"Authorization": "Bearer wrong"}
        assert client.get("/api/v1/models", headers=headers).status_code == 401


class TestRates:
    def test_a_token_is_slowed_down_and_others_are_not(self, slow_service: Service) -> None:
        first, second = clients_of(slow_service, "read", "submit")
        statuses = [first.get("/api/v1/models").status_code for _ in range(6)]
        assert statuses[0] == 200
        assert statuses[-1] == 429
        response = first.get("/api/v1/models")
        assert 1 <= int(response.headers["retry-after"]) <= 30
        assert response.json()["title"] == "Too Many Requests"
        assert second.get("/api/v1/models").status_code == 200

    def test_so_is_an_address_of_somebody_unknown(self, slow_service: Service) -> None:
        clients_of(slow_service, "read")
        app = app_of(slow_service)
        guesses = [client_of(app, f"guess{i}").get("/api/v1/models").status_code for i in range(6)]
        assert (guesses[0], guesses[-1]) == (401, 429)
        elsewhere = client_of(app, "guess", client=("192.0.2.7", 1))
        assert elsewhere.get("/api/v1/models").status_code == 401

    def test_one_ipv6_network_is_one_address(self, slow_service: Service) -> None:
        clients_of(slow_service, "read")
        app = app_of(slow_service)
        statuses = [
            client_of(app, client=(f"2001:db8::{i}", 1)).get("/api/v1/health").status_code
            for i in range(6)
        ]
        assert (statuses[0], statuses[-1]) == (200, 429)
        other = client_of(app, client=("2001:db8:0:1::1", 1))
        assert other.get("/api/v1/health").status_code == 200


class TestBodies:
    def test_a_large_body_is_refused_by_its_length(self, served: Service) -> None:
        (client,) = clients_of(served, "submit")
        response = client.put(RECIPE, content=b"x" * (guard.MAX_BYTES + 1))
        assert response.status_code == 413
        assert "1,048,576 bytes" in response.json()["detail"]

    def test_a_large_body_is_refused_without_a_length(self, served: Service) -> None:
        (client,) = clients_of(served, "submit")
        pieces = (b"x" * 100_000 for _ in range(20))
        response = client.put(RECIPE, content=pieces)
        assert "content-length" not in response.request.headers
        assert response.status_code == 413
        assert response.headers["content-type"] == "application/problem+json"

    def test_a_chunk_may_be_larger_and_no_larger_than_that(self, served: Service) -> None:
        (client,) = clients_of(served, "submit")
        where = "/api/v1/uploads/ab?offset=0"
        most = served.settings.max_chunk
        assert client.put(where, content=b"x" * most).status_code == 404
        assert client.put(where, content=b"x" * (most + 1)).status_code == 413
        pieces = (b"x" * 1_000_000 for _ in range(most // 1_000_000 + 1))
        assert client.put(where, content=pieces).status_code == 413

    @pytest.mark.parametrize("length", ["-5", "1e3", "many", "\xb2"])
    def test_a_length_that_is_none(self, served: Service, length: str) -> None:
        (client,) = clients_of(served, "submit")
        headers = {"Content-Length": length.encode("latin-1")}
        assert client.put(RECIPE, content=b"x", headers=headers).status_code == 400

    def test_a_length_beyond_all_numbers(self, served: Service) -> None:
        (client,) = clients_of(served, "submit")
        headers = {"Content-Length": "9" * 10_000}
        assert client.put(RECIPE, content=b"x", headers=headers).status_code == 413

    def test_a_body_that_does_not_come_is_given_up(
        self, served: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
        text = Tokens(served.database).create("a", "submit")[1]
        assert asyncio.run(asked_slowly(app_of(served), text)) == 408

    def test_deep_json_is_no_error_of_ours(self, served: Service) -> None:
        (client,) = clients_of(served, "submit")
        deep = b"[" * 200_000
        headers = {"Content-Type": "application/json"}
        response = client.post("/api/v1/jobs", content=deep, headers=headers)
        assert response.status_code in (400, 422)


async def asked_slowly(app: Any, token: str) -> int:
    """The status of a request whose body stops half-way."""
    statuses, pieces = [], [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        if pieces:
            return pieces.pop()
        await asyncio.sleep(60)
        return None

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    headers = [(b"authorization", f"Bearer {token}".encode()), (b"host", b"x")]
    scope = {
        "type": "http", "method": "POST", "path": "/api/v1/jobs", "raw_path": b"/api/v1/jobs",
        "headers": headers, "query_string": b"", "client": ("127.0.0.1", 5), "scheme": "http",
        "server": ("127.0.0.1", 80), "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    await app(scope, receive, send)
    return int(statuses[0])


class TestHeaders:
    @pytest.mark.parametrize(
        "path", ["/api/v1/health", "/api/v1/models", "/nope", "/api/v1/jobs/x"]
    )
    def test_every_response_has_them(self, served: Service, path: str) -> None:
        headers = client_of(app_of(served)).get(path).headers
        own = {"Cache-Control": TO_ASK_AGAIN} if path.endswith("/models") else {}
        assert {name: headers[name] for name in HEADERS} == {**HEADERS, **own}

    def test_an_error_of_ours_has_them_too_and_tells_nothing(
        self, served: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(type(served.catalog), "datasets", lambda _: 1 / 0)
        response = client_of(app_of(served)).get("/api/v1/datasets")
        assert response.status_code == 500
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "ZeroDivisionError" not in response.text
        assert "ZeroDivisionError" in caplog.text


class TestAudit:
    def test_what_changes_something_and_what_is_refused_is_noted(self, served: Service) -> None:
        read, submit = clients_of(served, "read", "submit")
        read.get("/api/v1/models")
        submit.post("/api/v1/jobs", json=JOB)
        submit.post("/api/v1/jobs", json={})
        read.post("/api/v1/jobs", json=JOB)
        read.get("/api/v1/audit")
        assert lines(served) == [
            ("GET audit", "/api/v1/audit", "403"),
            ("POST submit", "/api/v1/jobs", "403"),
            ("POST submit", "/api/v1/jobs", "422"),
            ("POST submit", "/api/v1/jobs", "202"),
        ]
        by_name = {token.id: token.name for token in Tokens(served.database).all()}
        found = [by_name[line.token] for line in AuditLog(served.database).lines()]
        assert found == ["my-read", "my-read", "my-submit", "my-submit"]
        assert {line.address for line in AuditLog(served.database).lines()} == {"127.0.0.1"}

    def test_guesses_cannot_fill_it(self, served: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(guard, "REFUSALS_A_MINUTE", 12)
        clients_of(served, "read")
        app = app_of(served)
        for i in range(12):
            assert client_of(app, f"guess{i}").get("/api/v1/models").status_code == 401
        assert 1 <= len(lines(served)) < 12

    def test_it_holds_whatever_path_there_is(self, served: Service) -> None:
        client = client_of(app_of(served))
        client.post("/api/v1/%00%ff<b>\N{SNOWMAN}" + "x" * 2000)
        ((action, subject, outcome),) = lines(served)
        assert (action, outcome) == ("POST -", "404")
        assert subject.isprintable()
        assert len(subject) == 500

    def test_a_database_that_is_away_is_no_reason_to_fail(
        self, served: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def away(*_: Any) -> None:
            raise UnavailableError("away.")

        monkeypatch.setattr(AuditLog, "add", away)
        client = client_of(app_of(served))
        assert client.post("/api/v1/jobs", json=JOB).status_code == 202
        assert "not in the audit log" in caplog.text
