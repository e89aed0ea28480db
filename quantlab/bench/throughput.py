"""Throughput of several instances at once. Data classes and pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from quantlab._util.files import write_whole
from quantlab.bench.measurement import Conditions, read_stored


@dataclass(frozen=True)
class Throughput:
    """One model at one batch size on ``instances`` at once.

    ``rounds`` holds the milliseconds of every run of a whole batch: [round][instance][run].
    ``conditions.threads`` are the cores of one instance.
    """

    model_name: str
    model_sha256: str
    bytes: int
    instances: int
    rounds: tuple[tuple[tuple[float, ...], ...], ...]
    conditions: Conditions

    @cached_property
    def rates(self) -> NDArray[np.float64]:
        """Every round's images a second of all instances together: float64 [rounds]. An instance's
        rate is that of its own runs, which lie end to end."""
        batch = self.conditions.batch_size
        return np.array(
            [sum(1000 * batch * len(runs) / sum(runs) for runs in part) for part in self.rounds]
        )

    @property
    def images_per_second(self) -> float:
        """The median round's images a second, of all instances together."""
        return float(np.median(self.rates))

    def percentile(self, q: float) -> float:
        """Of all runs of all instances, in milliseconds a step."""
        return float(np.percentile(np.concatenate([r for part in self.rounds for r in part]), q))

    def of_instances(self, q: float) -> tuple[float, ...]:
        """The same percentile for each instance alone."""
        return tuple(
            float(np.percentile(np.concatenate(own), q)) for own in zip(*self.rounds, strict=True)
        )


@dataclass(frozen=True)
class ThroughputResult:
    """Models measured in one run: one inner tuple a model, one Throughput a batch size; ``noise``
    is the first model once more."""

    measurements: tuple[tuple[Throughput, ...], ...]
    noise: tuple[Throughput, ...]

    def save(self, path: Path) -> None:
        """Write as JSON. Raises OutputError."""
        write_whole(path, _RESULT.dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path) -> ThroughputResult:
        """Read what ``save`` wrote. Raises RecordError."""
        return read_stored(path, _RESULT)


_RESULT = TypeAdapter(ThroughputResult)
