"""predict: the best classes of single images."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.reporter import Reporter
from quantlab.data.images import decode, quiet_pillow
from quantlab.data.preprocess import Pipeline
from quantlab.data.readers.classes import find_synsets, fitting_names, read_synsets
from quantlab.data.readers.files import FileSource
from quantlab.errors import DataError
from quantlab.evaluate.guesses import ImageAnswer, image_answer
from quantlab.runtime.runner import Runner
from quantlab.verbs import inputs
from quantlab.verbs.config import settled
from quantlab.verbs.options.predict import PredictOptions as PredictOptions
from quantlab.verbs.publish import Returned


def predict_images(spec: PredictOptions, reporter: Reporter) -> Returned[tuple[ImageAnswer, ...]]:
    """The best classes of every image. Raises DataError for the first that cannot be read."""
    model = inputs.find_model(spec.model, spec, reporter)
    pipeline = inputs.find_pipeline(model, spec, reporter)
    names = _class_names(spec, model.num_classes)
    with (
        Runner(model, threads=spec.threads) as runner,
        quiet_pillow(),
        reporter.progress(f"Asking {model.name}", len(spec.images)) as advance,
    ):
        answers = []
        for done, path in enumerate(spec.images):
            outputs = runner(pipeline.to_input(_crop(path, pipeline)[None], model.input))[0]
            answers.append(image_answer(str(path), outputs, model.output_kind, names, top=spec.top))
            advance(done + 1, "")
    model.check_unchanged()
    facts = {
        "model": inputs.model_facts(model),
        "pipeline": pipeline.model_dump(mode="json"),
        "answers": [found.model_dump(mode="json") for found in answers],
    }
    return Returned(tuple(answers), facts)


def _crop(path: Path, pipeline: Pipeline) -> NDArray[np.uint8]:
    """Decode and crop the image. Raises DataError that names it."""
    name = str(path)
    image = decode(FileSource([name], [""]).read(0), name)
    try:
        return pipeline.crop_image(image)
    except DataError as error:
        raise DataError(f"{name}: {error.problem}", error.remedy) from error


def _class_names(spec: PredictOptions, classes: int) -> tuple[str, ...] | None:
    """From the list that was given, else one above the first image or in QUANTLAB_DATA, if any.

    Raises DataError when the given list is not of the model's classes.
    """
    given = settled(spec).synsets
    if given is not None:
        synsets = read_synsets(given)
        if len(synsets) != classes:
            raise DataError(
                f"{given} names {len(synsets)} classes, the model has {classes}.",
                "Give the list of the model's own classes with --synsets.",
            )
        return synsets.class_names
    places = [spec.images[0].parent]
    if root := os.environ.get("QUANTLAB_DATA"):
        places.append(Path(root) / "imagenet")
    found = (find_synsets(place, num_classes=classes) for place in places)
    return next((fitting_names(s, classes) for s in found if s is not None), None)
