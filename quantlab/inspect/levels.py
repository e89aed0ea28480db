"""Whether ONNX Runtime's graph optimizations change a quantized model's answers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.evaluate.metrics import logits_of, sqnr_db
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.runtime.session import Optimization

LEVELS: tuple[Optimization, Optimization] = ("all", "disabled")


class LevelDifference(BaseModel):
    """The answers at level "all" against those at "disabled", on the same images.

    ``kind`` says what the images were. ``largest`` is the greatest difference of a logit, ``scale``
    the greatest absolute logit; ``sqnr_db`` is None when the answers are the same.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    kind: str
    agreement: float
    largest: float
    scale: float
    sqnr_db: float | None

    @property
    def same(self) -> bool:
        """Whether the answers are the same, to float rounding."""
        return self.largest <= 1e-4 * self.scale


def compare_levels(model: Model, images: NDArray[np.generic], kind: str) -> LevelDifference:
    """Runs the model at both levels on images [n, …] as it takes them. Raises ModelError."""
    answers = []
    for level in LEVELS:
        with Runner(model, optimization=level) as run:
            found = run(images)
        answers.append(logits_of(found) if model.output_kind == "probabilities" else found)
    all_, none = answers
    return LevelDifference(
        images=len(images),
        kind=kind,
        agreement=float((all_.argmax(axis=1) == none.argmax(axis=1)).mean()),
        largest=float(np.abs(all_ - none).max()),
        scale=float(np.abs(none).max()),
        sqnr_db=sqnr_db(none, all_),
    )


def levels_line(found: LevelDifference) -> str:
    """One line: the same answers, or how far apart they are."""
    where = f"on {found.images} {found.kind}"
    if found.same:
        return f"optimization levels all and disabled give the same answers {where}"
    noise = "" if found.sqnr_db is None else f", SQNR {found.sqnr_db:.1f} dB"
    return (
        f"optimization levels all and disabled differ {where}: logits by up to "
        f"{found.largest:.3g} (largest {found.scale:.3g}), agreement {found.agreement:.1%}{noise}"
    )
