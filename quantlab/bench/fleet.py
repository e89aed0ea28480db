"""Several processes that run one model at the same time, each on its own CPUs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import monotonic_ns

from quantlab.bench.child import INDEX_BYTES, wait_until
from quantlab.bench.machine import CpuMonitor
from quantlab.bench.process import BenchProcess, Deadline, workers
from quantlab.bench.schedule import drawn_order, poisson_arrivals
from quantlab.bench.task import BenchTask

HEADSTART_NS = 20_000_000
"""An order reaches all processes in less, so that they begin at one moment."""
Served = list[tuple[int, float, float]]


@dataclass
class Fleet:
    """Processes that run one model at the same time, each with one warm session."""

    workers: list[BenchProcess]
    queue: int
    median_ms: float

    def spin(self, seconds: float, monitor: CpuMonitor) -> list[list[float]]:
        """The milliseconds of the runs that each instance makes in so many seconds."""
        start = monotonic_ns() + HEADSTART_NS
        for worker in self.workers:
            worker.order("spin", session=0, start_ns=start, seconds=seconds)
        wait_until(start + HEADSTART_NS)
        monitor.sample_clock_rate()
        return [worker.receive() for worker in self.workers]

    def serve(
        self, rate: float, seconds: float, seed: Sequence[int], monitor: CpuMonitor
    ) -> Served:
        """Requests that come at ``rate`` a second: those served, see ``child.Sessions.serve``."""
        _fill(self.queue, len(poisson_arrivals(rate, seconds, seed)))
        start = monotonic_ns() + HEADSTART_NS
        for worker in self.workers:
            worker.order(
                "serve",
                session=0,
                start_ns=start,
                rate=rate,
                seconds=seconds,
                seed=list(seed),
                queue=self.queue,
            )
        wait_until(start + HEADSTART_NS)
        monitor.sample_clock_rate()
        return sorted(tuple(row) for worker in self.workers for row in worker.receive())


@contextmanager
def fleets(
    task: BenchTask, cpus: Sequence[tuple[int, ...]], batch: int, deadline: Deadline, number: int
) -> Iterator[list[Fleet]]:
    """For each model of the task one process for each entry of ``cpus``. All are started at once;
    then one fleet after the other makes its sessions and warms up, in an order drawn for round
    ``number``."""
    order = drawn_order(len(task.models), (task.seed, batch, number))
    models = [task.models[i] for i in order]
    tasks = [replace(task, models=(model,), cpus=own) for model in models for own in cpus]
    with tempfile.TemporaryFile(buffering=0) as queue:
        shared = (queue.fileno(),) if len(cpus) > 1 else ()
        with workers(tasks, deadline, files=shared) as started:
            parts = [started[i : i + len(cpus)] for i in range(0, len(started), len(cpus))]
            warm = [_warm(part, shared[0] if shared else -1, batch) for part in parts]
            yield [warm[order.index(i)] for i in range(len(warm))]


def _warm(part: list[BenchProcess], queue: int, batch: int) -> Fleet:
    for worker in part:
        worker.order("open")
        worker.order("warm", session=0, batch=batch)
    for worker in part:
        worker.receive()
    return Fleet(part, queue, max(float(worker.receive()["median_ms"]) for worker in part))


def _fill(queue: int, count: int) -> None:
    """Write the numbers 0 to ``count`` - 1 into the queue, to be read from its start."""
    if queue < 0:
        return
    os.ftruncate(queue, 0)
    os.lseek(queue, 0, os.SEEK_SET)
    words = b"".join(n.to_bytes(INDEX_BYTES, "little") for n in range(count))
    while words:
        words = words[os.write(queue, words) :]
    os.lseek(queue, 0, os.SEEK_SET)
