"""Throughput of several instances at once: processes on their own CPUs, one model at a time.

The model zoo's "1 socket, 4 cores per instance" is ``instances = cores of the socket / 4`` with
``cores = 4``. Rounds, turns and A′ are those of ``harness``, but that in its turn all instances of
a model run at the same time, for a fixed time.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic

from quantlab._util.reporter import Advance
from quantlab.bench.fleet import fleets
from quantlab.bench.machine import CpuMonitor
from quantlab.bench.process import Deadline
from quantlab.bench.schedule import turn_orders
from quantlab.bench.setup import (
    SECONDS,
    TIMEOUT,
    check_settings,
    conditions_of,
    split_cpus,
    task_of,
    with_control,
    with_machine_state,
)
from quantlab.bench.task import BenchTask
from quantlab.bench.throughput import Throughput, ThroughputResult
from quantlab.model.model import Model
from quantlab.runtime.providers import CPU

ROUNDS = 8
TURNS = 2
"""In each round."""
LEAST_SECONDS, LEAST_RUNS = 0.25, 3
"""A turn is at least so long."""


def throughput(
    models: Sequence[Model],
    *,
    instances: int,
    cores: int,
    batch_sizes: Sequence[int] = (1,),
    rounds: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    providers: Sequence[str] = CPU,
    progress: Advance | None = None,
) -> ThroughputResult:
    """``instances`` processes, each pinned to its own ``cores`` with as many threads, run the same
    model at the same time. A batch size takes about ``seconds``.

    Raises ModelError for a model that cannot run at a batch size, QuantlabError when the machine
    has fewer CPUs, when a process dies or all takes over ``TIMEOUT`` seconds.
    """
    rounds = rounds or ROUNDS
    check_settings(models, batch_sizes, rounds)
    task = task_of(models, instances, cores, seed=seed, providers=providers)
    cpus = split_cpus(task)
    deadline, advance = Deadline(TIMEOUT), progress or (lambda done, note: None)
    owners = with_control(models)
    found: list[list[Throughput]] = [[] for _ in owners]
    for number, size in enumerate(batch_sizes):
        timing, parts = _Rounds(task, size, rounds, seconds), list[list[list[list[float]]]]()
        for r in range(rounds):
            parts.append(timing.round(r, cpus, deadline))
            advance(number * rounds + r + 1, f"batch {size}")
        conditions = with_machine_state(conditions_of(task, size), rounds, timing.monitor)
        for i, model in enumerate(owners):
            runs = tuple(tuple(tuple(own) for own in part[i]) for part in parts)
            made = (model.name, model.sha256, model.size_bytes, instances, runs, conditions)
            found[i].append(Throughput(*made))
    return ThroughputResult(
        measurements=tuple(map(tuple, task.of_models(found))),
        noise=tuple(found[task.control]),
    )


class _Rounds:
    """All rounds of one batch size."""

    def __init__(self, task: BenchTask, size: int, rounds: int, seconds: float) -> None:
        self._task, self._size, self._rounds, self._seconds = task, size, rounds, seconds
        self._turn_seconds = 0.0
        self.monitor = CpuMonitor(task.cpus)

    def round(
        self, number: int, cpus: Sequence[tuple[int, ...]], deadline: Deadline
    ) -> list[list[list[float]]]:
        """The runs of each session's instances."""
        start, sessions = monotonic(), len(self._task.models)
        runs: list[list[list[float]]] = [[[] for _ in cpus] for _ in range(sessions)]
        with fleets(self._task, cpus, self._size, deadline, number) as ready:
            if not self._turn_seconds:
                left = self._seconds / self._rounds - (monotonic() - start)
                least = max(LEAST_SECONDS, LEAST_RUNS * max(f.median_ms for f in ready) / 1000)
                self._turn_seconds = max(least, left / sessions / TURNS)
            orders = turn_orders(sessions, TURNS, (self._task.seed, self._size, number))
            with self.monitor:
                for i in (i for order in orders for i in order):
                    spun = ready[i].spin(self._turn_seconds, self.monitor)
                    for own, more in zip(runs[i], spun, strict=True):
                        own += more
        return runs
