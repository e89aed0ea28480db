"""Load and compute metrics of the user's own: a function named ``module:function``.

It is given one model's outputs as they are, float32 [n, classes], and the labels, int64 [n] or None
for unlabelled images, and returns one score per image [n]. The mean score is the metric; higher is
better.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import RecipeError
from quantlab.evaluate.predictions import Predictions

MetricFunction = Callable[[NDArray[np.float32], NDArray[np.int64] | None], Any]


def load_metric(text: str) -> MetricFunction:
    """The function that ``module:function`` names.

    The module is any that Python can import, and last of all a file in the current folder. Raises
    RecipeError when there is no such function.
    """
    module, _, name = text.partition(":")
    if not (module and name):
        raise RecipeError(f"{text!r} does not name a metric.", "Write module:function.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        function = getattr(import_module(module), name, None)
    except Exception as error:  # a user's module may raise anything
        raise RecipeError(
            f"the metric's module {module} cannot be imported: {type(error).__name__}: {error}",
            "It must be installed, or lie in the current folder.",
        ) from error
    if function is None:
        raise RecipeError(f"the module {module} has no function {name}.")
    if not callable(function):
        raise RecipeError(f"{text} is not a function, it is {type(function).__name__}.")
    return function  # type: ignore[no-any-return]


def image_scores(
    name: str, function: MetricFunction, predictions: Predictions
) -> NDArray[np.float64]:
    """The metric's score of every image [n].

    Raises RecipeError when the function fails or does not give each image one finite number.
    """
    outputs, labels = _read_only(predictions.outputs), predictions.labels
    try:
        made = function(outputs, None if labels is None else _read_only(labels))
        scores = np.asarray(made, np.float64)
    except Exception as error:  # a user's function may raise anything
        without = " (the images have no labels)" if labels is None else ""
        raise RecipeError(
            f"the metric {name} failed on {predictions.model_name}{without}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if scores.shape != (len(predictions),):
        raise RecipeError(
            f"the metric {name} gave an array of shape {list(scores.shape)} for "
            f"{len(predictions)} images.",
            "It must return one score per image.",
        )
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        raise RecipeError(
            f"the metric {name} gave {scores[bad[0]]} for {len(bad)} of {len(predictions)} images "
            f"of {predictions.model_name}, first {predictions.names[bad[0]]}.",
            "Every score must be a finite number.",
        )
    return scores


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view
