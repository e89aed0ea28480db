"""Compute u8s8 layers as CPUs without VNNI do: products summed in pairs, in 16 bits.

VPMADDUBSW multiplies unsigned activations by signed weights and adds neighbours,
x[2i]·w[2i] + x[2i+1]·w[2i+1], into a signed 16-bit number that saturates; VPMADDWD then widens to
32 bits, where nothing is lost. ONNX Runtime's MLAS takes neighbours along the reduction dimension:
for convolutions kernel row, kernel column, input channel, the last running fastest (QLinearConv's
ReorderFilter and im2col, MlasConvSymPackW); for products of matrices the rows of B. An odd one out
is paired with zero. Groups are products of their own, padding is the zero point, and activations
enter as the raw numbers 0 to 255.

Not pairs, hence never saturating: depthwise convolutions (one input and one output channel a group:
MLAS sums them in 32 bits), weights of type u8 (16-bit products), and activations of type s8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int32]
Numbers = NDArray[np.float64]
PairPlaces = NDArray[np.int64]

MAX_U8, LOW, HIGH = 255, -(2**15), 2**15 - 1
_BLOCK = 1 << 21
"""So many pair sums are held at a time."""


@dataclass(frozen=True, eq=False)
class Risks:
    """Weight pairs of one group that some input could bring over 16 bits.

    ``first`` is the position of each pair's first row, ``outputs`` its output channel, ``w`` its
    two weights [pairs, 2].
    """

    first: PairPlaces
    outputs: PairPlaces
    w: Ints

    def __len__(self) -> int:
        return len(self.first)

    def within(self, top: Ints) -> Risks:
        """Those that inputs of at most ``top`` [k] could bring over 16 bits."""
        high, low = (
            top[self.first] * part[:, 0] + top[self.first + 1] * part[:, 1]
            for part in (np.maximum(self.w, 0), np.minimum(self.w, 0))
        )
        kept = (high > HIGH) | (low < LOW)
        return Risks(self.first[kept], self.outputs[kept], self.w[kept])


def risks(weight: Ints) -> Risks:
    """Those of weight [k, out]: 255·(w₀⁺ + w₁⁺) > 32767 or 255·(w₀⁻ + w₁⁻) < −32768.

    Without any, nothing saturates whatever the input: 7-bit weights stay below 255·64·2 = 32640.
    """
    even = np.pad(weight, ((0, len(weight) % 2), (0, 0)))
    pairs = even.reshape(-1, 2, even.shape[1])
    places, outputs = np.nonzero(np.ones((len(pairs), even.shape[1]), np.bool_))
    every = Risks(2 * places, outputs, np.ascontiguousarray(pairs[places, :, outputs], np.int32))
    return every.within(np.full(len(even), MAX_U8, np.int32))


def excess(rows: Bytes, found: Risks, outputs: int) -> tuple[Numbers, int]:
    """What saturation takes from the sums [positions, outputs], and how many pair sums saturate.

    The saturated sum is the exact one minus the excess. Only pairs at risk are looked at, and of
    those only the ones that the highest inputs at hand could bring over.
    """
    lost = np.zeros((len(rows), outputs))
    columns = np.ascontiguousarray(np.pad(rows, ((0, 0), (0, rows.shape[1] % 2))).T)
    found, count = found.within(columns.max(axis=1, initial=0).astype(np.int32)), 0
    for block in _blocks(len(found), max(1, len(rows))):
        first, w = found.first[block], found.w[block].T[:, :, None]
        sums = columns[first] * w[0] + columns[first + 1] * w[1]
        pairs, positions = np.nonzero((sums > HIGH) | (sums < LOW))
        over = sums[pairs, positions]
        np.add.at(lost, (positions, found.outputs[block][pairs]), over - np.clip(over, LOW, HIGH))
        count += len(pairs)
    return lost, count


def _blocks(count: int, each: int) -> Iterator[slice]:
    step = max(1, _BLOCK // each)
    return (slice(start, start + step) for start in range(0, count, step))


def exact_sums(
    rows: Bytes, weight: Ints, positions: PairPlaces, outputs: PairPlaces
) -> tuple[Numbers, Numbers]:
    """Σ x·w and Σ x of single outputs [m], of rows [positions, k] and weight [k, out]."""
    sums, taken = np.empty(len(positions)), np.empty(len(positions))
    columns = np.ascontiguousarray(weight.T)
    for block in _blocks(len(positions), weight.shape[0]):
        x = rows[positions[block]].astype(np.int32)
        sums[block] = np.einsum("mk,mk->m", x, columns[outputs[block]])
        taken[block] = x.sum(axis=1)
    return sums, taken
