"""Quantized files that are known already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import Model
from quantlab.quantize import cached_files, get_engine
from quantlab.quantize.cached_files import file_key, keep_model, recall_model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.recipe import Recipe
from quantlab.testing import image_folder, tiny_classifier
from quantlab.verbs.quantize import quantized

PIPELINE = {
    "resizer": "pillow-bilinear",
    "resize": 36,
    "crop": 32,
    "mean": [100, 110, 120],
    "std": [50, 60, 70],
}
RECIPE = Recipe(rounding="nearest", range_search=False)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "tiny.onnx"))


@pytest.fixture
def images(tmp_path: Path, model: Model) -> CalibrationImages:
    folder = image_folder(tmp_path / "images", 4, per_class=2, size=40)
    pipeline = get_pipeline(PIPELINE)
    crops = load_crops(open_dataset(folder), pipeline, cache_dir=tmp_path / "crops")
    return CalibrationImages(crops, model.input)


def test_the_key_changes_with_all_that_makes_the_file(
    model: Model, images: CalibrationImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    crops = images.crops
    others = [
        (replace(model, sha256="0" * 64), RECIPE, images),
        (replace(model, output_kind="probabilities"), RECIPE, images),
        (model, RECIPE.model_copy(update={"name": "other"}), images),
        (model, RECIPE.model_copy(update={"seed": 1}), images),
        (model, RECIPE, replace(images, crops=replace(crops, digests=crops.digests[::-1]))),
        (model, RECIPE, replace(images, crops=replace(crops, digests=crops.digests[1:]))),
    ]
    keys = [file_key(model, RECIPE, images), *(file_key(*other) for other in others)]
    monkeypatch.setattr(cached_files, "environment", lambda: {"isa": "other"})
    keys.append(file_key(model, RECIPE, images))
    monkeypatch.setattr(cached_files, "source_digest", lambda: "other")
    keys.append(file_key(model, RECIPE, images))
    assert len(set(keys)) == len(keys)


def test_a_file_is_made_once(
    model: Model, images: CalibrationImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = get_engine("quantlab")
    first = quantized(model, RECIPE, images, engine)
    monkeypatch.setattr(QuantlabEngine, "quantize", None)
    assert quantized(model, RECIPE, images, engine) == first
    with pytest.raises(TypeError):
        quantized(model, Recipe(), images, engine)


def test_what_other_engines_make_is_not_kept(
    model: Model, images: CalibrationImages, tmp_path: Path
) -> None:
    class Counting(QuantlabEngine):
        name = "theirs"
        calls = 0

        def quantize(self, *args):  # type: ignore[no-untyped-def]
            Counting.calls += 1
            return super().quantize(*args)

    engine = Counting()
    assert quantized(model, RECIPE, images, engine) == quantized(model, RECIPE, images, engine)
    assert Counting.calls == 2
    assert not (tmp_path / "cache" / "models").exists()


def test_a_damaged_file_is_not_believed(tmp_path: Path) -> None:
    keep_model(b"a model", "0" * 32, "it", tmp_path)
    assert recall_model("0" * 32, tmp_path) == b"a model"
    (tmp_path / f"{'0' * 32}.onnx").write_bytes(b"a modem")
    assert recall_model("0" * 32, tmp_path) is None
    (tmp_path / f"{'0' * 32}.onnx").unlink()
    assert recall_model("0" * 32, tmp_path) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    keep_model(b"a model", "0" * 32, "it", tmp_path / "file")
    assert recall_model("0" * 32, tmp_path / "file") is None
