"""Runs, trends."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
from clients import clients_of
from holdings import RUN, accuracy, ask, leave_run

from quantlab.recipe import Recipe
from quantlab.serve.service import Service
from quantlab.tune.trials import Trial

RUNS = "/api/v1/runs"
TUNED = "20261122T101500Z-tune-ab12cd"


def left(service: Service, count: int = 1) -> list[str]:
    runs = [f"202611{day:02}T101500Z-evaluate-{day:06x}" for day in range(1, count + 1)]
    for i, run in enumerate(runs):
        ask(service)
        leave_run(service, run, accuracy(0.5 + i / 100))
    return runs


def tuned(service: Service, content: bytes = b"int8") -> tuple[list[Trial], Any]:
    """A tune's run with two trials, of which the first has a file."""
    sha256 = hashlib.sha256(content).hexdigest()
    trials = [
        Trial(number=1, recipe=Recipe(name="a"), status="scored", seconds=1.0, sha256=sha256,
              size_bytes=4, proxy=0.25),
        Trial(number=2, recipe=Recipe(name="b", ranges="percentile"), status="failed", seconds=1.0,
              error="<b>no</b>"),
    ]  # fmt: skip
    results = {
        "trials": [trial.model_dump(mode="json") for trial in trials],
        "output": {"path": "net.int8.onnx", "sha256": sha256},
    }
    ask(service, verb="tune", no_bench=True)
    return trials, leave_run(service, TUNED, results, {f"models/{sha256}.onnx": content})


def test_a_run_with_its_record(client: Any, stocked: Service) -> None:
    ask(stocked)
    job = leave_run(stocked, files={"report.html": b"<p>", "predictions.npz": b"abc"})
    (listed,) = client.get(RUNS).json()["items"]
    assert (listed["run"], listed["model"], listed["top1"]) == (RUN, "net", 0.75)
    run = client.get(listed["links"]["self"]).json()
    assert (run["job"], run["top1"], run["record"]["id"]) == (job.id, 0.75, RUN)
    assert run["links"]["job"] == f"/api/v1/jobs/{job.id}"
    assert {file["path"] for file in run["files"]} == {
        "run.json", "report.html", "predictions.npz",
    }  # fmt: skip
    response = client.get(f"{RUNS}/{RUN}/files/predictions.npz")
    assert response.content == b"abc"


def test_a_report_is_kept_apart_from_us(client: Any, stocked: Service) -> None:
    ask(stocked)
    leave_run(stocked, files={"report.html": b"<script>parent.document</script>"})
    response = client.get(f"{RUNS}/{RUN}/report")
    assert response.headers["content-type"].startswith("text/html")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("sandbox ")
    assert "allow-same-origin" not in policy
    assert "frame-ancestors 'self'" in policy


def test_a_run_without_a_report(client: Any, stocked: Service) -> None:
    left(stocked)
    (listed,) = client.get(RUNS).json()["items"]
    assert client.get(listed["links"]["self"]).json()["links"]["report"] is None
    assert client.get(f"{listed['links']['self']}/report").status_code == 404


def test_runs_come_in_pages_and_can_be_chosen(client: Any, stocked: Service) -> None:
    runs = left(stocked, 5)
    found, address = [], f"{RUNS}?limit=2&verb=evaluate"
    while address:
        page = client.get(address).json()
        found += [run["run"] for run in page["items"]]
        address = page["next"]
    assert found == runs[::-1]
    assert client.get(f"{RUNS}?verb=tune").json()["items"] == []
    assert len(client.get(f"{RUNS}?model=ne").json()["items"]) == 5
    assert client.get(f"{RUNS}?model=%25").json()["items"] == []
    assert len(client.get(f"{RUNS}?since=2026-11-04").json()["items"]) == 2


@pytest.mark.parametrize(
    "query",
    ["since=soon", "since=9e9999d", "since=%00", "model=%00", "verb=%00", "after=../x", "limit=0"],
)
def test_queries_that_make_no_sense(small_client: Any, query: str) -> None:
    assert small_client.get(f"{RUNS}?{query}").status_code == 422


