"""Runs logged with MLflow, in a folder and in a database of its own."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from quantlab.errors import MissingExtraError, QuantlabError
from quantlab.runs.entry import entry_of
from quantlab.runs.folders import timing_of
from quantlab.runs.mlflow import RUN, log_run, metrics_of
from quantlab.runs.record import load_record
from quantlab.testing.runs import fake_run

pytestmark = pytest.mark.filterwarnings("ignore")
"""Of MLflow's own code."""


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing goes out, and nothing stays set."""
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.parametrize("to", ["store", "sqlite:///mlflow.db"])
def test_a_run_is_there_with_all_that_it_left(tmp_path: Path, to: str) -> None:
    from mlflow import MlflowClient

    started, spec = "2026-01-02T03:04:05+00:00", {"seed": 0, "size": None, "bench": {"rounds": 3}}
    folder = fake_run(tmp_path / "runs", ms=5.0, started=started, spec=spec)
    logged = log_run(folder, to=to, experiment="mine")
    assert logged.new
    uri = (tmp_path / to).as_uri() if to == "store" else to
    client = MlflowClient(tracking_uri=uri)
    run = client.get_run(logged.run_id)
    record = load_record(folder)
    comparison = record.results["comparison"]
    metrics = run.data.metrics
    assert metrics["top1"] == pytest.approx(comparison["int8"]["top1"]["value"])
    assert metrics["tiny.top1"] == pytest.approx(comparison["fp32"]["top1"]["value"])
    assert metrics["agreement.low"] == comparison["fidelity"]["agreement"]["interval"]["low"]
    assert metrics["latency.batch.1"] == pytest.approx(5.1, rel=0.05)
    assert run.data.params == {"seed": "0", "bench.rounds": "3"}
    assert run.data.tags[RUN] == record.id
    assert run.data.tags["quantlab.command"] == record.command
    assert run.data.tags["quantlab.environment.isa"] == "avx512-vnni"
    assert (run.info.status, run.info.run_name) == ("FINISHED", record.id)
    assert run.info.start_time == 1_767_323_045_000
    files = {file.path for file in client.list_artifacts(logged.run_id)}
    assert files == {"run.json", *record.artifacts.values()}


def test_what_is_there_already_stays(tmp_path: Path) -> None:
    first, second = (fake_run(tmp_path / "runs", n=20) for _ in range(2))
    logged = log_run(first, to="store")
    again = log_run(first, to="store")
    assert (again.run_id, again.new) == (logged.run_id, False)
    assert log_run(second, to="store").run_id != logged.run_id


def test_odd_names_and_many_options(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    spec = {f"option {i} é": "x" * 9999 for i in range(250)}
    folder = fake_run(tmp_path / "runs", n=20, name="net (é) \x1b", spec=spec)
    run = MlflowClient((tmp_path / "store").as_uri()).get_run(log_run(folder, to="store").run_id)
    assert len(run.data.params) == 250
    assert "top1" in run.data.metrics


def test_a_failed_run(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = fake_run(tmp_path, n=20, status="error", error="no images", results={}, started="?")
    run = MlflowClient((tmp_path / "store").as_uri()).get_run(log_run(folder, to="store").run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["quantlab.error"] == "no images"


def test_metrics_of_two_models(tmp_path: Path) -> None:
    folder = fake_run(tmp_path, ms=5.0)
    record = load_record(folder)
    found = metrics_of(entry_of(record, folder.name, timing_of(folder, record)))
    assert {"top1", "tiny.top1", "latency.batch.1", "tiny.latency.batch.1", "decline.high"} <= set(
        found
    )


def test_a_place_that_cannot_be(tmp_path: Path) -> None:
    folder = fake_run(tmp_path, n=20)
    (tmp_path / "file").write_text("")
    for place in ("file", "nonsense://x"):
        with pytest.raises(QuantlabError, match="MLflow did not take") as caught:
            log_run(folder, to=place)
        assert len(str(caught.value).splitlines()) == 2


def test_without_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = fake_run(tmp_path, n=20), builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "mlflow":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"quantlab\[mlflow\]"):
        log_run(folder)
