"""Limit how many requests a minute each caller may make. Pure but for its clock."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS_AHEAD = 10.0
"""So many seconds' worth of requests may come at once."""
MOST_KEYS = 20_000


class Rates:
    """The generic cell rate algorithm (ITU-T I.371): of each key one time is kept, when its next
    request would be due if all came evenly. Not for several threads."""

    def __init__(self, a_minute: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval = 60 / a_minute
        self._clock = clock
        self._due = dict[str, float]()

    def take(self, key: str) -> float:
        """0 if the request may proceed, else the seconds after which one may."""
        now = self._clock()
        due = max(self._due.get(key, now), now)
        if due - now > SECONDS_AHEAD:
            return due - now - SECONDS_AHEAD
        if key not in self._due and len(self._due) >= MOST_KEYS:
            self._forget(now)
        self._due[key] = due + self._interval
        return 0.0

    def _forget(self, now: float) -> None:
        """Drop callers whose time has passed; all of them when there are more than MOST_KEYS."""
        self._due = {key: due for key, due in self._due.items() if due > now}
        if len(self._due) >= MOST_KEYS:
            self._due.clear()
