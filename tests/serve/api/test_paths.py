"""Whatever a client writes into an address, a name or a body, it stays inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clients import app_of, client_of
from holdings import RUN, add_dataset, add_model, ask, leave_run

from quantlab.serve.service import Service

OUTSIDE = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/%2e%2e/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "..%5c..%5cetc%5cpasswd",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "....//....//etc/passwd",
    "%00",
    "net%00.onnx",
    "%c0%ae%c0%ae%2fetc",
    "~root",
    "server.db",
    "../server.db",
    "%2e%2e",
    "%2e",
    "%20",
    "{path}",
    "\N{SNOWMAN}",
    "x" * 5000,
]
PLACES = [
    "models/{}", "models/{}/file", "datasets/{}", "recipes/{}", "baselines/{}", "trends/{}",
    "jobs/{}", "jobs/{}/files", "jobs/{}/events", "jobs/JOB/files/{}",
    "runs/{}", "runs/{}/report", "runs/{}/trials", "runs/{}/files/run.json",
    f"runs/{RUN}/files/{{}}", "uploads/{}",
]  # fmt: skip


@pytest.fixture
def home(sqlite_service: Service) -> Path:
    add_model(sqlite_service)
    add_dataset(sqlite_service)
    (sqlite_service.settings.home / "secret.txt").write_text("the secret")
    return sqlite_service.settings.home


@pytest.mark.parametrize("place", PLACES)
def test_no_address_leads_out(sqlite_service: Service, home: Path, place: str) -> None:
    ask(sqlite_service)
    job = leave_run(sqlite_service)
    client = client_of(app_of(sqlite_service))
    for outside in OUTSIDE:
        path = f"/api/v1/{place.replace('JOB', job.id)}".format(outside)
        response = client.get("http://127.0.0.1" + path)
        listing = response.status_code == 200 and '"items"' in response.text[:20]
        assert listing or response.status_code in (404, 405, 422), path
        assert "root:" not in response.text
        assert "SQLite format" not in response.text
        assert str(home) not in response.text, path


@pytest.mark.parametrize("outside", OUTSIDE)
def test_nothing_is_written_outside(sqlite_service: Service, home: Path, outside: str) -> None:
    client = client_of(app_of(sqlite_service))
    before = {path for path in home.parent.rglob("*") if path.is_file()}
    client.put(f"/api/v1/recipes/{outside}", content="name: a\n")
    client.put(f"/api/v1/uploads/{outside}?offset=0", content=b"x")
    client.post(f"/api/v1/uploads/{outside}/complete")
    client.post("/api/v1/uploads", json={"name": outside, "bytes": 1, "sha256": "a" * 64})
    client.post("/api/v1/jobs", json={"verb": "evaluate", "model": outside, "data": outside})
    after = {path for path in home.parent.rglob("*") if path.is_file()}
    assert {path.name for path in after - before} <= {"server.db-wal", "server.db-shm"}


def test_names_are_escaped_wherever_they_are_shown(sqlite_service: Service, home: Path) -> None:
    client = client_of(app_of(sqlite_service))
    response = client.get("/api/v1/models/<script>alert(1)</script>")
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["x-content-type-options"] == "nosniff"
    page = client.get("/<script>alert(1)</script>", headers={"Accept": "text/html"})
    assert "<script>alert" not in page.text


def test_methods_that_there_are_not(sqlite_service: Service, home: Path) -> None:
    client: Any = client_of(app_of(sqlite_service))
    for method in ("DELETE", "PATCH", "TRACE", "PUT", "X"):
        response = client.request(method, "/api/v1/jobs")
        assert response.status_code == 405
        assert "GET" in response.headers["allow"] or "POST" in response.headers["allow"]
        assert response.json()["title"] == "Method Not Allowed"
