"""Which images calibrate, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quantlab.data.crops import Crops, load_crops
from quantlab.data.dataset import Dataset, Problem
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError
from quantlab.jobs.calibration import calibration_images, check_disjoint, divided, drawn
from quantlab.jobs.inputs import DataOptions, Found
from quantlab.model import Model
from quantlab.recipe import Recipe
from quantlab.talk import Silence
from quantlab.testing import image_folder, tiny_classifier

PIPELINE = get_pipeline(
    {
        "resizer": "pillow-bilinear",
        "resize": 36,
        "crop": 32,
        "mean": [127, 127, 127],
        "std": [64, 64, 64],
    }
)


class Notes(Silence):
    """Remembers all that is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Kept."""
        self.said.append(text)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx", classes=30))


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Ten of the thirty classes, four images each."""
    return open_dataset(image_folder(tmp_path / "images", 10, per_class=4, size=40))


@pytest.fixture
def talk() -> Notes:
    return Notes()


def test_the_sample_is_stratified_and_seeded(model: Model, dataset: Dataset, talk: Notes) -> None:
    first, again, other = (drawn(dataset, model, Recipe(seed=s), talk) for s in (0, 0, 1))
    assert first.labels is not None
    assert first.labels.tolist() == list(range(10))
    assert first.names == again.names != other.names


def test_classes_without_an_image_are_named(model: Model, dataset: Dataset, talk: Notes) -> None:
    drawn(dataset, model, Recipe(), talk)
    first = ", ".join(str(c) for c in range(10, 20))
    assert talk.warnings == [f"20 of 30 classes have no calibration image: {first} and 10 more."]


def test_classes_are_called_by_their_first_name(
    model: Model, dataset: Dataset, talk: Notes
) -> None:
    names = tuple(f"kind {i}, species {i}, another" for i in range(30))
    drawn(replace(dataset, class_names=names), model, Recipe(), talk)
    assert ": kind 10, kind 11, kind 12" in talk.warnings[0]
    assert "species" not in talk.warnings[0]


@pytest.mark.parametrize("size", [1, 4, 29])
def test_who_asks_for_fewer_images_than_classes_is_not_warned(
    model: Model, dataset: Dataset, talk: Notes, size: int
) -> None:
    sample = drawn(dataset, model, Recipe(calibration_size=size), talk)
    assert talk.warnings == []
    assert talk.said == [f"{size} calibration images cover {min(size, 10)} classes."]
    assert len(sample) == size


def test_enough_images_but_not_of_all_classes_is_a_warning(
    model: Model, dataset: Dataset, talk: Notes
) -> None:
    drawn(dataset, model, Recipe(calibration_size=30), talk)
    assert talk.warnings[0].startswith("20 of 30 classes have no calibration image: ")


@pytest.mark.parametrize("labelled", [True, False])
def test_fewer_images_than_asked_for_are_a_warning(
    model: Model, dataset: Dataset, talk: Notes, labelled: bool
) -> None:
    found = dataset if labelled else replace(dataset, labels=None)
    assert len(drawn(found, model, Recipe(calibration_size=100), talk)) == 40
    assert talk.warnings[0] == "100 calibration images are asked for, 40 are there."


def test_unlabelled_images_are_drawn_at_random(model: Model, dataset: Dataset, talk: Notes) -> None:
    unlabelled = replace(dataset, labels=None)
    assert len(drawn(unlabelled, model, Recipe(), talk)) == 30
    assert len(drawn(unlabelled, model, Recipe(calibration_size=7), talk)) == 7
    assert talk.warnings == []


def test_one_dataset_is_divided_by_content(model: Model, dataset: Dataset, talk: Notes) -> None:
    spoiled = replace(dataset, problems=(Problem("x.png", "missing"),))
    calibration, evaluation = divided(spoiled, model, Recipe(images_per_class=2), talk)
    assert (len(calibration), len(evaluation)) == (20, 20)
    assert not set(calibration.content_digests) & set(evaluation.content_digests)
    assert evaluation.problems == spoiled.problems
    assert "serves for both: 20 images calibrate, 20 others judge." in talk.said[0]


def crops_of(dataset: Dataset, folder: Path) -> Crops:
    return load_crops(dataset, PIPELINE, cache_dir=folder / "crops")


def test_overlap_is_found_by_content(dataset: Dataset, tmp_path: Path) -> None:
    first = crops_of(dataset.subset(range(5)), tmp_path)
    second = crops_of(dataset.subset(range(4, 9)), tmp_path)
    apart = crops_of(dataset.subset(range(10, 15)), tmp_path)
    check_disjoint(first, apart, allow_overlap=False)
    check_disjoint(first, second, allow_overlap=True)
    with pytest.raises(DataError, match="1 images both calibrate and judge") as caught:
        check_disjoint(first, second, allow_overlap=False)
    assert dataset.names[4] in caught.value.problem
    assert "--allow-overlap" in caught.value.remedy


def test_nothing_readable(model: Model, dataset: Dataset, tmp_path: Path, talk: Notes) -> None:
    for image in tmp_path.rglob("*.png"):
        image.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be used"):
        calibration_images(
            Found(dataset, "--data"), dataset, model, PIPELINE, DataOptions(max_bad=1.0), talk
        )
