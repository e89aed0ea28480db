"""A real profile of tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantlab._util.reporter import NullReporter
from quantlab.errors import ModelError
from quantlab.inspect.profile import Profile
from quantlab.model.model import Model
from quantlab.report.profile import profile_summary
from quantlab.runs.run import Run
from quantlab.testing import tiny_classifier
from quantlab.verbs.profile import RUNS, TURNS, ProfileOptions, profile_named_models, profiled
from quantlab.verbs.publish import publish


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, ...]:
    (tmp_path / "models").mkdir()
    kinds: tuple[dict[str, Any], ...] = ({}, {"layout": "NHWC", "dtype": "uint8", "softmax": True})
    return tuple(
        tiny_classifier(tmp_path / "models" / f"{i}.onnx", **kind) for i, kind in enumerate(kinds)
    )


def test_the_record_the_file_and_the_plot(files: tuple[Path, ...], tmp_path: Path) -> None:
    models = tuple(map(str, files))
    with Run("bench", {}, "quantlab bench", tmp_path / "runs") as run:
        spec, reporter = ProfileOptions(models=models, batch_sizes=(2, 1)), NullReporter()
        found = publish(profile_named_models(spec, reporter, {"ratios": []}), run, reporter).value
    stored = json.loads((run.folder / "profile.json").read_text())
    assert tuple(Profile.model_validate(entry) for entry in stored) == found
    assert (run.folder / "profile.png").read_bytes().startswith(b"\x89PNG")
    assert set(run.record.artifacts) == {"profile", "profile plot"}
    results = run.record.results
    assert set(results) == {"ratios", "profile"}
    assert [facts["model"] for facts in results["profile"]["models"]] == ["0", "1"]
    assert results["profile"]["models"][0]["kernels"]["fp32"]["nodes"] > 3
    summary = profile_summary(found)
    for sentence in results["profile"]["answers"]:
        assert sentence in summary
    assert sorted(p.name for p in (tmp_path / "models").iterdir()) == ["0.onnx", "1.onnx"]


def test_every_run_but_the_warm_up_counts(files: tuple[Path, ...]) -> None:
    (found,) = profiled([Model.load(files[0])], ProfileOptions(models=()), NullReporter())
    assert found.runs == TURNS * (RUNS - 1)
    assert "Conv" in found.by_operator()
    assert all(node.kind != "int8" for node in found.nodes)
    assert found.run_ms > 0


def test_time_is_bounded(files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.verbs.profile.SECONDS", 0.0)
    (found,) = profiled([Model.load(files[0])], ProfileOptions(models=()), NullReporter())
    assert found.runs == RUNS - 1


def test_a_model_that_does_not_run_at_this_batch(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "fixed.onnx", batch=3))
    with pytest.raises(ModelError, match="cannot run"):
        profiled([model], ProfileOptions(models=()), NullReporter())
