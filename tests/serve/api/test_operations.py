"""Metrics and probes, on each database."""

from __future__ import annotations

import json
import logging
import re
import shutil
from typing import Any

import pytest
from clients import app_of, client_of, clients_of
from holdings import RUN, ask, end, leave_run
from prometheus_client.parser import text_string_to_metric_families

from quantlab import __version__
from quantlab.serve.audit_log import AuditLog
from quantlab.serve.db import UnavailableError
from quantlab.serve.logs import ACCESS, JsonLines
from quantlab.serve.queue import Queue
from quantlab.serve.service import Service
from quantlab.serve.settings import Settings
from quantlab.serve.tokens import Tokens
from quantlab.serve.workers import Present

FAILED = {"state": "failed", "exit_code": None, "reason": "memory", "out": "", "error": "memory"}


def told(client: Any) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The value of each sample, by its name and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found = dict[str, dict[tuple[tuple[str, str], ...], float]]()
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


class TestMetrics:
    def test_the_queue(self, stocked: Service) -> None:
        client = client_of(app_of(stocked))
        nothing = told(client)
        assert nothing["quantlab_jobs"] == {
            (("state", "queued"),): 0,
            (("state", "running"),): 0,
        }
        assert nothing["quantlab_oldest_waiting_job_seconds"][()] == 0
        ask(stocked)
        ask(stocked)
        stocked.queue.claim("w", "here")
        found = told(client)
        assert found["quantlab_jobs"] == {(("state", "queued"),): 1, (("state", "running"),): 1}
        assert found["quantlab_oldest_waiting_job_seconds"][()] > 0
        assert found["quantlab_build_info"] == {(("version", __version__),): 1}

    def test_jobs_that_ended_are_counted_once(self, stocked: Service) -> None:
        ask(stocked)
        end(stocked)  # before the server started: not its own to tell
        client = client_of(app_of(stocked))
        for _ in range(2):
            ask(stocked)
        end(stocked)
        end(stocked, **FAILED)
        for _ in range(2):
            found = told(client)
            done, failed = (
                (("outcome", outcome), ("verb", "evaluate")) for outcome in ("done", "failed")
            )
            assert found["quantlab_jobs_ended_total"] == {done: 1, failed: 1}
            reason = (("reason", "memory"), ("verb", "evaluate"))
            assert found["quantlab_jobs_failed_total"] == {reason: 1}
            assert found["quantlab_job_seconds_count"] == {done: 1, failed: 1}
            assert found["quantlab_job_wait_seconds_count"] == {(("verb", "evaluate"),): 2}

    def test_a_job_whose_workers_were_lost_says_so(
        self, stocked: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = client_of(app_of(stocked))
        queue = Queue(stocked.database, lease=-1.0, losses=0)
        ask(stocked)
        queue.claim("a", "here")
        queue.claim("b", "here")
        (labels,) = told(client)["quantlab_jobs_failed_total"]
        assert dict(labels)["reason"] == "lost"

    def test_requests_by_the_template_of_their_path(self, stocked: Service) -> None:
        client = client_of(app_of(stocked))
        client.get("/api/v1/models/net")
        client.get("/api/v1/models/none")
        client.head("/api/v1/models/net")
        client.get("/secret/place")
        client.request("BREW", "/api/v1/models/net")
        found = told(client)
        counts = {
            (dict(labels)["method"], dict(labels)["route"], dict(labels)["status"]): n
            for labels, n in found["quantlab_http_requests_total"].items()
        }
        route = "/api/v1/models/{name}"
        assert counts[("GET", route, "200")] == counts[("GET", route, "404")] == 1
        assert counts[("HEAD", route, "200")] == 1
        assert counts[("GET", "other", "404")] == 1
        assert [method for method, _, _ in counts if method == "other"]
        assert (
            found["quantlab_http_request_seconds_count"][(("method", "GET"), ("route", route))] == 2
        )

    def test_no_name_and_no_token_is_in_them(self, stocked: Service) -> None:
        reader, _ = clients_of(stocked, "read", "submit")
        ask(stocked)
        leave_run(stocked)
        reader.get("/api/v1/models/net")
        text = reader.get("/metrics").text
        ids = [each.id for each in Tokens(stocked.database).all()]
        for word in ("my-read", *ids, RUN, "quantlab_" + "0", stocked.queue.of_run(RUN).id):
            assert word not in text
        assert not re.search(r'"[^"]*\bnet\b[^"]*"', text)

    def test_workers_say_that_they_live(self, stocked: Service) -> None:
        client = client_of(app_of(stocked))
        worker = Present(stocked.database, "here-1", "here")
        worker.report()
        worker.report()
        seen = told(client)["quantlab_worker_heartbeat_seconds"]
        assert list(seen) == [(("worker", "here-1"),)]
        assert seen[(("worker", "here-1"),)] >= 0
        with worker:
            pass
        assert "quantlab_worker_heartbeat_seconds" not in told(client)

    def test_bytes_of_the_store(self, stocked: Service) -> None:
        size = stocked.catalog.model("net").bytes
        assert told(client_of(app_of(stocked)))["quantlab_store_bytes"][()] == size

    def test_who_may_read_them(self, sqlite_service: Service) -> None:
        (reader,) = clients_of(sqlite_service, "read")
        app = app_of(sqlite_service)
        refused = client_of(app).get("/metrics")
        assert refused.status_code == 401
        assert refused.headers["content-type"] == "application/problem+json"
        assert reader.get("/metrics").status_code == 200

    def test_anybody_where_the_settings_say_so(self, tmp_path: Any) -> None:
        with Service.open(Settings(home=tmp_path / "home", metrics="open")) as service:
            Tokens(service.database).create("a", "read")
            assert client_of(app_of(service)).get("/metrics").status_code == 200
            assert client_of(app_of(service)).get("/api/v1/models").status_code == 401


class TestProbes:
    def test_they_need_no_token(self, stocked: Service) -> None:
        Tokens(stocked.database).create("a", "read")
        client = client_of(app_of(stocked))
        for path in ("/health/live", "/health/ready"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()) == (200, {"status": "ok"})

    def test_a_database_that_is_away(
        self, stocked: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client = client_of(app_of(stocked))
        assert client.get("/api/v1/health").status_code == 200

        def away(*_: object, **__: object) -> None:
            raise UnavailableError("away.")

        monkeypatch.setattr(type(stocked.database), "reading", away)
        assert client.get("/health/live").status_code == 200
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "not ready: database."
        assert [each["where"] for each in answer.json()["errors"]] == ["database"]

    def test_a_store_that_is_away(self, sqlite_service: Service, tmp_path: Any) -> None:
        client = client_of(app_of(sqlite_service))
        place = sqlite_service.settings.home / "store"
        if place.exists():
            shutil.rmtree(place)
        place.write_text("no folder")
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "not ready: store."


class TestHead:
    @pytest.mark.parametrize(
        "path",
        ["/api/v1/health", "/api/v1/models", "/metrics", "/health/live", "/runs", "/api/v1/none"],
    )
    def test_it_is_a_get_without_a_body(self, small_client: Any, path: str) -> None:
        head, got = small_client.head(path), small_client.get(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
        if path != "/metrics":
            assert head.headers["content-length"] == got.headers["content-length"]

    def test_a_file(self, small_client: Any, sqlite_service: Service) -> None:
        answer = small_client.head("/api/v1/models/net/file")
        size = sqlite_service.catalog.model("net").bytes
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(size)

    def test_a_stream_of_events_ends_at_once(
        self, small_client: Any, sqlite_service: Service
    ) -> None:
        answer = small_client.head(f"/api/v1/jobs/{ask(sqlite_service).id}/events")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-type"].startswith("text/event-stream")

    def test_what_has_no_get(self, small_client: Any) -> None:
        assert small_client.head("/api/v1/uploads").status_code == 405


class TestRequestIds:
    def test_one_that_is_given_is_kept(self, small_client: Any, sqlite_service: Service) -> None:
        answer = small_client.put(
            "/api/v1/recipes/mine", content=b"name: mine\n", headers={"X-Request-ID": "abc-1.2_3"}
        )
        assert answer.headers["x-request-id"] == "abc-1.2_3"
        (line,) = AuditLog(sqlite_service.database).lines()
        assert line.request == "abc-1.2_3"
        assert small_client.get("/api/v1/audit").json()["items"][0]["request"] == "abc-1.2_3"

    @pytest.mark.parametrize("given", ["", "a b", "x" * 65, 'a"b', "a\tb"])
    def test_others_are_replaced(self, small_client: Any, given: str) -> None:
        found = [
            small_client.get("/api/v1/health", headers={"X-Request-ID": given}).headers[
                "x-request-id"
            ]
            for _ in range(2)
        ]
        assert all(re.fullmatch(r"[0-9a-f]{16}", each) for each in found)
        assert found[0] != found[1]

    def test_a_line_of_the_log(
        self, sqlite_service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        (reader,) = clients_of(sqlite_service, "read")
        with caplog.at_level(logging.INFO, ACCESS):
            reader.get("/api/v1/models/none?secret=1", headers={"X-Request-ID": "mine"})
        (record,) = (each for each in caplog.records if each.name == ACCESS)
        line = json.loads(JsonLines().format(record))
        (token,) = Tokens(sqlite_service.database).all()
        assert line.pop("seconds") >= 0
        assert line.pop("time").endswith("+00:00")
        assert line == {
            "level": "info",
            "logger": ACCESS,
            "request": "mine",
            "method": "GET",
            "path": "/api/v1/models/none",
            "route": "/api/v1/models/{name}",
            "status": 404,
            "token": token.id,
            "address": "127.0.0.1",
        }
