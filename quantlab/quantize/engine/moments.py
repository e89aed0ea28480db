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
    """Kernel, pads, strides and dilations; of each axis, but pads first those before all axes."""
    assert layer.weight is not None
    kernel = layer.weight.shape[2:]
    ones = [1] * len(kernel)
    return (
        kernel,
        g.attribute(layer.node, "pads", [0] * 2 * len(kernel)),
        g.attribute(layer.node, "strides", ones),
        g.attribute(layer.node, "dilations", ones),
    )


def _output_size(layer: Layer, size: tuple[int, ...]) -> tuple[int, ...]:
    kernel, pads, strides, dilations = _geometry(layer)
    axes = zip(size, kernel, pads, pads[len(kernel) :], strides, dilations, strict=False)
    return tuple((n + a + b - d * (k - 1) - 1) // s + 1 for n, k, a, b, s, d in axes)


def patches(layer: Layer, values: Integers, where: Integers) -> Integers:
    """The vectors that these output positions read: [groups, k, n · p] of values [n, c, …]."""
    if layer.kind == "Gemm":
        return values.T[None]
    kernel, pads, strides, dilations = _geometry(layer)
    places = np.unravel_index(where, _output_size(layer, values.shape[2:]))
    if any(pads):
        around = zip(pads, pads[len(kernel) :], strict=False)
        values = np.pad(values, ((0, 0), (0, 0), *around))
    image = np.arange(len(values))[:, None]
    taken = []
    for tap in np.ndindex(*kernel):
        axes = zip(places, strides, tap, dilations, strict=True)
        taken.append(values[(image, slice(None), *(p * s + t * d for p, s, t, d in axes))])
    channels = values.shape[1]
    stacked = np.stack(taken).transpose(3, 0, 1, 2).reshape(channels, len(taken), -1)
    return stacked.reshape(layer.groups, channels // layer.groups * len(taken), -1)
