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
from threadpoolctl import threadpool_limits

from quantlab.data.threads import ordered_map
from quantlab.model import graph as g
from quantlab.quantize.engine.grid import Affine, Doubles
from quantlab.quantize.engine.net import Layer
from quantlab.runtime.environment import default_threads

POSITIONS = 4096
"""Of all images together, and POSITIONS_PER_INPUT for each input of a row where that is more."""
POSITIONS_PER_INPUT = 8
_EXACT = 1024
"""128 · 128 · 1024 = 2²⁴: every whole number up to it is a float32."""
_AT_ONCE = 1280
"""Covariances of more inputs, 13 MB, are made one by one."""
Integers = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the input vectors that one output position reads, by group of channels.

    ``mean`` [groups, k] and ``covariance`` [groups, k, k], real units, k = in / groups · kernel;
    ``zeros`` [groups] is the share of the vectors that are all zero.
    """

    mean: Doubles
    covariance: Doubles | None
    zeros: Doubles


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
    shift = _shift(pieces[0].dtype)
    where = list(_positions(layer, pieces, rng))

    def sums(i: int) -> tuple[int, Doubles, Doubles, Doubles]:
        vectors = patches(layer, pieces[i], where[i], scale.zero)
        outer = _outer(vectors, shift) if second else np.zeros(1)
        empty = (vectors == scale.zero).all(1).sum(1).astype(np.float64)
        return vectors.shape[2], vectors.sum(2, dtype=np.int64).astype(np.float64), outer, empty

    count, total, outer, empty = 0, np.zeros(1), np.zeros(1), np.zeros(1)
    many = len(pieces)
    large = second and layer.weight is not None and layer.weight[0].size > _AT_ONCE
    with threadpool_limits(1, "blas"):
        parts = map(sums, range(many)) if large else ordered_map(sums, many, default_threads())
        for part in parts:
            count, total, outer = count + part[0], total + part[1], outer + part[2]
            empty = empty + part[3]
    mean = total / count
    real = (mean - scale.zero) * scale.scale
    if not second:
        return Moments(real, None, empty / count)
    mean = mean - shift
    covariance = outer / count - mean[:, :, None] * mean[:, None, :]
    return Moments(real, covariance * scale.scale**2, empty / count)


def _shift(dtype: np.dtype[np.generic]) -> int:
    """What brings the integers of a type around zero."""
    return 1 << (8 * dtype.itemsize - 1) if dtype.kind == "u" else 0


def _outer(vectors: Integers, shift: int) -> Doubles:
    """The sum of v · vᵀ of v = ``vectors`` [groups, k, n] − shift: [groups, k, k], exactly.

    Sums of _EXACT products of 8-bit integers are exact in float32, which is twice as fast.
    """
    small = vectors.dtype.itemsize == 1
    kind: type[np.float32 | np.float64] = np.float32 if small else np.float64
    step = _EXACT if small else vectors.shape[2]
    total = np.zeros((*vectors.shape[:2], vectors.shape[1]))
    for start in range(0, vectors.shape[2], step):
        part = np.subtract(vectors[:, :, start : start + step], shift, dtype=kind)
        total += part @ part.transpose(0, 2, 1)
    return total


def _positions(
    layer: Layer, pieces: Sequence[Integers], rng: np.random.Generator
) -> Iterator[Integers]:
    """Flat output positions of each image of each piece, [n, p]."""
    assert layer.weight is not None
    wanted = max(POSITIONS, POSITIONS_PER_INPUT * layer.weight[0].size)
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


def patches(layer: Layer, values: Integers, where: Integers, fill: int = 0) -> Integers:
    """The vectors that these output positions read: [groups, k, n · p] of values [n, c, …];
    ``fill`` is what is read beyond the edges."""
    if layer.kind == "Gemm":
        return values.T[None]
    kernel, pads, strides, dilations = _geometry(layer)
    size = values.shape[2:]
    places = np.unravel_index(where, _output_size(layer, size))
    rows = np.moveaxis(values, 1, -1)
    image = np.arange(len(values))[:, None]
    taken = []
    for tap in np.ndindex(*kernel):
        steps = zip(places, strides, tap, dilations, pads, strict=False)
        axes = [p * s + t * d - before for p, s, t, d, before in steps]
        inside = [(axis >= 0) & (axis < n) for axis, n in zip(axes, size, strict=True)]
        near = (np.clip(axis, 0, n - 1) for axis, n in zip(axes, size, strict=True))
        read = rows[(image, *near)]
        read[~np.logical_and.reduce(inside)] = fill
        taken.append(read)
    channels = values.shape[1]
    stacked = np.stack(taken).reshape(len(taken), -1, channels).transpose(2, 0, 1)
    return stacked.reshape(layer.groups, channels // layer.groups * len(taken), -1)
