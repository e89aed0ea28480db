"""Monitors: evaluations that a service repeats, and when each is due. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ConfigDict

from quantlab.errors import QuantlabError
from quantlab.serve.alerts import Result

WATCHED = ("evaluate", "compare", "gate")
"""Verbs that a monitor may repeat."""
LONGEST_SCHEDULE = 100
Reason = Literal["asked", "schedule", "version", "environment"]


class Seen(BaseModel):
    """What a monitor's last job was of: the newest ``models`` by name, as sha256s, and the CPUs and
    runtimes of the workers' machines."""

    model_config = ConfigDict(frozen=True)

    models: dict[str, str] = {}
    machines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Monitor:
    """A monitor as its row has it. Times are seconds since 1970. ``turn`` counts what was changed
    or begun; ``next`` is when the schedule wants the next job, ``asked`` whether somebody wants it
    now; ``job`` is the one that has not been looked at since it ended; no alert is sent before
    ``silenced``."""

    id: str
    name: str
    token: str
    request: dict[str, Any]
    schedule: str | None
    on_version: bool
    on_environment: bool
    enabled: bool
    receivers: tuple[str, ...]
    silenced: float | None
    turn: int
    next: float | None
    asked: bool
    job: str | None
    created: float
    seen: Seen = field(default_factory=Seen)
    last: Result | None = None

    @property
    def key(self) -> str:
        """The idempotency key of its next job: whoever submits that, it is one. No client can send
        a key with a space."""
        return f"monitor {self.id} {self.turn}"

    def silent(self, now: float) -> bool:
        """Whether its alerts are kept and not sent."""
        return self.silenced is not None and now < self.silenced


def next_time(schedule: str | None, after: float) -> float | None:
    """When a cron expression (five fields, in UTC) is next met after that time, in seconds since
    1970; None without one. Raises QuantlabError for an expression that is wrong or never met."""
    if schedule is None:
        return None
    try:
        if len(schedule.split()) != 5 or len(schedule) > LONGEST_SCHEDULE:
            raise CronSimError("a schedule has five fields")
        return next(CronSim(schedule, datetime.fromtimestamp(after, UTC))).timestamp()
    except (CronSimError, StopIteration, OverflowError) as error:
        reason = f"{error}"[:1].lower() + f"{error}"[1:] or "it is never met"
        raise QuantlabError(
            f"{schedule!r} is no schedule: {reason}.",
            "Five fields of cron, in UTC: minute, hour, day, month, weekday; such as 0 3 * * 1-5",
        ) from error


def why_due(monitor: Monitor, now: float, seen: Seen) -> Reason | None:
    """Why a job is due now, None where none is. While a job of it is open none ever is; what was
    missed meanwhile is made up for by one."""
    if monitor.job is not None:
        return None
    if monitor.asked:
        return "asked"
    if not monitor.enabled:
        return None
    if monitor.next is not None and monitor.next <= now:
        return "schedule"
    if monitor.on_version and _newer(seen.models, monitor.seen.models):
        return "version"
    if monitor.on_environment and not set(seen.machines) <= set(monitor.seen.machines):
        return "environment"
    return None


def _newer(models: Mapping[str, str], before: Mapping[str, str]) -> bool:
    """Whether a name stands for another model than before. One that stands for none is no news."""
    return any(before.get(name) != sha256 for name, sha256 in models.items())
