"""Timeline: which step of a run took place when, also of steps side by side."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class TimedStep:
    """One step: seconds from the start of the timeline to its ``start`` and ``end``."""

    name: str
    start: float
    end: float


class Timeline:
    """The steps of a run, in the order in which they began. Threads may add to it side by side.

    Examples:
        >>> ticks = iter((0.0, 1.0, 3.5))
        >>> timeline = Timeline(clock=lambda: next(ticks))
        >>> with timeline.step("decode"):
        ...     pass
        >>> timeline.steps
        (TimedStep(name='decode', start=1.0, end=3.5),)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start = clock, clock()
        self._steps: list[TimedStep] = []
        self._lock = threading.Lock()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the block as a step, also when it raises."""
        start = self._clock() - self._start
        try:
            yield
        finally:
            with self._lock:
                self._steps.append(TimedStep(name, start, self._clock() - self._start))

    @property
    def steps(self) -> tuple[TimedStep, ...]:
        """All steps that have ended."""
        with self._lock:
            return tuple(sorted(self._steps, key=lambda step: step.start))
