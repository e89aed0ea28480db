"""Small results that are kept: made once, made again when anything they depend on changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import Model
from quantlab.testing import image_folder, tiny_classifier
from quantlab.verbs.cached_results import known_plot, remembered


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    folder = image_folder(tmp_path / "images", 4, per_class=2, size=40)
    return load_crops(open_dataset(folder), get_pipeline("tf", 32), cache_dir=tmp_path / "crops")


class Maker:
    """Counts how often it was asked."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self) -> int:
        self.made += 1
        return self.made


def test_made_once(model: Model, crops: Crops) -> None:
    make = Maker()
    first = remembered("count", (model,), crops, slice(4), make)
    assert remembered("count", (model,), crops, slice(4), make) == first == 1


def test_made_again_when_anything_else_is_asked(
    model: Model, crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Maker()
    other = Model.load(tiny_classifier(tmp_path / "other.onnx", seed=1))
    remembered("count", (model,), crops, slice(4), make)
    remembered("sum", (model,), crops, slice(4), make)
    remembered("count", (other,), crops, slice(4), make)
    remembered("count", (model, other), crops, slice(4), make)
    remembered("count", (model,), crops, slice(5), make)
    remembered("count", (replace(model, output_kind="probabilities"),), crops, slice(4), make)
    pipeline = crops.pipeline.model_copy(update={"mean": (1.0, 2.0, 3.0)})
    remembered("count", (model,), replace(crops, pipeline=pipeline), slice(4), make)
    monkeypatch.setattr("quantlab.verbs.cached_results.source_digest", lambda: "changed")
    remembered("count", (model,), crops, slice(4), make)
    assert make.made == 8


def test_a_damaged_file_is_made_again(model: Model, crops: Crops, tmp_path: Path) -> None:
    make = Maker()
    remembered("count", (model,), crops, slice(4), make)
    (kept,) = (tmp_path / "cache" / "checks").iterdir()
    for damage in ("", "[]", "{}", '{"of": "x"}', "\x00"):
        kept.write_text(damage)
        remembered("count", (model,), crops, slice(4), make)
    assert make.made == 6


def test_without_room_nothing_stays(
    model: Model, crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "0")
    assert remembered("count", (model,), crops, slice(4), Maker()) == 1
    assert list((tmp_path / "cache" / "checks").iterdir()) == []


def test_a_plot_is_drawn_once_and_nothing_to_see_is_kept_too() -> None:
    assert known_plot("a", [1], lambda: b"png") == b"png"
    assert known_plot("a", [1], lambda: b"other") == b"png"
    assert known_plot("a", [2], lambda: None) is None
    assert known_plot("a", [2], lambda: b"late") is None
    assert known_plot("b", [1], lambda: b"another") == b"another"
