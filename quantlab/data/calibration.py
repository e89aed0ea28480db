"""Calibration images as batches for a model's input."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from quantlab.data.crops import Crops
from quantlab.model.model import InputSpec

BATCH_SIZE = 16


@dataclass(frozen=True)
class CalibrationImages:
    """Crops, normalised batch by batch for the model's input; iterable any number of times.

    Memory stays at one batch: the crops are a memory map. A model with a fixed batch size gets
    batches of just that size, the last one filled up with copies of its last image. Once ``stop``
    is set, the next batch raises CancelledError.
    """

    crops: Crops
    spec: InputSpec
    stop: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)

    def __len__(self) -> int:
        return len(self.crops)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        step = self.spec.batch or BATCH_SIZE
        for start in range(0, len(self), step):
            if self.stop.is_set():
                raise CancelledError
            rows = np.arange(start, start + step)
            last = len(self) - 1
            chosen = np.minimum(rows, last) if self.spec.batch else rows[rows <= last]
            yield self.crops.inputs(chosen, self.spec)