def test_numbers_that_are_none_are_null(client: Any, stocked: Service) -> None:
    ask(stocked)
    leave_run(stocked, results={"kl": math.nan, "speedup": math.inf})
    response = client.get(f"{RUNS}/{RUN}")
    assert response.json()["record"]["results"] == {"kl": None, "speedup": None}


def test_a_damaged_record_is_said_so_without_its_place(client: Any, stocked: Service) -> None:
    ask(stocked)
    job = leave_run(stocked)
    path = stocked.settings.home / "damaged"
    path.write_bytes(b"{")
    stocked.objects.put(f"{job.folder}/runs/{RUN}/run.json", path)
    response = client.get(f"{RUNS}/{RUN}")
    assert response.status_code == 404
    assert str(stocked.settings.home) not in response.text
    stocked.objects.remove(job.folder)
    response = client.get(f"{RUNS}/{RUN}")
    assert response.status_code == 404
    assert str(stocked.settings.home) not in response.text


def test_nobody_knows_it(client: Any) -> None:
    for path in ("", "/report", "/files/run.json", "/trials"):
        assert client.get(f"{RUNS}/nobody{path}").status_code == 404
    assert client.post(f"{RUNS}/nobody/pick", json={"trial": "abcd"}).status_code == 404
    assert client.get("/api/v1/trends/nobody").status_code == 404


def test_trials(client: Any, stocked: Service) -> None:
    trials, _ = tuned(stocked)
    first, second = client.get(f"{RUNS}/{TUNED}/trials").json()["items"]
    assert [first["digest"], second["digest"]] == [trial.digest for trial in trials]
    assert (first["chosen"], first["proxy"], first["front"]) == (True, 0.25, False)
    assert (second["chosen"], second["status"], second["error"]) == (False, "failed", "<b>no</b>")


def test_a_trial_becomes_a_model(
    client: Any, stocked: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.serve.runs.facts_of", lambda *_: {"quantized": True})
    trials, job = tuned(stocked)
    response = client.post(f"{RUNS}/{TUNED}/pick", json={"trial": trials[0].digest})
    assert response.status_code == 201
    model = response.json()
    assert (model["sha256"], model["job"]) == (trials[0].sha256, job.id)
    assert client.get(model["links"]["file"]).content == b"int8"
    for digest in (trials[1].digest, "abcd"):
        lacking = client.post(f"{RUNS}/{TUNED}/pick", json={"trial": digest})
        assert lacking.status_code == 404
    assert client.post(f"{RUNS}/{TUNED}/pick", json={"trial": "../x"}).status_code == 422


def test_readers_pick_nothing(stocked: Service) -> None:
    trials, _ = tuned(stocked)
    (client,) = clients_of(stocked, "read")
    response = client.post(f"{RUNS}/{TUNED}/pick", json={"trial": trials[0].digest})
    assert response.status_code == 403


def test_trends(client: Any, stocked: Service) -> None:
    runs = left(stocked, 4)
    (model,) = client.get("/api/v1/trends").json()["items"]
    assert model["model"] == "net"
    (series,) = client.get(model["links"]["self"]).json()["series"]
    assert [point["run"] for point in series["points"]] == runs
    assert [point["value"] for point in series["points"]] == pytest.approx([0.5, 0.51, 0.52, 0.53])
    assert series["points"][0]["interval"] == pytest.approx([0.3, 0.7])
    assert client.get(f"{model['links']['self']}?metric=top1").status_code == 200
    assert client.get(f"{model['links']['self']}?metric=latency").status_code == 404
    assert client.get(f"{model['links']['self']}?metric=x").status_code == 422


def test_a_change_is_told(client: Any, stocked: Service) -> None:
    for day in range(1, 11):
        ask(stocked)
        run = f"202611{day:02}T101500Z-evaluate-{day:06x}"
        results = accuracy(0.9 if day < 6 else 0.1)
        results["accuracy"]["top1"]["interval"] = {"low": 0.0, "high": 0.1}
        leave_run(stocked, run, results)
    (series,) = client.get("/api/v1/trends/net").json()["series"]
    (change,) = series["changes"]
    assert (change["index"], change["run"]) == (5, series["points"][5]["run"])
    assert (change["before"], change["after"]) == (pytest.approx(0.9), pytest.approx(0.1))
