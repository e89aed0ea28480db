"""Ahead: groups, rounds, and what became of each recipe."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from quantlab._util.reporter import NullReporter
from quantlab._util.timeline import Timeline
from quantlab.cluster.shards import Sharded
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import QuantizeError
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.quantize.engine import QuantlabEngine
from quantlab.recipe import Recipe
from quantlab.testing import image_folder, tiny_classifier
from quantlab.testing.cluster import FakeExecutor
from quantlab.verbs.prefetch import FirstFile, RecipePrefetcher, together
from quantlab.verbs.quantize import made, quantized

QDQ, QOPERATOR = Recipe(name="qdq"), Recipe(name="qoperator", format="qoperator")
PLAIN = Recipe(name="plain", equalize=False, rounding="nearest", range_search=False)
ORT = Recipe(name="ort", engine="ort")
FAILS = Recipe(name="fails", exclude=("nothing",))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def images(tmp_path: Path, model: Model) -> CalibrationImages:
    pipeline = get_pipeline("torchvision", size=32)
    dataset = open_dataset(image_folder(tmp_path / "images", 4, size=40))
    return CalibrationImages(load_crops(dataset, pipeline, cache_dir=tmp_path / "c"), model.input)


def ahead(
    model: Model, images: Any, *recipes: Recipe, workers: int = 2
) -> tuple[RecipePrefetcher, Any]:
    executor = FakeExecutor(workers)
    return RecipePrefetcher(Sharded(executor), model, images, recipes, NullReporter()), executor


def test_formats_of_one_plan_are_made_together() -> None:
    assert together([PLAIN, ORT, QDQ, QOPERATOR]) == [[PLAIN], [ORT], [QDQ, QOPERATOR]]


def test_files_are_those_made_here(model: Model, images: CalibrationImages) -> None:
    recipes = (PLAIN, QDQ, QOPERATOR, ORT)
    found, _ = ahead(model, images, *recipes)
    for recipe in recipes:
        expected = made(model, recipe, images, get_engine(recipe.engine))
        assert found.take(recipe) == expected


def test_as_many_groups_as_workers_are_made_at_once(
    model: Model, images: CalibrationImages
) -> None:
    found, executor = ahead(model, images, PLAIN, ORT, QDQ, QOPERATOR)
    found.take(PLAIN)
    assert len(executor.near) == 2
    found.take(ORT)
    assert len(executor.near) == 2
    found.take(QOPERATOR)
    found.take(QDQ)
    assert len(executor.near) == 3


def test_others_are_nobodys(model: Model, images: CalibrationImages) -> None:
    peer = Recipe(name="peer", engine="inc", ranges="minmax")
    found, executor = ahead(model, images, PLAIN, peer)
    assert found.take(peer) is None
    assert found.take(QDQ) is None
    assert found.take(PLAIN) is not None
    assert found.take(PLAIN) is None
    assert len(executor.near) == 1


def test_an_engines_refusal_comes_when_the_file_is_wanted(
    model: Model, images: CalibrationImages
) -> None:
    found, _ = ahead(model, images, PLAIN, FAILS)
    assert found.take(PLAIN) is not None
    with pytest.raises(QuantizeError) as alone:
        made(model, FAILS, images, get_engine("quantlab"))
    with pytest.raises(QuantizeError) as error:
        found.take(FAILS)
    assert str(error.value) == str(alone.value)


def test_a_crash_is_told_as_here(
    model: Model, images: CalibrationImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise ValueError("boom")

    monkeypatch.setattr(QuantlabEngine, "quantize", crash)
    found, _ = ahead(model, images, PLAIN)
    with pytest.raises(QuantizeError, match="quantlab crashed: ValueError: boom"):
        found.take(PLAIN)


def test_what_is_known_is_not_made_again(model: Model, images: CalibrationImages) -> None:
    expected = quantized(model, PLAIN, images, get_engine("quantlab"))
    found, executor = ahead(model, images, PLAIN)
    assert found.take(PLAIN) == expected
    assert executor.near == []
    found, _ = ahead(model, images, QDQ)
    assert found.take(QDQ) == quantized(model, QDQ, images, get_engine("ort"))


def first_file(model: Model, images: CalibrationImages, engine: Any = None) -> FirstFile:
    made_by = QuantlabEngine() if engine is None else engine
    return FirstFile(model, images, QDQ, made_by, Timeline(), NullReporter())


def test_the_first_file_is_the_one_made_here(model: Model, images: CalibrationImages) -> None:
    expected = made(model, QDQ, images, QuantlabEngine())
    with first_file(model, images) as first:
        assert first.take(PLAIN) is None
        assert first.take(QDQ) == expected
        assert first.take(QDQ) is None


class Refusing(QuantlabEngine):
    def quantize(self, *_: Any) -> Any:
        raise QuantizeError("not this one.")


def test_the_first_files_error_comes_when_it_is_wanted(
    model: Model, images: CalibrationImages
) -> None:
    with first_file(model, images, Refusing()) as first, pytest.raises(QuantizeError):
        first.take(QDQ)


class Endless(QuantlabEngine):
    """Looks at the images again and again."""

    def quantize(self, model: Any, recipe: Any, calibration: CalibrationImages) -> Any:
        started.set()
        while True:
            for _ in calibration:
                pass


started = threading.Event()


def test_leaving_the_block_ends_the_thread(model: Model, images: CalibrationImages) -> None:
    with first_file(model, images, Endless()):
        assert started.wait(60)
    with pytest.raises(CancelledError):
        next(iter(images))
