"""Accumulate the energy of a signal and of its error, batch by batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from quantlab.model import graph as g


@dataclass
class Noise:
    """The energy of a signal and of what another differs from it."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, reference: g.Array, other: g.Array) -> None:
        """Add two arrays of one shape."""
        right, wrong = np.asarray(reference, np.float64), np.asarray(other, np.float64)
        self.signal += float(np.square(right).sum())
        self.noise += float(np.square(right - wrong).sum())

    @property
    def db(self) -> float | None:
        """The signal-to-quantization-noise ratio in dB; None without signal or without noise."""
        if self.signal <= 0 or self.noise <= 0:
            return None
        return 10 * math.log10(self.signal / self.noise)
