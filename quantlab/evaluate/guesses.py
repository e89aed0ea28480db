"""A model's best classes of one image, with names and probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.evaluate.metrics import log_softmax, top_k
from quantlab.model.model import OutputKind


class Guess(BaseModel):
    """One class; ``probability`` is a fraction."""

    model_config = ConfigDict(frozen=True)

    index: int
    name: str
    probability: float


class ImageAnswer(BaseModel):
    """The best classes of one image, best first; none where the model gave a NaN."""

    model_config = ConfigDict(frozen=True)

    image: str
    guesses: tuple[Guess, ...]


def probabilities(outputs: NDArray[np.float32], kind: OutputKind) -> NDArray[np.float64]:
    """Probabilities [n, classes] of a model's outputs: their softmax, or probabilities just as they
    are, so that nothing is softmaxed twice."""
    if kind == "probabilities":
        return np.asarray(outputs, np.float64)
    return np.asarray(np.exp(log_softmax(outputs)), np.float64)


def image_answer(
    image: str,
    outputs: NDArray[np.float32],
    kind: OutputKind,
    names: Sequence[str] | None = None,
    *,
    top: int = 5,
) -> ImageAnswer:
    """The ``top`` best classes of one image's outputs [classes]; of equals the lower index first.

    ``names`` are the classes' in index order; without them a class is called by its index.
    """
    chances = probabilities(outputs[None], kind)[0]
    best = [int(i) for i in top_k(outputs[None], top)[0] if i >= 0]
    guesses = (
        Guess(index=i, name=names[i] if names else str(i), probability=float(chances[i]))
        for i in best
    )
    return ImageAnswer(image=image, guesses=tuple(guesses))
