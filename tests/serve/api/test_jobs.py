from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from clients import clients_of
from holdings import ask, end, leave_run

from quantlab.serve.service import Service

JOBS = "/api/v1/jobs"
JOB = {"verb": "evaluate", "model": "net", "data": "val"}


def test_a_job_is_accepted_with_its_address(client: Any) -> None:
    response = client.post(JOBS, json={**JOB, "threads": 2})
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == job["links"]["self"] == f"{JOBS}/{job['id']}"
    assert job["state"] == "queued"
    assert job["request"] == {**JOB, "threads": 2}
    assert client.get(job["links"]["self"]).json() == job
    age = datetime.now(UTC) - datetime.fromisoformat(job["created"])
    assert abs(age.total_seconds()) < 60


def test_the_same_key_is_the_same_job(client: Any) -> None:
    first = client.post(JOBS, json=JOB, headers={"Idempotency-Key": "k"})
    again = client.post(JOBS, json=JOB, headers={"Idempotency-Key": "k"})
    other = client.post(JOBS, json=JOB, headers={"Idempotency-Key": "l"})
    assert [r.status_code for r in (first, again, other)] == [202, 200, 202]
    assert first.json()["id"] == again.json()["id"] != other.json()["id"]
    wrong = client.post(JOBS, json={**JOB, "threads": 2}, headers={"Idempotency-Key": "k"})
    assert wrong.status_code == 409
    assert "new key" in wrong.json()["remedy"]


def test_a_key_is_of_its_token(stocked: Service) -> None:
    clients = clients_of(stocked, "submit", "admin")
    found = {c.post(JOBS, json=JOB, headers={"Idempotency-Key": "k"}).json()["id"] for c in clients}
    assert len(found) == 2


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({**JOB, "model": "nobody"}, 404),
        ({**JOB, "data": "nobody"}, 404),
        ({"verb": "tune", "model": "net", "data": "val", "recipe": "nobody"}, 404),
        ({"verb": "gate", "models": ["net"], "data": "val", "baseline": "nobody"}, 404),
        ({**JOB, "verb": "rm"}, 422),
        ({**JOB, "data": "../val"}, 422),
        ({**JOB, "data": "/etc/passwd"}, 422),
        ({**JOB, "threads": -1}, 422),
        ({**JOB, "runs_dir": "/tmp"}, 422),
        ({**JOB, "model": "\ud800"}, 422),
        ({**JOB, "model": "net\x00"}, 422),
        ([], 422),
        (None, 422),
        ("tune", 422),
    ],
)
def test_what_cannot_be_is_refused(client: Any, request_: Any, status: int) -> None:
    response = client.post(
        JOBS, content=json.dumps(request_), headers={"Content-Type": "application/json"}
    )
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert client.get(JOBS).json()["items"] == []


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", "\xe4"])
def test_keys_are_plain(small_client: Any, key: str) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    assert small_client.post(JOBS, json=JOB, headers=headers).status_code == 422


def test_a_token_may_not_have_too_many_under_way(
    stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = clients_of(stocked, "submit", "admin")
    monkeypatch.setitem(vars(stocked.settings), "max_queued", 2)
    statuses = [first.post(JOBS, json=JOB).status_code for _ in range(3)]
    assert statuses == [202, 202, 429]
    assert second.post(JOBS, json=JOB).status_code == 202


def test_lists_come_in_pages(client: Any, stocked: Service) -> None:
    made = [ask(stocked).id for _ in range(7)]
    found, address, pages = [], f"{JOBS}?limit=3", 0
    while address:
        response = client.get(address)
        found += [job["id"] for job in response.json()["items"]]
        address, pages = response.json()["next"], pages + 1
        link = response.headers.get("link")
        assert link == (f'<{address}>; rel="next"' if address else None)
    assert (found, pages) == (made[::-1], 3)


def test_a_page_that_is_full_is_the_last_one(client: Any, stocked: Service) -> None:
    for _ in range(3):
        ask(stocked)
    assert client.get(f"{JOBS}?limit=3").json()["next"] is None


def test_lists_can_be_filtered_and_pages_remember_how(client: Any, stocked: Service) -> None:
    ask(stocked)
    end(stocked)
    for _ in range(3):
        ask(stocked, verb="quantize")
    assert len(client.get(f"{JOBS}?state=done").json()["items"]) == 1
    assert len(client.get(f"{JOBS}?state=done&state=queued").json()["items"]) == 4
    page = client.get(f"{JOBS}?verb=quantize&state=queued&limit=2").json()
    rest = client.get(page["next"]).json()
    assert [job["verb"] for job in page["items"] + rest["items"]] == ["quantize"] * 3


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "after=-1", f"after={2**63}", "state=x", "verb=rm"]
)
def test_queries_that_make_no_sense(small_client: Any, query: str) -> None:
    assert small_client.get(f"{JOBS}?{query}").status_code == 422


