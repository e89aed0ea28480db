"""Which runs may go, and what keeps one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from quantlab.runs.entry import Entry
from quantlab.runs.figures import Figure
from quantlab.runs.prune import PastRun, prunable
from quantlab.runs.record import RunRecord

BEFORE = datetime(2026, 1, 10, tzinfo=UTC)


def past(day: int, *, speedup: float | None = None, model: str = "m", **fields: Any) -> PastRun:
    """A run of that day of January 2026, with a verdict where it has a speed."""
    started = f"2026-01-{day:02}T00:00:00+00:00"
    fields = {
        "id": "x",
        "command": "",
        "verb": "tune",
        "started": started,
        "status": "success",
        **fields,
    }
    figures = () if speedup is None else (Figure("speedup", "i", "int8", "", speedup, None),)
    entry = Entry(
        folder="",
        models=((model, model * 64), ("i", "i" * 64)),
        verdict="" if speedup is None else "pass",
        figures=figures,
    )
    return PastRun(RunRecord.model_validate(fields), entry)


def test_old_and_failed_runs_may_go() -> None:
    runs = {
        "old": past(1),
        "new": past(11),
        "failed": past(12, status="error", error="no images"),
        "killed": past(12, status="started"),
        "stopped": past(12, status="interrupted"),
    }
    assert prunable(runs) == {}
    assert prunable(runs, before=BEFORE) == {"old": "from 2026-01-01"}
    assert prunable(runs, errors=True) == {"failed": "no images", "killed": "it never ended"}
    assert set(prunable(runs, before=BEFORE, errors=True)) == {"old", "failed", "killed"}


@pytest.mark.parametrize(
    "fields", [{"source": "first"}, {"spec": {"recipe": "runs/first/recipe.yaml"}}]
)
def test_what_a_run_that_stays_names_stays(fields: dict[str, Any]) -> None:
    runs = {"first": past(1), "second": past(2, **fields), "third": past(11)}
    assert set(prunable(runs, before=BEFORE)) == {"first", "second"}
    runs["third"] = past(11, spec={"models": ["m.onnx", "runs/second/best.onnx"]})
    assert prunable(runs, before=BEFORE) == {}, "the third needs the second, that the first"


def test_what_a_baseline_accepted_stays() -> None:
    runs = {"accepted": past(1), "other": past(1)}
    assert prunable(runs, before=BEFORE, accepted=["i" * 64]) == {}
    assert set(prunable(runs, before=BEFORE, accepted=["0" * 64])) == {"accepted", "other"}


def test_the_fastest_pass_of_each_model_stays() -> None:
    runs = {
        "slow": past(1, speedup=1.1),
        "fast": past(2, speedup=2.0),
        "as fast": past(3, speedup=2.0),
        "none": past(4),
        "another": past(1, speedup=0.9, model="n"),
    }
    found = prunable(runs, before=BEFORE, keep_best=True)
    assert set(found) == {"slow", "fast", "none"}
