"""Mean and covariance of the inputs of a layer's weights.

Sampled positions and integer inputs only: the sums are exact in float64, so they do not depend on
the number of threads that compute them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.model import graph as g
from quantlab.quantize.engine.grid import Affine, Doubles
from quantlab.quantize.engine.net import Layer

POSITIONS = 12288
DEPTHWISE_POSITIONS = 4096
Integers = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the input vectors that one output position reads, by group of channels.

    ``mean`` [groups, k] and ``covariance`` [groups, k, k], real units, k = in / groups · kernel.
    """

    mean: Doubles
    covariance: Doubles | None


def input_moments(
    layer: Layer,
    pieces: Sequence[Integers],
    scale: Affine,
    rng: np.random.Generator,
    *,
    second: bool = True,
) -> Moments:
    """The moments over some positions of each image; without ``second``, the mean alone.

    ``pieces`` hold stored integers, [n, …].
    """
    count, total, outer = 0, np.zeros(1), np.zeros(1)
    for piece, where in zip(pieces, _positions(layer, pieces, rng), strict=True):
        centred = piece.astype(np.int32) - scale.zero
        vectors = patches(layer, centred, where).astype(np.float64)
        total = total + vectors.sum(2)
        if second:
            outer = outer + vectors @ vectors.transpose(0, 2, 1)
        count += vectors.shape[2]
    mean = total / count
    if not second:
        return Moments(mean * scale.scale, None)
    covariance = outer / count - mean[:, :, None] * mean[:, None, :]
    return Moments(mean * scale.scale, covariance * scale.scale**2)


def _positions(
    layer: Layer, pieces: Sequence[Integers], rng: np.random.Generator
) -> Iterator[Integers]:
    """Flat output positions of each image of each piece, [n, p]."""
    wanted = DEPTHWISE_POSITIONS if layer.depthwise else POSITIONS
    each = -(-wanted // sum(map(len, pieces)))
    for piece in pieces:
        if layer.kind == "Gemm":
            yield np.zeros((len(piece), 1), np.int64)
            continue
        size = math.prod(_output_size(layer, piece.shape[2:]))
        yield np.stack([rng.choice(size, min(size, each), replace=False) for _ in piece])


def _geometry(layer: Layer) -> tuple[tuple[int, ...], list[int], list[int], list[int]]:
    assert layer.weight is not None
    return (
        layer.weight.shape[2:],
        g.attribute(layer.node, "pads", [0, 0, 0, 0]),
        g.attribute(layer.node, "strides", [1, 1]),
        g.attribute(layer.node, "dilations", [1, 1]),
    )


def _output_size(layer: Layer, size: tuple[int, ...]) -> tuple[int, int]:
    kernel, pads, strides, dilations = _geometry(layer)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    made = [(size[i] + pads[i] + pads[i + 2] - spans[i]) // strides[i] + 1 for i in range(2)]
    return made[0], made[1]


def patches(layer: Layer, values: Integers, where: Integers) -> Integers:
    """The vectors that these output positions read: [groups, k, n · p] of values [n, c, h, w]."""
    if layer.kind == "Gemm":
        return values.T[None]
    kernel, pads, strides, dilations = _geometry(layer)
    width = _output_size(layer, values.shape[2:])[1]
    if any(pads):
        values = np.pad(values, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    rows, columns = where // width * strides[0], where % width * strides[1]
    image = np.arange(len(values))[:, None]
    taken = [
        values[image, :, rows + i * dilations[0], columns + j * dilations[1]]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    channels = values.shape[1]
    stacked = np.stack(taken).transpose(3, 0, 1, 2).reshape(channels, len(taken), -1)
    return stacked.reshape(layer.groups, channels // layer.groups * len(taken), -1)
