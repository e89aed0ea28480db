"""Fidelity of a quantized model's answers to fp32's. Pure functions of logits."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.evaluate.metrics import sqnr_db, top_k
from quantlab.stats.paired import wilson

DECIDING = 5
"""Answers to fewer images are never called unrelated."""
_SMALLEST = 1e-30


class FidelityFigures(BaseModel):
    """Agreement, KL divergence and SQNR of one model against fp32 on the same images.

    ``sqnr_db``: fp32's logits to their error, as everywhere in quantlab; None without an error.
    ``variation_db``: the same of what the logits vary by from image to image, each class's mean
    taken away: at 0 dB fp32's mean answer, the same to every image, is as near to fp32's answers.
    ``agreement``: the share of images with the same first class. ``constant``: the share that the
    best constant answer has, the class that fp32 gives most often. ``finite``: no NaN, no infinity.
    """

    model_config = ConfigDict(frozen=True)

    images: int
    sqnr_db: float | None
    variation_db: float | None
    agreement: float
    constant: float
    finite: bool

    @property
    def unrelated(self) -> bool:
        """Whether a constant answer is as near to fp32: the error is as large as fp32's variation,
        and the agreement is not significantly (Wilson's 95%) above that of the best constant.
        Always true of answers that are not finite, never of fewer than DECIDING images or where all
        agree."""
        if not self.finite:
            return True
        if self.images < DECIDING or self.agreement == 1 or self.variation_db is None:
            return False
        surely = wilson(round(self.agreement * self.images), self.images).low
        return self.variation_db <= 0 and surely <= self.constant


def fidelity(reference: NDArray[np.float32], other: NDArray[np.float32]) -> FidelityFigures:
    """Fidelity of ``other`` to fp32's finite logits ``reference``, both [n, classes], n at least 1.

    Raises ValueError when their shapes differ.
    """
    if reference.shape != other.shape:
        raise ValueError(f"answers of shapes {reference.shape} and {other.shape}")
    first = top_k(reference, 1)[:, 0]
    finite = bool(np.isfinite(other).all())
    return FidelityFigures(
        images=len(reference),
        sqnr_db=sqnr_db(reference, other) if finite else None,
        variation_db=_variation_db(reference, other) if finite else None,
        agreement=float((first == top_k(other, 1)[:, 0]).mean()),
        constant=float(np.bincount(first).max() / len(first)),
        finite=finite,
    )


def _variation_db(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float | None:
    signal = reference.astype(np.float64)
    noise = float(np.square(signal - other).sum())
    power = float(np.square(signal - signal.mean(axis=0)).sum())
    if noise == 0:
        return None
    return 10 * math.log10(max(power / noise, _SMALLEST))
