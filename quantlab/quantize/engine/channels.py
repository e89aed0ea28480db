"""Statistics of each channel of a tensor: peak, usual magnitude, power."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.quantize.engine.grid import Doubles, Floats
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Watch, by_image, naming
from quantlab.quantize.engine.ranges import Range, RangeEstimator, image_extremes, sampled

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
    and the mean square; and what ``sampled`` leaves of its values [n, s], if they were to be kept,
    with their channels [s]."""

    low: Doubles
    high: Doubles
    power: Doubles
    values: Floats | None = None
    channel: NDArray[np.int64] | None = None

    def of(self, rows: NDArray[np.int64]) -> ImageChannels:
        """The same of these images alone, without values."""
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

    def show(self, name: str, estimator: RangeEstimator, scales: Floats) -> None:
        """Shows the estimator the values that were kept, channels times ``scales``; ``name`` is the
        tensor's. Raises QuantizeError where one is NaN or infinite."""
        assert self.values is not None
        ends = np.concatenate([self.low, self.high], axis=1).astype(np.float32)
        with naming(name):
            extremes = image_extremes(ends * np.tile(scales, 2))
            estimator.add(self.values * scales[self.channel], *extremes)


class ChannelWatch:
    """Describes the channels of these tensors on the images that ``watch`` is given; of those
    ``kept`` values stay."""

    def __init__(self, net: Net, names: Sequence[str], kept: Container[str] = ()) -> None:
        self._net, self._kept = net, kept
        self._parts: dict[str, list[tuple[Doubles, ...]]] = {name: [] for name in names}
        self._values: dict[str, list[Floats]] = {name: [] for name in names if name in kept}
        self._channel: dict[str, NDArray[np.int64]] = {}
        self.watch = Watch(list(names), self._see)

    def _see(self, seen: dict[str, Floats]) -> None:
        count = len(seen[self._net.input])
        for name, parts in self._parts.items():
            values = seen[name]
            flat = _by_channel(values, count)
            power = np.einsum("ncp,ncp->nc", flat, flat) / flat.shape[2]
            found = (flat.min(2), flat.max(2), power)
            parts.append(tuple(part.astype(np.float64) for part in found))
            if name in self._values:
                self._values[name].append(sampled(by_image(values, count)).copy())
                numbers = np.arange(values.shape[1]).reshape(-1, *[1] * (values.ndim - 2))
                channel = by_image(np.broadcast_to(numbers, values.shape), count)
                self._channel[name] = sampled(channel)[0].copy()

    def channels(self) -> dict[str, ImageChannels]:
        """Those of the images so far."""
        found = {}
        for name, parts in self._parts.items():
            low, high, power = (np.concatenate(part) for part in zip(*parts, strict=True))
            values = np.concatenate(self._values[name]) if name in self._values else None
            found[name] = ImageChannels(low, high, power, values, self._channel.get(name))
        return found


def _by_channel(values: Floats, count: int) -> Floats:
    """[n, channels, positions] of a tensor of ``count`` images: what is a matrix with a row for
    each position of each image has its channels last."""
    if len(values) != count and len(values) % count == 0:
        return values.reshape(count, -1, values.shape[1]).transpose(0, 2, 1)
    return values.reshape(*values.shape[:2], -1)
