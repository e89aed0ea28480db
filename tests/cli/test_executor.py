"""--executor: the same results, wherever they are computed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from quantlab.evaluate.predictions import Predictions
from quantlab.testing.cluster import FakeExecutor
from quantlab.tune.trial_store import TrialStore

pytestmark = pytest.mark.usefixtures("no_timing", "no_database", "no_plots")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> FakeExecutor:
    """What ``process`` opens, without any process; answers in the cache are forgotten before."""
    from contextlib import contextmanager

    fake = FakeExecutor()

    @contextmanager
    def opened(count: int) -> Any:
        shutil.rmtree(Path("cache"), ignore_errors=True)
        yield fake

    monkeypatch.setattr("quantlab.cluster.processes.processes", opened)
    return fake


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_evaluate(cli: Any, scene: Any, elsewhere: FakeExecutor) -> None:
    alone = cli("evaluate", scene.model, *scene.words)
    found = cli("evaluate", scene.model, *scene.words, "--executor", "process:2")
    assert found.out == alone.out
    assert "Work goes to process:2: 2 shards at a time." in found.err
    assert elsewhere.near
    files = [said.folder / "predictions.npz" for said in (alone, found)]
    assert sha256(files[0]) == sha256(files[1])
    results = [said.record.results for said in (alone, found)]
    assert results[0] == results[1]
    assert "--executor process:2" in " ".join(found.repeat)


def test_real_processes(cli: Any, scene: Any) -> None:
    alone = cli("evaluate", scene.model, *scene.words)
    shutil.rmtree("cache")
    found = cli("evaluate", scene.model, *scene.words, "--executor", "process:2")
    assert found.out == alone.out
    answers = [Predictions.load(said.folder / "predictions.npz") for said in (alone, found)]
    assert (answers[0].outputs == answers[1].outputs).all()


def test_answers_that_workers_gave_are_kept_here(
    cli: Any, scene: Any, elsewhere: FakeExecutor
) -> None:
    cli("evaluate", scene.model, *scene.words, "--executor", "process")
    again = cli("evaluate", scene.model, *scene.words)
    assert "answers from the cache" in again.err


@pytest.mark.parametrize("more", [(), ("--early-stop",)])
def test_compare(
    cli: Any, scene: Any, elsewhere: FakeExecutor, more: tuple[str, ...], tmp_path: Path
) -> None:
    cli("quantize", "--model", scene.model, "--output", "int8.onnx", *scene.words)
    line = ("compare", scene.model, "int8.onnx", *scene.words, *more)
    alone = cli(*line, code=None)
    found = cli(*line, "--executor", "process", code=None)
    assert elsewhere.near
    assert (found.code, found.out) == (alone.code, alone.out)
    for name in ("fp32-predictions.npz", "int8-predictions.npz"):
        assert sha256(alone.folder / name) == sha256(found.folder / name)
    assert alone.record.results == found.record.results


def test_gate(cli: Any, scene: Any, elsewhere: FakeExecutor) -> None:
    cli("quantize", "--model", scene.model, "--output", "int8.onnx", *scene.words)
    line = ("gate", scene.model, "int8.onnx", *scene.words, "--require", "agreement >= 50%")
    alone = cli(*line, code=None)
    found = cli(*line, "--executor", "process", code=None)
    assert elsewhere.near
    assert (found.code, found.out) == (alone.code, alone.out)


@pytest.mark.parametrize("images", [(), ("--seed", "3")])
def test_quantize(cli: Any, scene: Any, elsewhere: FakeExecutor, images: tuple[str, ...]) -> None:
    line = ("quantize", "--model", scene.model, *scene.words, *images)
    cli(*line, "--output", "alone.onnx")
    cli(*line, "--output", "found.onnx", "--executor", "process")
    assert elsewhere.near
    assert sha256(Path("alone.onnx")) == sha256(Path("found.onnx"))


@pytest.mark.parametrize("strategy", ["ladder", "grid", "tpe"])
def test_tune(cli: Any, scene: Any, elsewhere: FakeExecutor, strategy: str) -> None:
    line = ("tune", "--model", scene.model, *scene.words, "--strategy", strategy)
    limits = ("--max-trials", 3, "--criterion", "agreement >= 1%")
    alone = cli(*line, *limits, "--output", "alone.onnx")
    found = cli(*line, *limits, "--output", "found.onnx", "--executor", "process:2")
    assert elsewhere.near
    assert sha256(Path("alone.onnx")) == sha256(Path("found.onnx"))

    def trials(said: Any) -> list[dict[str, Any]]:
        known = TrialStore(said.folder).trials()
        return [trial.model_dump(exclude={"seconds"}) for trial in known]

    assert trials(found) == trials(alone)


def test_tune_with_an_engine_that_fails_on_a_worker(
    cli: Any, scene: Any, elsewhere: FakeExecutor
) -> None:
    (Path("quantlab.yaml")).write_text("search: {format: [qdq], exclude: [[], [nothing]]}\n")
    line = ("tune", "--model", scene.model, *scene.words, "--strategy", "grid", "--config")
    alone = cli(*line, "quantlab.yaml", "--criterion", "agreement >= 1%", "--output", "a.onnx")
    found = cli(
        *(*line, "quantlab.yaml", "--criterion", "agreement >= 1%", "--output", "b.onnx"),
        *("--executor", "process"),
    )
    errors = [[t.error for t in TrialStore(said.folder).trials()] for said in (alone, found)]
    assert errors[0] == errors[1]
    assert any(errors[0])


@pytest.mark.parametrize(
    ("text", "said"),
    [("threads", "'threads' is no executor"), ("dask://127.0.0.1:1", "no Dask scheduler answers")],
)
def test_who_is_not_there(
    cli: Any, scene: Any, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quantlab.cluster.scheduler.OPEN_SECONDS", 0.5)
    for line in (
        ("evaluate", scene.model, *scene.words),
        ("quantize", "--model", scene.model, "--output", "o.onnx", *scene.words),
        ("tune", "--model", scene.model, *scene.words),
    ):
        found = cli(*line, "--executor", text, code=2)
        assert said in found.err
    assert not Path("o.onnx").exists()


def test_data_by_url(cli: Any, scene: Any, elsewhere: FakeExecutor) -> None:
    pytest.importorskip("fsspec", reason="quantlab[cluster] is not installed")
    words = ("--data", scene.data.as_uri(), *scene.words[2:])
    alone = cli("evaluate", scene.model, *scene.words)
    found = cli("evaluate", scene.model, *words, "--executor", "process")
    assert found.out == alone.out
    assert found.record.results["data"]["root"] == scene.data.as_uri()
    assert found.record.results["data"]["digest"] == alone.record.results["data"]["digest"]
    Path("quantlab.yaml").write_text(json.dumps({"eval_data": scene.data.as_uri()}))
    configured = cli("evaluate", scene.model, *scene.words[2:])
    assert configured.out == alone.out
