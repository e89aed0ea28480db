"""What each channel of a tensor holds: the range worth keeping, its usual reach, its power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantlab.quantize.engine.grid import Doubles, Floats
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Batches, tensor_batches

CLIP_COST = 4.0
"""A squared clipping error counts so many times a rounding error: it has a sign, it adds up."""
USUAL = 0.75
"""A channel's usual reach: this quantile over images of its largest magnitude."""
_BINS = 512
_SHARES = np.linspace(1.0, 0.1, 46)


@dataclass(frozen=True, eq=False)
class Channels:
    """Float64 [channels] each: ``top`` where clipping a non-negative channel costs least, ``usual``
    reach, and ``power``, the mean square."""

    top: Doubles
    usual: Doubles
    power: Doubles


def channel_facts(
    net: Net, names: Sequence[str], batches: Batches, steps: int
) -> dict[str, Channels]:
    """The facts of these tensors, for a grid of ``steps`` intervals, in two passes."""
    peaks: dict[str, list[Doubles]] = {name: [] for name in names}
    power: dict[str, list[Doubles]] = {name: [] for name in names}
    for values in tensor_batches(net, names, batches):
        for name in names:
            flat = values[name].reshape(*values[name].shape[:2], -1)
            peaks[name].append(np.maximum(flat.max(2), -flat.min(2)).astype(np.float64))
            power[name].append(np.einsum("ncp,ncp->nc", flat, flat) / flat.shape[2])
    peak = {name: np.concatenate(parts) for name, parts in peaks.items()}
    ceilings = {name: np.maximum(peak[name].max(0), 1e-9) for name in names}
    counts = _counts(net, [n for n in names if net.never_negative(n)], batches, ceilings)
    tops = {n: least_cost_top(counts[n], ceilings[n], steps) for n in counts}
    return {
        name: Channels(
            tops.get(name, ceilings[name]),
            np.quantile(peak[name], USUAL, axis=0),
            np.concatenate(power[name]).mean(0).astype(np.float64),
        )
        for name in names
    }


def _counts(
    net: Net, names: Sequence[str], batches: Batches, ceilings: dict[str, Doubles]
) -> dict[str, Doubles]:
    """Histograms [channels, bins] on [0, ceiling] of each channel."""
    counts = {name: np.zeros((len(ceilings[name]), _BINS)) for name in names}
    for values in tensor_batches(net, names, batches) if names else ():
        for name in names:
            counts[name] += channel_counts(values[name], ceilings[name])
    return counts


def channel_counts(values: Floats, ceilings: Doubles) -> Doubles:
    """How many of values [n, channels, …] fall into each bin of [0, ceiling], [channels, bins]."""
    flat = values.reshape(*values.shape[:2], -1)
    index = (flat * (_BINS / ceilings).astype(np.float32)[:, None]).astype(np.int32)
    np.clip(index, 0, _BINS - 1, out=index)
    index += (np.arange(len(ceilings), dtype=np.int32) * _BINS)[:, None]
    counted = np.bincount(index.ravel(), minlength=len(ceilings) * _BINS)
    return counted.reshape(-1, _BINS).astype(np.float64)


def least_cost_top(counts: Doubles, ceilings: Doubles, steps: int) -> Doubles:
    """Where to clip each channel: least CLIP_COST · clipping² + step² / 12, [channels]."""
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    x = ceilings[:, None] * (np.arange(_BINS) + 0.5) / _BINS
    tops = _SHARES[:, None] * ceilings
    clipped = [(share * np.maximum(x - top[:, None], 0) ** 2).sum(1) for top in tops]
    cost = CLIP_COST * np.array(clipped) + (tops / steps) ** 2 / 12
    return np.asarray(tops[cost.argmin(0), np.arange(len(ceilings))])
