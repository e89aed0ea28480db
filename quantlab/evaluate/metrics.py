"""Metrics of classifier outputs: pure functions of arrays [images, classes]."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from quantlab._util.pages import release_pages
from quantlab.evaluate.outputs import ROWS

Floats = NDArray[np.float32] | NDArray[np.float64]

SMALLEST_PROBABILITY = 1e-7
"""Probabilities are clipped here before their logarithm: half a step of float32 below 1, and far
below the step of an 8-bit softmax, whose zeros would otherwise make every divergence infinite."""

QUIET_DB = 300.0
"""The SQNR of an image without any noise, so that percentiles over images are numbers."""

ROUNDING = 1e-5
"""Of an image's largest output: what another order of float32 additions changes at most (3e-6 was
seen over six classifiers). 16-bit floats change a thousandth, 8-bit integers a hundredth."""


def logits_of(probabilities: Floats) -> NDArray[np.float32]:
    """The logits of probabilities, up to a constant per image: their clipped logarithm.

    A softmax of the result gives the probabilities back, so nothing is softmaxed twice.
    """
    clipped = np.clip(probabilities, SMALLEST_PROBABILITY, 1.0)
    return np.asarray(np.log(clipped), np.float32)


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """Log-probabilities [n, classes] in nats, in float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = shifted - shifted.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


def top_k(outputs: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """The ``k`` highest classes [n, k], best first; of equal ones the lower index comes first.

    An image whose outputs hold a NaN has no answer: its row is -1. ``k`` beyond the number of
    classes gives all classes.
    """
    k = min(k, outputs.shape[1])
    top = np.empty((len(outputs), k), np.int64)
    for start in range(0, len(outputs), ROWS):
        part = slice(start, start + ROWS)
        top[part] = _top_k(outputs[part], k)
        release_pages(outputs)
    return top


def _top_k(outputs: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    left = np.array(outputs, np.float32)
    rows = np.arange(len(left))
    top = np.empty((len(left), k), np.int64)
    answered = ~np.isnan(left).any(axis=1)
    left[np.isneginf(left)] = np.finfo(np.float32).min
    for column in range(k):
        top[:, column] = left.argmax(axis=1)
        left[rows, top[:, column]] = -np.inf
    top[~answered] = -1
    return top


def tied_first(outputs: Floats) -> NDArray[np.bool_]:
    """On which images [n] more than one class has the highest output, as int8 outputs often do."""
    best = outputs.max(axis=1, keepdims=True)
    return np.asarray((outputs == best).sum(axis=1) > 1, np.bool_)


def hits(top: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which images [n] have their label among the classes ``top`` [n, k]."""
    return np.asarray((top == labels[:, None]).any(axis=1), np.bool_)


def kl_divergence(reference: Floats, other: Floats) -> NDArray[np.float64]:
    """KL(softmax(reference) || softmax(other)) of each image [n], in nats, from logits."""
    divergence = np.empty(len(reference))
    for rows in _row_blocks(len(reference)):
        p, q = log_softmax(reference[rows]), log_softmax(other[rows])
        divergence[rows] = (np.exp(p) * (p - q)).sum(axis=1)
    return divergence


def sqnr_db(reference: Floats, other: Floats) -> float | None:
    """Signal to quantization noise of all logits together, in dB; None when there is no noise."""
    noise = power = 0.0
    for rows in _row_blocks(len(reference)):
        signal = np.asarray(reference[rows], np.float64)
        noise += float(np.square(signal - other[rows]).sum())
        power += float(np.square(signal).sum())
    return 10 * math.log10(power / noise) if noise > 0 and power > 0 else None


def image_sqnr_db(reference: Floats, other: Floats) -> NDArray[np.float64]:
    """Signal to quantization noise of each image's logits [n], in dB; QUIET_DB at most."""
    found = np.empty(len(reference))
    least = 10 ** (-QUIET_DB / 10)
    for rows in _row_blocks(len(reference)):
        signal = np.asarray(reference[rows], np.float64)
        noise = np.square(signal - other[rows]).sum(axis=1)
        power = np.maximum(np.square(signal).sum(axis=1), np.finfo(np.float32).tiny)
        found[rows] = -10 * np.log10(np.maximum(noise / power, least))
    return found


def same_but_rounding(reference: Floats, other: Floats) -> bool:
    """Whether no output differs by more than ROUNDING of its image's largest one."""
    for rows in _row_blocks(len(reference)):
        a, b = np.asarray(reference[rows], np.float64), np.asarray(other[rows], np.float64)
        largest = np.abs(a, where=np.isfinite(a), out=np.zeros_like(a)).max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):  # infinity less infinity
            near = np.abs(a - b) <= ROUNDING * largest
        if not (near | (a == b) | (np.isnan(a) & np.isnan(b))).all():
            return False
    return True


def top_probability(logits: Floats) -> NDArray[np.float64]:
    """The highest probability of each image [n]."""
    probability = np.empty(len(logits))
    for rows in _row_blocks(len(logits)):
        probability[rows] = np.exp(log_softmax(logits[rows]).max(axis=1))
    return probability


def _row_blocks(n: int, size: int = 4096) -> list[slice]:
    """Rows taken so many at a time that float64 copies of 50,000 x 1,000 logits stay small."""
    return [slice(start, start + size) for start in range(0, n, size)]
