"""Statistics of each channel of a tensor: peak, usual magnitude, power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantlab.quantize.engine.grid import Doubles
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Batches, tensor_batches

USUAL = 0.75
"""A channel's usual reach: this quantile over images of its largest magnitude."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Float64 [channels] each: ``top``, the largest magnitude on any image, ``usual`` reach, and
    ``power``, the mean square."""

    top: Doubles
    usual: Doubles
    power: Doubles


def channel_facts(net: Net, names: Sequence[str], batches: Batches) -> dict[str, Channels]:
    """The facts of these tensors on these images, in one pass."""
    peaks: dict[str, list[Doubles]] = {name: [] for name in names}
    power: dict[str, list[Doubles]] = {name: [] for name in names}
    for values in tensor_batches(net, names, batches):
        for name in names:
            flat = values[name].reshape(*values[name].shape[:2], -1)
            peaks[name].append(np.maximum(flat.max(2), -flat.min(2)).astype(np.float64))
            power[name].append(np.einsum("ncp,ncp->nc", flat, flat) / flat.shape[2])
    peak = {name: np.concatenate(parts) for name, parts in peaks.items()}
    return {
        name: Channels(
            np.maximum(peak[name].max(0), 1e-9),
            np.quantile(peak[name], USUAL, axis=0),
            np.concatenate(power[name]).mean(0).astype(np.float64),
        )
        for name in names
    }
