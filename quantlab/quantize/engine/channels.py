"""What each channel of a tensor holds: its peak, its usual reach, its power."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from quantlab.quantize.engine.grid import Doubles
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Batches, observe_tensors, tensor_batches
from quantlab.quantize.engine.ranges import ChannelPeaks

USUAL = 0.75
"""A channel's usual reach: this quantile over images of its largest magnitude."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Float64 [channels] each: ``top``, the largest magnitude on any image, ``usual`` reach, and
    ``power``, the mean square."""

    top: Doubles
    usual: Doubles
    power: Doubles


def channel_facts(
    net: Net, names: Sequence[str], some: Batches, everything: Batches
) -> dict[str, Channels]:
    """The facts of these tensors: usual reach and power from some images, the top of what is never
    negative from all.

    Some channels fire for one class only. A top that a few images suggest, or that spares all
    others a little rounding noise by clipping, would cost little on average and everything on the
    images of that class.
    """
    seen = {name: ChannelPeaks() for name in names if net.never_negative(name)}
    observe_tensors(net, {}, seen, everything)
    facts = _facts_of_some(net, names, some)
    return {
        name: Channels(seen[name].peaks, f.usual, f.power) if name in seen else f
        for name, f in facts.items()
    }


def _facts_of_some(net: Net, names: Sequence[str], batches: Batches) -> dict[str, Channels]:
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