def test_what_a_job_has_left(client: Any, stocked: Service) -> None:
    ask(stocked)
    job = end(stocked, {"net.int8.onnx": b"abc", "sub/a.json": b"{}"}, exit_code=1)
    found = client.get(f"{JOBS}/{job.id}").json()
    assert (found["state"], found["exit_code"], found["out"]) == ("done", 1, "Top-1 80%\n")
    files = [{"path": "net.int8.onnx", "bytes": 3}, {"path": "sub/a.json", "bytes": 2}]
    assert found["files"] == client.get(found["links"]["files"]).json()["items"] == files
    response = client.get(f"{found['links']['files']}/net.int8.onnx")
    assert (response.content, response.headers["content-length"]) == (b"abc", "3")
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["content-disposition"] == "attachment; filename*=UTF-8''net.int8.onnx"
    assert "sandbox" in response.headers["content-security-policy"]
    assert client.get(f"{found['links']['files']}/sub/a.json").json() == {}


def test_a_page_that_a_job_wrote_is_no_page_of_ours(client: Any, stocked: Service) -> None:
    ask(stocked)
    job = end(stocked, {"evil.html": b"<script>alert(1)</script>"})
    headers = client.get(f"{JOBS}/{job.id}/files/evil.html").headers
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_file_that_the_store_has_lost_is_not_found(client: Any, stocked: Service) -> None:
    ask(stocked)
    job = end(stocked, {"a.txt": b"abc"})
    stocked.objects.remove(job.folder)
    assert client.get(f"{JOBS}/{job.id}/files/a.txt").status_code == 404


def test_inputs_are_never_shown(client: Any, stocked: Service) -> None:
    job = ask(stocked)
    assert "secret-place" in str(job.inputs)
    for path in (JOBS, f"{JOBS}/{job.id}", "/api/v1/datasets", "/api/v1/datasets/val"):
        response = client.get(path)
        assert response.status_code == 200
        assert "secret-place" not in response.text
        assert str(stocked.settings.home) not in response.text


def test_the_run_and_its_report_are_linked(client: Any, stocked: Service) -> None:
    ask(stocked)
    job = leave_run(stocked, files={"report.html": b"<p>"})
    links = client.get(f"{JOBS}/{job.id}").json()["links"]
    assert links["run"] == f"/api/v1/runs/{job.run}"
    assert links["report"] == f"/api/v1/runs/{job.run}/report"
    assert client.get(links["report"]).text == "<p>"


def test_a_waiting_job_is_cancelled(client: Any, stocked: Service) -> None:
    job = ask(stocked)
    response = client.post(f"{JOBS}/{job.id}/cancel")
    assert response.status_code == 202
    assert (response.json()["state"], response.json()["cancelled"]) == ("cancelled", True)
    assert client.post(f"{JOBS}/{job.id}/cancel").json()["state"] == "cancelled"


def test_a_running_job_is_told_to_stop(client: Any, stocked: Service) -> None:
    job = ask(stocked)
    stocked.queue.claim("w", "here")
    response = client.post(f"{JOBS}/{job.id}/cancel").json()
    assert (response["state"], response["cancelled"]) == ("running", True)


def test_others_jobs_are_the_administrators(stocked: Service) -> None:
    submit, admin = clients_of(stocked, "submit", "admin")
    theirs = admin.post(JOBS, json=JOB).json()["links"]["self"]
    mine = submit.post(JOBS, json=JOB).json()["links"]["self"]
    assert submit.post(f"{theirs}/cancel").status_code == 403
    assert admin.get(theirs).json()["state"] == "queued"
    assert submit.post(f"{mine}/cancel").status_code == 202
    assert admin.post(f"{theirs}/cancel").status_code == 202


def test_nobody_else_sees_what_is_not_there(client: Any) -> None:
    for path in ("", "/files", "/files/a", "/events"):
        assert client.get(f"{JOBS}/0123456789abcdef{path}").status_code == 404
    assert client.post(f"{JOBS}/0123456789abcdef/cancel").status_code == 404


def test_progress_is_shown_without_what_is_the_workers(client: Any, stocked: Service) -> None:
    ask(stocked)
    job = stocked.queue.claim("w", "here")
    assert job is not None
    told = {"kind": "progress", "label": "Evaluating", "total": 12, "done": 3, "note": "80%"}
    stocked.queue.tell(job, [], told)
    shown = client.get(f"{JOBS}/{job.id}").json()["progress"]
    assert shown == {"label": "Evaluating", "total": 12, "done": 3, "note": "80%"}
