"""Find whether one model's weights come from another's, also when quantized, folded or scaled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

Floats = NDArray[np.float64]

SMALLEST = 64
"""Smaller weights are alike by chance."""
SAMPLE = 4096
"""So many values of a weight are looked at."""
ALIKE = 0.5
"""The mean correlation over output channels from which on a weight comes from another: quantized it
is near 1, of another training 0.3 at most, for the shortest channels (9 values)."""


@dataclass(frozen=True)
class Origin:
    """What of the first model's weights is in the second: ``shaped``, the share of them (by their
    number of values) for which it has one of the same shape, ``kept``, for which one is alike."""

    shaped: float
    kept: float


def origin_of(first: onnx.GraphProto, second: onnx.GraphProto) -> Origin:
    """Looks for each weight of ``first`` in ``second``.

    A weight's channels are compared by their correlation, of integers as they are stored: a scale,
    a zero point, a folded batch normalization or equalization changes little of that.
    """
    there = defaultdict[tuple[int, ...], list[Floats]](list)
    for weight in _weights(second):
        there[weight.shape].append(_standardized(weight))
        if weight.ndim == 2:  # stored the other way round by Gemm and MatMul
            there[weight.shape[::-1]].append(_standardized(weight.T))
    total = shaped = kept = 0
    for weight in _weights(first):
        total += weight.size
        others = there.get(weight.shape, [])
        own = _standardized(weight) if others else np.zeros((1, 1))
        nearest = max((_alike(own, other) for other in others), default=0.0)
        shaped += weight.size * bool(others)
        kept += weight.size * (nearest >= ALIKE)
    return Origin(shaped / max(total, 1), kept / max(total, 1))


def _weights(graph: onnx.GraphProto) -> Iterator[NDArray[np.generic]]:
    """Constants of two dimensions or more, whichever node reads them."""
    tensors = list(graph.initializer)
    tensors += [
        attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    for tensor in tensors:
        if len(tensor.dims) >= 2 and np.prod(tensor.dims) >= SMALLEST:
            yield numpy_helper.to_array(tensor)


def _standardized(weight: NDArray[np.generic]) -> Floats:
    """Its first output channels [k, values], each with mean 0 and a mean square of 1."""
    rows = weight.reshape(len(weight), -1)
    rows = rows[: max(1, SAMPLE // rows.shape[1]), :SAMPLE]
    found: Floats = rows.astype(np.float64)
    found -= found.mean(axis=1, keepdims=True)
    spread = np.sqrt(np.square(found).mean(axis=1, keepdims=True))
    return found / np.where(spread > 0, spread, 1.0)


def _alike(first: Floats, second: Floats) -> float:
    """The mean over channels of how far they correlate, with either sign."""
    return float(np.abs((first * second).mean(axis=1)).mean())
