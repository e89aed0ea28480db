"""Statistics of each channel of a tensor: peak, usual magnitude, power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.quantize.engine.grid import Doubles, Floats
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Batches, tensor_batches
from quantlab.quantize.engine.ranges import Range

USUAL = 0.75
"""A channel's usual reach: this quantile over images of its largest magnitude."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Float64 [channels] each: ``top``, the largest magnitude on any image, ``usual`` reach, and
    ``power``, the mean square."""

    top: Doubles
    usual: Doubles
    power: Doubles


@dataclass(frozen=True, eq=False)
class ImageChannels:
    """A tensor's channels by image, float64 [n, channels] each: the least and the largest value,
    and the mean square."""

    low: Doubles
    high: Doubles
    power: Doubles

    def of(self, rows: NDArray[np.int64]) -> ImageChannels:
        """The same of these images alone."""
        return ImageChannels(self.low[rows], self.high[rows], self.power[rows])

    @property
    def facts(self) -> Channels:
        """Of all images."""
        peak = np.maximum(self.high, -self.low)
        top = np.maximum(peak.max(0), 1e-9)
        return Channels(top, np.quantile(peak, USUAL, axis=0), self.power.mean(0))

    def extremes(self, scales: Floats | None = None) -> Range:
        """The least and the greatest value, channels times ``scales``."""
        by = 1.0 if scales is None else scales.astype(np.float64)
        return float((self.low.min(0) * by).min()), float((self.high.max(0) * by).max())


def image_channels(net: Net, names: Sequence[str], batches: Batches) -> dict[str, ImageChannels]:
    """The channels of these tensors on these images, in one pass."""
    found: dict[str, list[tuple[Doubles, ...]]] = {name: [] for name in names}
    for values in tensor_batches(net, names, batches):
        count = len(values[net.input])
        for name in names:
            flat = _by_channel(values[name], count)
            power = np.einsum("ncp,ncp->nc", flat, flat) / flat.shape[2]
            parts = (flat.min(2), flat.max(2), power)
            found[name].append(tuple(part.astype(np.float64) for part in parts))
    return {
        name: ImageChannels(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        for name, parts in found.items()
    }


def _by_channel(values: Floats, count: int) -> Floats:
    """[n, channels, positions] of a tensor of ``count`` images: what is a matrix with a row for
    each position of each image has its channels last."""
    if len(values) != count and len(values) % count == 0:
        return values.reshape(count, -1, values.shape[1]).transpose(0, 2, 1)
    return values.reshape(*values.shape[:2], -1)
