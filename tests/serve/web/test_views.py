from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from quantlab.runs.entry import Entry
from quantlab.serve.catalog import StoredDataset, StoredModel
from quantlab.serve.queue import Job
from quantlab.serve.web.views import (
    dataset_row,
    duration,
    job_row,
    job_view,
    model_row,
    moment,
    run_row,
)

SHA = "c" * 64
JOB = Job(
    number=1, id="ab", token="t", verb="compare",
    request={"verb": "compare", "fp32": SHA, "int8": "net.int8", "data": "val", "rounds": 9},
    inputs={
        "models": [{"sha256": SHA, "name": "net"}, {"sha256": "d" * 64, "name": "net.int8"}],
        "data": {"data": {"name": "val", "path": "/secret"}},
    },
    exclusive=True, state="done", cancelled=False, attempts=1, losses=0, worker="w", machine="m",
    progress=None, exit_code=0, out="", error=None, run=None, files={}, created=0.0, started=1.0,
    finished=202.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({}, "pass"),
        ({"exit_code": 1}, "fail"),
        ({"exit_code": 3}, "inconclusive"),
        ({"exit_code": 4}, "another CPU"),
        ({"verb": "tune"}, "done"),
        ({"state": "failed", "exit_code": 2}, "failed"),
        ({"state": "running", "exit_code": None}, "running"),
        ({"state": "running", "cancelled": True}, "stopping"),
        ({"state": "cancelled", "cancelled": True}, "cancelled"),
    ],
)
def test_outcomes_of_jobs(changed: dict[str, Any], outcome: str) -> None:
    assert job_row(replace(JOB, **changed)).outcome == outcome


def test_a_job_is_told_by_names_and_no_place() -> None:
    found = job_view(JOB, "http://host:1")
    assert found.asked.rows == [
        ("fp32", "net"), ("int8", "net.int8"), ("data", "val"), ("rounds", "9"),
    ]  # fmt: skip
    assert found.command == (
        "quantlab --server http://host:1 compare --rounds=9 --data=val net net.int8"
    )
    assert found.row.took == "3 min 21 s"
    assert "/secret" not in str(found)
    assert job_view(replace(JOB, request={"verb": "gone"}), "").command == ""


def test_progress() -> None:
    told = {"label": "Evaluating", "done": 1200, "total": 50_000, "note": "top-1 70%"}
    row = job_row(replace(JOB, state="running", progress=told))
    assert row.progress is not None
    assert row.progress.words == "Evaluating: 1,200 of 50,000, top-1 70%"
    endless = job_row(replace(JOB, state="running", progress={"label": "x", "total": None}))
    assert endless.progress is not None
    assert endless.progress.words == "x: 0"
    assert job_row(replace(JOB, progress=told)).progress is None


def test_runs() -> None:
    models = (("net", ""), ("net.int8", ""))
    started = "2026-01-31T15:05:00+01:00"
    entry = Entry(
        "20260101T000000Z-tune-abc123",
        "i",
        "tune",
        "success",
        started,
        models,
        "pass",
        0.75,
        -0.001,
    )
    row = run_row(entry)
    assert (row.short, row.when, row.model) == ("abc123", "2026-01-31 14:05", "net.int8")
    assert (row.outcome, row.top1, row.decline) == ("pass", "75.00%", "-0.10%")
    assert run_row(replace(entry, status="started")).outcome == "not ended"


def test_models_and_datasets() -> None:
    facts = {"quantized": True, "input_shape": [None, 3, 224, 224]}
    model = model_row(StoredModel(SHA, "net", 3_850_000, facts, None, 0.0))
    assert (model.kind, model.input) == ("int8", "any × 3 × 224 × 224")
    assert model.label == "net (int8, 3.85 MB, cccccccc)"
    assert model_row(StoredModel(SHA, "net", 1, {}, None, 0.0)).input == "–"
    dataset = StoredDataset("val", "/secret", None, None, {"images": 1300, "labelled": True}, 0.0)
    row = dataset_row(dataset)
    assert (row.images, row.labelled, row.digest) == ("1,300", "yes", "–")
    assert "/secret" not in str(row)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3723, "1 h 02 min")],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize("time", ["yesterday", "\x00", 1e20])
def test_times_that_are_none(time: Any) -> None:
    assert "\x00" not in moment(time)
