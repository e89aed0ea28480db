"""The verbs on real models and real ImageNet images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.evaluate.predictions import Predictions

pytestmark = pytest.mark.data
MODELS = {
    "st-mobilenetv2-int8-nhwc-uint8": (None, 0.739, "probabilities", "NHWC", "uint8", None),
    "squeezenet1.1-caffe": ("caffe", 0.707, "logits", "NCHW", "float32", None),
    "mobilenetv1-tf": ("tf", 0.788, None, None, "float32", None),
    "shufflenet-v2-12-int8": (None, 0.780, "logits", "NCHW", "float32", 1),
}
"""Pipeline to name, top-1 on all of val1300, then what is to be detected (None: whatever it is)."""
FIRST, AUDITED = 100, 50


@pytest.fixture
def models(data_root: Path) -> Path:
    return data_root / "models"


@pytest.fixture(autouse=True)
def _shared_cache(shared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops and answers that the tests of this file share, in whichever process they run."""
    monkeypatch.setenv("QUANTLAB_CACHE", str(shared_folder / "real-models"))


@pytest.fixture
def first_images(data_root: Path, tmp_path: Path) -> tuple[str, ...]:
    """The options that name the first hundred images."""
    folder = data_root / "imagenet" / "val1300"
    lines = (folder / "val.txt").read_text().splitlines(keepends=True)
    (tmp_path / "first.txt").write_text("".join(lines[:FIRST]))
    return ("--data", str(folder), "--list", str(tmp_path / "first.txt"))


@pytest.fixture
def unchanged(models: Path) -> Callable[[], dict[str, tuple[int, int]]]:
    """Size and time of every model file."""
    return lambda: {p.name: (p.stat().st_size, p.stat().st_mtime_ns) for p in models.iterdir()}


@pytest.mark.parametrize("name", MODELS)
def test_evaluate(
    name: str, cli: Any, models: Path, first_images: tuple[str, ...], unchanged: Any
) -> None:
    pipeline, expected, kind, layout, dtype, batch = MODELS[name]
    before = unchanged()
    more = ("--pipeline", pipeline) if pipeline else ()
    said = cli("evaluate", models / f"{name}.onnx", *first_images, *more)
    results = said.record.results
    assert results["data"]["images"] == FIRST
    assert abs(results["accuracy"]["top1"]["value"] - expected) < 0.12
    assert results["accuracy"]["top5"]["value"] > 0.85
    assert results["pipeline"]["name"] == (pipeline or "torchvision")
    assert results["pipeline"]["resize"] == 256
    assert results["pipeline"]["crop"] == results["model"]["input"]["height"]
    assert results["model"]["input"]["dtype"] == dtype
    assert results["model"]["input"]["batch"] == batch
    assert results["model"]["output_kind"] == (kind or results["model"]["output_kind"])
    assert results["model"]["input"]["layout"] == (layout or results["model"]["input"]["layout"])
    assert unchanged() == before


def test_squeezenets_pipeline_is_bgr_at_227(cli: Any, models: Path, first_images: Any) -> None:
    line = (models / "squeezenet1.1-caffe.onnx", *first_images, "--pipeline", "caffe")
    pipeline = cli("evaluate", *line).record.results["pipeline"]
    assert (pipeline["color"], pipeline["crop"], pipeline["mean"]) == ("BGR", 227, [104, 117, 123])


def test_a_model_with_itself(
    cli: Any, models: Path, first_images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantlab.bench.harness import bench

    def quick(subjects: Any, **settings: Any) -> Any:
        return bench(subjects, **{**settings, "seconds": 2.0, "rounds": 6})

    monkeypatch.setattr("quantlab.verbs.bench.bench", quick)
    model = models / "mobilenetv2-12.onnx"
    proto = onnx.load(model)
    proto.producer_name = "another"  # one and the same file would not be timed
    onnx.save(proto, "copy.onnx")
    said = cli("compare", model, "copy.onnx", *first_images)
    assert said.warnings == []
    assert said.record.results["data"]["images"] == FIRST
    comparison = said.record.results["comparison"]
    top1, fidelity = comparison["top1"], comparison["fidelity"]
    assert (top1["difference"], top1["ratio"], top1["lost"], top1["gained"]) == (0, 0, 0, 0)
    assert (fidelity["agreement"]["value"], fidelity["kl"]) == (1, 0)
    assert fidelity["identical"]
    (speed,) = comparison["speeds"]
    low, high = speed["interval"]["low"], speed["interval"]["high"]
    assert low < 1.1
    assert high > 0.9
    assert said.out.startswith("PASS")


@pytest.mark.parametrize("name", ["mobilenetv2-12", "mobilenetv2-12-int8", "squeezenet1.1-caffe"])
def test_no_batch_and_no_split_changes_a_bit(
    name: str, cli: Any, models: Path, first_images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = MODELS[name][0] if name in MODELS else "torchvision"
    few = ("--list", "few.txt")
    Path("few.txt").write_text("".join(Path("first.txt").read_text().splitlines(True)[:33]))
    line = ("evaluate", models / f"{name}.onnx", *first_images[:2], *few, "--pipeline", pipeline)
    outputs = []
    for words in ((), ("--batch-size", 7), ("--split", "1x2"), ("--threads", 1)):
        monkeypatch.setattr("quantlab.verbs.evaluate.recall_outputs", lambda *_: None)
        said = cli(*line, *words)
        outputs.append(Predictions.load(said.folder / "predictions.npz").outputs)
    assert all(np.array_equal(found, outputs[0]) for found in outputs[1:])


def test_a_folded_normalization_changes_last_bits_only(
    cli: Any, models: Path, first_images: Any
) -> None:
    line = ("evaluate", models / "mobilenetv2-12.onnx", *first_images)
    plain, folded = (
        Predictions.load(cli(*line, *words).folder / "predictions.npz").outputs
        for words in ((), ("--fold-preprocess",))
    )
    np.testing.assert_allclose(folded, plain, rtol=1e-3, atol=1e-3)
    assert not np.array_equal(folded, plain)


@pytest.mark.parametrize(
    ("name", "sees"),
    [
        ("mobilenetv2-12", "ImageNet mean/std in RGB"),
        ("squeezenet1.1-caffe", "minus 104,117,123 in BGR"),
        ("st-mobilenetv2-int8-nhwc-uint8", "raw pixels in RGB"),
    ],
)
def test_preprocess_audit(
    name: str, sees: str, cli: Any, models: Path, first_images: tuple[str, ...]
) -> None:
    few = "".join(Path("first.txt").read_text().splitlines(True)[:AUDITED])
    Path("few.txt").write_text(few)
    words = (models / f"{name}.onnx", *first_images[:2], "--list", "few.txt")
    said = cli("inspect", "--preprocess-audit", *words, "--runs-dir", "runs")
    assert f"rained for {sees}" in said.out
    assert said.record.results["tried"][0]["top1"]["n"] == AUDITED
