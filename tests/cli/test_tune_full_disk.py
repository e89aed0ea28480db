"""A disk that gets full in the middle of a tune: what is finished stays, --resume goes on."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError

from quantlab.runs.record import load_record
from quantlab.tune.ladder import ladder
from quantlab.tune.trial_store import TrialStore
from quantlab.tune.trials import Trial

pytestmark = pytest.mark.usefixtures("no_timing", "no_plots")
RUNGS = len(ladder())
AMOUNTS = [0.01 * i for i in range(1, RUNGS + 2)]


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def later(function: Callable[..., Any], place: str, count: int) -> Callable[..., Any]:
    """``function`` for the first ``count`` files of the folder, then no room."""
    left = [count]

    def write(path: Path, *more: Any) -> Any:
        if path.parent.name == place:
            left[0] -= 1
        return full() if left[0] < 0 else function(path, *more)

    return write


@pytest.fixture
def tuned(cli: Any, scene: Any, tmp_path: Path) -> Callable[..., Any]:
    """``tuned(code, *options)``: every rung is evaluated."""

    def run(code: int, *options: object) -> Any:
        start = ("--model", scene.model, *scene.words, "--output", tmp_path / "o.onnx")
        more = ("--strategy", "exhaustive", "--max-trials", RUNGS, "--runs-dir", tmp_path / "runs")
        return cli("tune", *(options or (*start, *more)), code=code)

    return run


@pytest.mark.parametrize("place", ["trials", "models"])
def test_what_is_finished_stays(
    place: str, tuned: Any, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = engine(*AMOUNTS)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", later(Path.write_bytes, place, 2))
        said = tuned(2)
    run = only(tmp_path / "runs")
    first, second = said.complaint[-2:]
    assert "the disk is full." in first
    assert f"quantlab tune --resume {run} goes on" in second
    kept = finished(run)
    assert len(kept) == 2
    assert not list(run.rglob("*.part"))
    tuned(0, "--resume", run)
    assert {digest: finished(run)[digest] for digest in kept} == kept
    assert len(finished(run)) == RUNGS
    assert fake.calls <= RUNGS + 1
    assert load_record(run).status == "success"


def test_an_engine_without_room_is_not_a_failed_trial(
    tuned: Any, engine: Any, tmp_path: Path
) -> None:
    engine(0.01, OSError(errno.ENOSPC, "No space left on device"))
    said = tuned(2)
    assert said.complaint[-2] == "Error: the disk is full."
    assert [t.status for t in finished(only(tmp_path / "runs")).values()] == ["done"]


def test_a_study_that_cannot_be_written_ends_it_in_two_lines(
    tuned: Any, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = engine(*AMOUNTS)

    def no_room(*_: object) -> None:
        raise StorageInternalError("Failed to commit") from OSError("database or disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("optuna.Study.add_trial", no_room)
        said = tuned(2)
    assert said.complaint[-2] == "Error: cannot write the Optuna study: database or disk is full."
    assert fake.calls == 1
    tuned(0, "--resume", only(tmp_path / "runs"))
    assert fake.calls == RUNGS


def test_a_report_without_room_says_how_to_go_on(
    tuned: Any, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = engine(*AMOUNTS)
    with monkeypatch.context() as patch:
        patch.setattr("quantlab.report.files.write_page", full)
        said = tuned(2)
    run = only(tmp_path / "runs")
    assert said.complaint[-2] == "Error: the disk is full."
    assert f"quantlab tune --resume {run} goes on" in said.complaint[-1]
    assert load_record(run).status == "error"
    tuned(0, "--resume", run)
    assert (fake.calls, (run / "report.md").is_file()) == (RUNGS, True)


def only(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def finished(run: Path) -> dict[str, Trial]:
    return {trial.digest: trial for trial in TrialStore(run).trials() if trial.status == "done"}
