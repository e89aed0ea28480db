"""Which images calibrate, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab._util.reporter import NullReporter
from quantlab.data.crops import Crops, load_crops
from quantlab.data.dataset import Dataset, ImageProblem
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.testing import image_folder, tiny_classifier
from quantlab.verbs.calibration_sample import calibration_images, check_disjoint, divided, drawn
from quantlab.verbs.inputs import DataOptions, LocatedDataset

PIPELINE = get_pipeline(
    {
        "resizer": "pillow-bilinear",
        "resize": 36,
        "crop": 32,
        "mean": [127, 127, 127],
        "std": [64, 64, 64],
    }
)


class Notes(NullReporter):
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
def reporter() -> Notes:
    return Notes()


def test_the_sample_is_stratified_and_seeded(
    model: Model, dataset: Dataset, reporter: Notes
) -> None:
    one = Recipe(images_per_class=1)
    recipes = (one.model_copy(update={"seed": s}) for s in (0, 0, 1))
    first, again, other = (drawn(dataset, model, recipe, reporter)[0] for recipe in recipes)
    assert first.labels is not None
    assert first.labels.tolist() == list(range(10))
    assert first.names == again.names != other.names


def test_classes_without_an_image_are_named(
    model: Model, dataset: Dataset, reporter: Notes
) -> None:
    drawn(dataset, model, Recipe(), reporter)
    first = ", ".join(str(c) for c in range(10, 20))
    assert reporter.warnings == [
        f"20 of 30 classes have no calibration image: {first} and 10 more."
    ]


def test_classes_are_called_by_their_first_name(
    model: Model, dataset: Dataset, reporter: Notes
) -> None:
    names = tuple(f"kind {i}, species {i}, another" for i in range(30))
    drawn(replace(dataset, class_names=names), model, Recipe(), reporter)
    assert ": kind 10, kind 11, kind 12" in reporter.warnings[0]
    assert "species" not in reporter.warnings[0]


@pytest.mark.parametrize("size", [1, 4, 29])
def test_who_asks_for_fewer_images_than_classes_is_not_warned(
    model: Model, dataset: Dataset, reporter: Notes, size: int
) -> None:
    sample, _ = drawn(dataset, model, Recipe(calibration_size=size), reporter)
    assert reporter.warnings == []
    assert reporter.said == [f"{size} calibration images cover {min(size, 10)} classes."]
    assert len(sample) == size


def test_enough_images_but_not_of_all_classes_is_a_warning(
    model: Model, dataset: Dataset, reporter: Notes
) -> None:
    drawn(dataset, model, Recipe(calibration_size=30), reporter)
    assert reporter.warnings[0].startswith("20 of 30 classes have no calibration image: ")


@pytest.mark.parametrize("labelled", [True, False])
def test_fewer_images_than_asked_for_are_a_warning(
    model: Model, dataset: Dataset, reporter: Notes, labelled: bool
) -> None:
    found = dataset if labelled else replace(dataset, labels=None)
    assert len(drawn(found, model, Recipe(calibration_size=100), reporter)[0]) == 40
    assert reporter.warnings[0] == "100 calibration images are asked for, 40 are there."


def test_unlabelled_images_are_drawn_at_random(
    model: Model, dataset: Dataset, reporter: Notes
) -> None:
    unlabelled = replace(dataset, labels=None)
    assert len(drawn(unlabelled, model, Recipe(images_per_class=1), reporter)[0]) == 30
    assert len(drawn(unlabelled, model, Recipe(calibration_size=7), reporter)[0]) == 7
    assert reporter.warnings == reporter.said == []


def of(dataset: Dataset, labels: list[int]) -> Dataset:
    """A dataset of that many images with these labels, none of which is ever read."""
    names = tuple(f"{i}.png" for i in range(len(labels)))
    return replace(dataset, names=names, labels=np.array(labels, np.int64))


def counts(sample: Dataset) -> list[int]:
    """How many images each class has."""
    assert sample.labels is not None
    return np.bincount(sample.labels).tolist()


def test_few_classes_calibrate_on_three_hundred_images(
    dataset: Dataset, tmp_path: Path, reporter: Notes
) -> None:
    model = Model.load(tiny_classifier(tmp_path / "two.onnx", classes=2))
    plenty = of(dataset, [0, 1] * 400)
    sample, recipe = drawn(plenty, model, Recipe(), reporter)
    assert counts(sample) == [150, 150]
    assert (recipe.images_per_class, recipe.calibration_size) == (None, 300)
    assert sample.names == drawn(plenty, model, Recipe(), reporter)[0].names
    assert sample.names == drawn(plenty, model, recipe, reporter)[0].names
    assert sample.names != drawn(plenty, model, Recipe(seed=1), reporter)[0].names
    uneven = drawn(of(dataset, [0] * 700 + [1] * 20), model, Recipe(), reporter)[0]
    assert counts(uneven) == [280, 20]
    unlabelled = replace(plenty, labels=None)
    assert len(drawn(unlabelled, model, Recipe(), reporter)[0]) == 300
    assert reporter.said == reporter.warnings == []
    exact = drawn(plenty, model, Recipe(images_per_class=1), reporter)[0]
    assert counts(exact) == [1, 1]


def test_fewer_images_than_three_hundred_are_said(
    dataset: Dataset, tmp_path: Path, reporter: Notes
) -> None:
    model = Model.load(tiny_classifier(tmp_path / "two.onnx", classes=2))
    few = of(dataset, [0, 1] * 50)
    assert len(drawn(few, model, Recipe(), reporter)[0]) == 100
    assert reporter.said == ["100 images calibrate; 300 or more would be more reliable."]
    spared, recipe = drawn(few, model, Recipe(), reporter, spare=True)
    assert (counts(spared), recipe.calibration_size) == ([45, 45], 90)
    assert len(drawn(few, model, Recipe(calibration_size=100), reporter, spare=True)[0]) == 100
    assert reporter.warnings == []


def test_many_classes_calibrate_on_one_image_of_each(
    dataset: Dataset, tmp_path: Path, reporter: Notes
) -> None:
    model = Model.load(tiny_classifier(tmp_path / "many.onnx", classes=400))
    plenty = of(dataset, list(range(400)) * 2)
    sample, recipe = drawn(plenty, model, Recipe(), reporter, spare=True)
    assert counts(sample) == [1] * 400
    assert recipe == Recipe(images_per_class=1)
    assert sample.names == drawn(plenty, model, Recipe(images_per_class=1), reporter)[0].names
    few_of_them = of(dataset, [5] * 400 + [7] * 400)
    assert len(drawn(few_of_them, model, Recipe(), reporter)[0]) == 300
    assert reporter.warnings[0].startswith("398 of 400 classes have no calibration image")


def test_one_dataset_is_divided_by_content(model: Model, dataset: Dataset, reporter: Notes) -> None:
    spoiled = replace(dataset, problems=(ImageProblem("x.png", "missing"),))
    calibration, evaluation, _ = divided(spoiled, model, Recipe(images_per_class=2), reporter)
    assert (len(calibration), len(evaluation)) == (20, 20)
    assert not set(calibration.content_digests) & set(evaluation.content_digests)
    assert evaluation.problems == spoiled.problems
    assert "serves for both: 20 images calibrate, 20 others judge." in reporter.said[0]


@pytest.mark.parametrize("labelled", [True, False])
def test_most_of_one_dataset_judges(
    model: Model, dataset: Dataset, reporter: Notes, labelled: bool
) -> None:
    whole = dataset if labelled else replace(dataset, labels=None)
    calibration, evaluation, recipe = divided(whole, model, Recipe(), reporter)
    assert (len(calibration), len(evaluation)) == (13, 27)
    assert recipe.calibration_size == 13
    assert reporter.said[1] == "13 images calibrate; 300 or more would be more reliable."


def crops_of(dataset: Dataset, folder: Path) -> Crops:
    return load_crops(dataset, PIPELINE, cache_dir=folder / "crops")


def test_overlap_is_found_by_content(dataset: Dataset, tmp_path: Path) -> None:
    first = crops_of(dataset.subset(range(5)), tmp_path)
    second, apart = dataset.subset(range(4, 9)), dataset.subset(range(10, 15))
    check_disjoint(first, apart, allow_overlap=False)
    check_disjoint(first, second, allow_overlap=True)
    with pytest.raises(DataError, match="1 images both calibrate and judge") as caught:
        check_disjoint(first, second, allow_overlap=False)
    assert dataset.names[4] in caught.value.problem
    assert "--allow-overlap" in caught.value.remedy


def test_nothing_readable(model: Model, dataset: Dataset, tmp_path: Path, reporter: Notes) -> None:
    for image in tmp_path.rglob("*.png"):
        image.write_bytes(b"")
    with pytest.raises(DataError, match="cannot be used"):
        calibration_images(
            LocatedDataset(dataset, "--data"),
            dataset,
            model,
            PIPELINE,
            DataOptions(max_bad=1.0),
            reporter,
        )
