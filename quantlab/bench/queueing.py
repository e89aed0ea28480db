"""Load: waiting and service times of requests. Data classes and pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from quantlab._util.files import write_whole
from quantlab.bench.measurement import Conditions, read_stored
from quantlab.bench.schedule import poisson_arrivals

KEPT_UP = 0.95
"""Answers that come more slowly than this share of the requests leave a growing queue."""


@dataclass(frozen=True)
class LoadWindow:
    """Requests of one round: how many ``came`` in how many ``seconds``; of each served one, in
    milliseconds from the window's start, when it came, when it was begun and when it was done."""

    came: int
    seconds: float
    due: tuple[float, ...]
    begun: tuple[float, ...]
    done: tuple[float, ...]


@dataclass(frozen=True)
class Load:
    """One model under a load of ``rate`` images a second, in requests of ``conditions.batch_size``
    images, served by ``instances``. Latencies are in milliseconds."""

    model_name: str
    model_sha256: str
    rate: float
    instances: int
    windows: tuple[LoadWindow, ...]
    conditions: Conditions

    @cached_property
    def latencies(self) -> NDArray[np.float64]:
        """Of all served requests, from their coming to their answer: float64 [requests]."""
        return np.concatenate([np.subtract(w.done, w.due) for w in self.windows])

    def percentile(self, q: float) -> float:
        """So many percent of the served requests had their answer within these milliseconds."""
        return float(np.percentile(self.latencies, q))

    @property
    def achieved(self) -> float:
        """Images answered a second, from a window's start to its last answer."""
        answered = self.conditions.batch_size * self.latencies.size
        return answered / sum(max(w.seconds, w.done[-1] / 1000) for w in self.windows)

    @property
    def unserved(self) -> int:
        """Requests that were given up, because the queue was too long."""
        return sum(w.came - len(w.done) for w in self.windows)

    @property
    def utilization(self) -> float:
        """The share of the instances' time that requests as long as these take at this rate; a
        queue has an end only below 1."""
        busy = np.concatenate([np.subtract(w.done, w.begun) for w in self.windows]).mean() / 1000
        return float(busy * self.rate / self.conditions.batch_size / self.instances)

    @property
    def keeps_up(self) -> bool:
        """Whether the queue stays bounded under this load."""
        came = self.conditions.batch_size * sum(w.came for w in self.windows)
        offered = came / sum(w.seconds for w in self.windows)
        late = self.achieved < KEPT_UP * offered
        return not self.unserved and self.utilization < 1 and not late


@dataclass(frozen=True)
class LoadResult:
    """One inner tuple a model, one Load a rate and batch size; ``noise`` is the first model once
    more."""

    measurements: tuple[tuple[Load, ...], ...]
    noise: tuple[Load, ...]

    def save(self, path: Path) -> None:
        """Write as JSON. Raises OutputError."""
        write_whole(path, _RESULT.dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path) -> LoadResult:
        """Read what ``save`` wrote. Raises RecordError."""
        return read_stored(path, _RESULT)


_RESULT = TypeAdapter(LoadResult)


def window_of(
    served: Sequence[tuple[int, float, float]], rate: float, seconds: float, seed: Sequence[int]
) -> LoadWindow:
    """A round's requests from what the instances say of those they served, in any order."""
    due = 1000 * poisson_arrivals(rate, seconds, seed)
    rows = sorted(served, key=lambda row: row[2])
    return LoadWindow(
        came=len(due),
        seconds=seconds,
        due=tuple(float(due[n]) for n, _, _ in rows),
        begun=tuple(begun for _, begun, _ in rows),
        done=tuple(done for _, _, done in rows),
    )
