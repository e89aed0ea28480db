"""Choose the calibration images: a seeded, stratified sample without evaluation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from quantlab._util.reporter import Reporter
from quantlab.data import sampler
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import Crops
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline
from quantlab.errors import DataError
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.verbs.inputs import DataOptions, LocatedDataset, load_images


def drawn(
    dataset: Dataset, model: Model, recipe: Recipe, reporter: Reporter, *, spare: bool = False
) -> tuple[Dataset, Recipe]:
    """Draw the recipe's sample of the dataset; returns it and the recipe with the sample's size
    filled in. Warns of missing images and classes.

    ``spare``: the default sample of a small dataset leaves a few images over.
    """
    most = sampler.sparing(len(dataset)) if spare else len(dataset)
    full = _filled_in(recipe, dataset, model, most)
    if dataset.labels is None:
        indices = sampler.random_sample(len(dataset), _unlabelled_size(full, model), full.seed)
    else:
        indices = sampler.stratified(
            dataset.labels,
            model.num_classes,
            images_per_class=full.images_per_class or 1,
            size=full.calibration_size,
            seed=full.seed,
        )
    return _covering(dataset.subset(indices), model, recipe, reporter), full


def divided(
    dataset: Dataset, model: Model, recipe: Recipe, reporter: Reporter
) -> tuple[Dataset, Dataset, Recipe]:
    """Split one dataset into images that calibrate and images that evaluate, which are most of it;
    also returns the recipe as ``drawn`` gives it."""
    different = len(set(dataset.content_digests))
    full = _filled_in(recipe, dataset, model, different // 3)
    size = full.calibration_size
    parts = sampler.split(
        dataset.labels,
        dataset.content_digests,
        images_per_class=full.images_per_class or 1,
        size=_unlabelled_size(full, model) if dataset.labels is None else size,
        seed=full.seed,
    )
    reporter.say(
        f"{dataset.root} serves for both: {len(parts.calibration)} images calibrate, "
        f"{len(parts.evaluation)} others judge."
    )
    calibration = _covering(dataset.subset(parts.calibration), model, recipe, reporter)
    evaluation = replace(dataset.subset(parts.evaluation), problems=dataset.problems)
    return calibration, evaluation, full


def _is_default(recipe: Recipe) -> bool:
    return recipe.images_per_class is None and recipe.calibration_size is None


def _filled_in(recipe: Recipe, dataset: Dataset, model: Model, most: int) -> Recipe:
    """The recipe with the default sample, of at ``most`` so many images, where it names none."""
    if not _is_default(recipe):
        return recipe
    labels = dataset.labels
    classes = model.num_classes if labels is None else len(set(labels.tolist()))
    size = sampler.default_size(classes, most, each=labels is not None)
    sample = {"images_per_class": 1} if size is None else {"calibration_size": size}
    return recipe.model_copy(update=sample)


def _unlabelled_size(recipe: Recipe, model: Model) -> int:
    return recipe.calibration_size or (recipe.images_per_class or 1) * model.num_classes


def _covering(sample: Dataset, model: Model, recipe: Recipe, reporter: Reporter) -> Dataset:
    """Says that a default sample is small; warns of images asked for that are not there, and of
    classes of the label space that calibration will not see, the first ten by name.

    Who asks for fewer images than there are classes is told how many are covered, no more.
    """
    if _is_default(recipe) and len(sample) < sampler.LEAST:
        reporter.say(
            f"{len(sample)} images calibrate; {sampler.LEAST} or more would be more reliable."
        )
    if len(sample) < (recipe.calibration_size or 0):
        reporter.warn(
            f"{recipe.calibration_size} calibration images are asked for, {len(sample)} are there."
        )
    if sample.labels is None:
        return sample
    classes = model.num_classes
    missing = sampler.missing_classes(sample.labels, classes)
    if recipe.calibration_size is not None and recipe.calibration_size < classes:
        reporter.say(f"{len(sample)} calibration images cover {classes - len(missing)} classes.")
    elif missing:
        reporter.warn(
            f"{len(missing)} of {classes} classes have no calibration image: "
            f"{_named(missing, sample.class_names)}."
        )
    return sample


def _named(classes: Sequence[int], names: Sequence[str] | None) -> str:
    """The first ten, by their first name where they have names."""
    first = (names[c].split(",")[0] if names else str(c) for c in classes[:10])
    more = f" and {len(classes) - 10} more" if len(classes) > 10 else ""
    return f"{', '.join(first)}{more}"


def calibration_images(
    found: LocatedDataset,
    sample: Dataset,
    model: Model,
    pipeline: Pipeline,
    options: DataOptions,
    reporter: Reporter,
) -> CalibrationImages:
    """The sample, decoded. Raises DataError when nothing of it can be read."""
    return CalibrationImages(
        load_images(found.of(sample), pipeline, options, reporter), model.input
    )


def check_disjoint(calibration: Crops, evaluation: Dataset, *, allow_overlap: bool) -> None:
    """Raises DataError when an image both calibrates and judges, unless that is allowed."""
    digests = evaluation.content_digests
    shared = sampler.overlap(calibration.digests, digests)
    if shared and not allow_overlap:
        name = next(n for n, d in zip(evaluation.names, digests, strict=True) if d in shared)
        raise DataError(
            f"{len(shared)} images both calibrate and judge, for example {name}.",
            "Give other --eval-data, or --allow-overlap to judge on them all the same.",
        )
