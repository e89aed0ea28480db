"""Audits on images: which pipeline is found, what it costs a second time, who is warned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab._util.reporter import NullReporter
from quantlab.data import preprocess
from quantlab.data.crops import Crops, load_crops
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline, get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError, MissingExtraError
from quantlab.inspect.preprocessing_audit import Audit
from quantlab.model.model import Model
from quantlab.testing import listed_folder, tiny_classifier
from quantlab.verbs import preprocessing_audit as job
from quantlab.verbs.inputs import DataOptions, LocatedDataset
from quantlab.verbs.preprocessing_audit import FirstAnswers, first_answers, full_audit, quick_audit

ALL = slice(None)
TF, CAFFE = (get_pipeline(name, 32) for name in ("tf", "caffe"))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


@pytest.fixture
def dataset(model: Model, tmp_path: Path) -> Dataset:
    """Eighty images that the model is always right about through ``tf``."""
    folder = listed_folder(tmp_path / "images", [i % 10 for i in range(80)], size=40)
    found = open_dataset(folder)
    crops = load_crops(found, TF, cache_dir=tmp_path / "elsewhere")
    with first_answers(model, 1) as ask:
        return replace(found, labels=ask(crops, TF, ALL))


@pytest.fixture
def crops(dataset: Dataset, tmp_path: Path) -> Callable[[Pipeline], Crops]:
    return lambda pipeline: load_crops(dataset, pipeline, cache_dir=tmp_path / "crops")


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The models of all sessions that were opened."""
    opened: list[Model] = []
    real = job.ParallelRunner

    def counted(model: Model, *rest: object) -> object:
        opened.append(model)
        return real(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(job, "ParallelRunner", counted)
    return opened


def audited(model: Model, dataset: Dataset, chosen: Pipeline) -> Audit:
    found = LocatedDataset(dataset, "--data")
    return full_audit(model, found, chosen, DataOptions(), NullReporter(), threads=1)


def test_the_pipeline_that_is_always_right_is_found(model: Model, dataset: Dataset) -> None:
    found = audited(model, dataset, CAFFE)
    assert (found.images, found.best.name, found.best.top1.value) == (80, "tf", 1.0)
    assert found.of_chosen.name == "caffe"
    assert found.of_chosen.surely_worse
    assert {x.sees for x in found.group} == {"−1 to 1 in RGB"}
    assert len(found.tried) == 16


def test_the_same_audit_again_runs_nothing(
    model: Model, dataset: Dataset, sessions: list[Model]
) -> None:
    first = audited(model, dataset, TF)
    assert len(sessions) == 1
    again = audited(model, dataset, TF)
    assert (again, len(sessions)) == (first, 1)
    wrong = replace(dataset, labels=np.zeros(80, np.int64))
    assert audited(model, wrong, TF).best != first.best


def test_unreadable_images_are_left_out_of_every_pipeline(
    model: Model, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One image is too elongated for one geometry only."""
    crop = Pipeline.crop_image

    def some(self: Pipeline, image: object) -> object:
        seen.append(self.resizer)
        if self.resizer == "pillow-bicubic" and seen.count(self.resizer) == 3:
            raise DataError("too elongated.")
        return crop(self, image)  # type: ignore[arg-type]

    seen: list[str] = []
    monkeypatch.setattr(Pipeline, "crop_image", some)
    options = DataOptions(max_bad=0.5)
    found = full_audit(model, LocatedDataset(dataset, "x"), TF, options, NullReporter(), threads=1)
    assert (found.images, found.best.top1.value) == (79, 1.0)


def test_a_missing_resizer_is_named(
    model: Model, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> object:
        raise MissingExtraError("opencv-python-headless", "opencv", "The resizer")

    monkeypatch.setattr(preprocess, "_opencv", missing)
    found = audited(model, dataset, TF)
    theirs = {"inc", "paddle", "mxnet", "caffe2"}
    assert set(found.left_out) == theirs | {"inc in BGR", "mxnet in BGR"}
    assert "not installed" in found.left_out["inc"]
    assert len(found.tried) == 10
    with pytest.raises(MissingExtraError):
        audited(model, dataset, get_pipeline("inc", 32))


def test_without_labels_there_is_nothing_to_tell(model: Model, dataset: Dataset) -> None:
    with pytest.raises(DataError, match="has no labels"):
        audited(model, replace(dataset, labels=None), TF)


def test_the_wrong_way_to_normalize_is_warned_of(
    model: Model, crops: Callable[[Pipeline], Crops], sessions: list[Model]
) -> None:
    for _ in range(2):
        reporter = NullReporter()
        quick_audit(model, crops(CAFFE), reporter, 1)
        (warning,) = reporter.warnings
        assert warning.startswith("The pipeline caffe seems wrong for m: on 80 images")
        assert "with −1 to 1 in RGB (as tf) 100.0%" in warning
        assert "give --pipeline tf" in warning
        assert warning.count("\n") == 1
    assert len(sessions) == 1


def test_nothing_is_said_when_all_is_well_or_nothing_can_be_told(
    model: Model, crops: Callable[[Pipeline], Crops], sessions: list[Model]
) -> None:
    reporter = NullReporter()
    quick_audit(model, crops(TF), reporter, 1)
    assert len(sessions) == 1
    quick_audit(model, replace(crops(CAFFE), labels=None), reporter, 1)
    assert (reporter.warnings, len(sessions)) == ([], 1)


def test_a_right_pipeline_costs_a_few_images_only(
    model: Model, crops: Callable[[Pipeline], Crops], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    @contextmanager
    def only_tf_is_right(model: Model, threads: int) -> Iterator[FirstAnswers]:
        def ask(crops: Crops, pipeline: Pipeline, rows: slice) -> np.ndarray:  # type: ignore[type-arg]
            assert crops.labels is not None
            asked.append((pipeline.name, len(crops.labels[rows])))
            return crops.labels[rows] - (pipeline.name != "tf")

        yield ask

    monkeypatch.setattr(job, "first_answers", only_tf_is_right)
    reporter = NullReporter()
    quick_audit(model, crops(TF), reporter)
    others = ("torchvision", "caffe", "mxnet", "caffe2")
    assert asked == [("tf", 16), *((name, 16) for name in others)]
    asked.clear()
    quick_audit(model, crops(CAFFE), reporter)
    assert asked[5:] == [("caffe", 80), ("tf", 80)]
    assert len(reporter.warnings) == 1
