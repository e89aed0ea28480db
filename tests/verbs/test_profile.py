"""A real profile of tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab._util.reporter import NullReporter
from quantlab.errors import ModelError
from quantlab.inspect.profile import Profile
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.report.profile import profile_summary
from quantlab.runs.run import Run
from quantlab.testing import tiny_classifier
from quantlab.verbs.profile import RUNS, TURNS, ProfileOptions, profile_named_models, profiled
from quantlab.verbs.publish import publish


class Images(list[np.ndarray]):
    """Calibration batches; its length is that of all images."""

    def __len__(self) -> int:
        return sum(map(len, self))


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


def test_openvino_s_profile_stands_beside_onnx_runtime_s(files: tuple[Path, ...]) -> None:
    fp32 = Model.load(files[0])
    models = [fp32, fp32.with_overrides(runtime="openvino")]
    first, second = profiled(models, ProfileOptions(models=()), NullReporter())
    assert (first.runtime, second.runtime) == ("onnxruntime", "openvino")
    assert second.runs == TURNS * RUNS
    assert {"Conv", "GlobalAveragePool"} <= first.by_operator().keys() & second.by_operator().keys()
    assert all(node.kind != "int8" and node.kernel for node in second.nodes)
    assert {node.reason for node in second.of_kind("fp32")} == {"the model is not quantized"}
    assert "nodes in OpenVINO" in profile_summary([first, second])
    assert "OpenVINO" not in profile_summary([first])


def test_openvino_says_which_nodes_are_in_int8(files: tuple[Path, ...], tmp_path: Path) -> None:
    model = Model.load(files[0])
    recipe = Recipe(engine="ort", ranges="minmax")
    batches = [np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)]
    proto = get_engine("ort").quantize(model, recipe, Images(batches))
    path = Model.of(proto).save(tmp_path / "int8.xml")
    (found,) = profiled([Model.load(path)], ProfileOptions(models=()), NullReporter())
    assert found.is_quantized
    assert any(node.kernel.endswith("I8") for node in found.of_kind("int8"))
    assert all(node.reason for node in found.of_kind("fp32"))


def test_time_is_bounded(files: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.verbs.profile.SECONDS", 0.0)
    (found,) = profiled([Model.load(files[0])], ProfileOptions(models=()), NullReporter())
    assert found.runs == RUNS - 1


def test_a_model_that_does_not_run_at_this_batch(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "fixed.onnx", batch=3))
    with pytest.raises(ModelError, match="cannot run"):
        profiled([model], ProfileOptions(models=()), NullReporter())
