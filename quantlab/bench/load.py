"""Latency under an offered load: requests come whether or not the last one is done.

They come at random (Poisson), wait in one queue, and the first instance that is free takes the
oldest; as in the Server scenario of MLPerf Inference. A latency counts from the moment at which the
request came, not from the one at which somebody had time for it: else a slow answer would hide the
waiting of all that came meanwhile (coordinated omission).
"""

from __future__ import annotations

from collections.abc import Sequence

from quantlab._util.reporter import Advance
from quantlab.bench.fleet import fleets
from quantlab.bench.machine import CpuMonitor
from quantlab.bench.process import Deadline
from quantlab.bench.queueing import Load, LoadResult, LoadWindow, window_of
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
from quantlab.errors import QuantlabError
from quantlab.model.model import Model
from quantlab.runtime.providers import CPU

ROUNDS = 3
LEAST_SECONDS, LEAST_REQUESTS = 2.0, 50
"""Requests come for at least so long in a round, and so many of them; but at most for a minute."""
MOST_SECONDS = 60.0


def offered_load(
    models: Sequence[Model],
    rates: Sequence[float],
    *,
    instances: int = 1,
    cores: int = 1,
    batch_sizes: Sequence[int] = (1,),
    rounds: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    providers: Sequence[str] = CPU,
    progress: Advance | None = None,
) -> LoadResult:
    """Every model at every rate (images a second) and batch size, for about ``seconds`` each rate.

    All models get the same requests. Raises ModelError for a model that cannot run at a batch size,
    QuantlabError when the machine has fewer CPUs, when a process dies or all takes over
    ``TIMEOUT`` seconds.
    """
    rounds = rounds or ROUNDS
    check_settings(models, batch_sizes, None)
    if not rates or min(rates) <= 0:
        raise QuantlabError("an offered load needs a rate above 0 images per second.")
    task = task_of(models, instances, cores, seed=seed, providers=providers)
    cpus, owners = split_cpus(task), with_control(models)
    deadline, advance = Deadline(TIMEOUT), progress or (lambda done, note: None)
    found: list[list[Load]] = [[] for _ in owners]
    done = 0
    for size in batch_sizes:
        for rate in rates:
            share = seconds / rounds / len(owners)
            timing = _Rounds(task, rate / size, share, cpus, size)
            parts = list[list[LoadWindow]]()
            for number in range(rounds):
                parts.append(timing.round(number, deadline))
                done += 1
                advance(done, f"{rate:g} images/s, batch {size}")
            conditions = with_machine_state(conditions_of(task, size), rounds, timing.monitor)
            for i, model in enumerate(owners):
                windows = tuple(part[i] for part in parts)
                made = (model.name, model.sha256, rate, instances, windows, conditions)
                found[i].append(Load(*made))
    return LoadResult(
        measurements=tuple(map(tuple, task.of_models(found))),
        noise=tuple(found[task.control]),
    )


class _Rounds:
    """All rounds of one rate and batch size. ``rate`` is in requests a second."""

    def __init__(
        self, task: BenchTask, rate: float, share: float, cpus: list[tuple[int, ...]], size: int
    ) -> None:
        self._task, self._rate, self._cpus, self._size = task, rate, cpus, size
        self._window = min(MOST_SECONDS, max(LEAST_SECONDS, share, LEAST_REQUESTS / rate))
        self.monitor = CpuMonitor(task.cpus)

    def round(self, number: int, deadline: Deadline) -> list[LoadWindow]:
        """One window for each session, all with the same requests."""
        seed = (self._task.seed, self._size, number)
        (order,) = turn_orders(len(self._task.models), 1, seed)
        windows: dict[int, LoadWindow] = {}
        place = (self._task, self._cpus, self._size)
        with fleets(*place, deadline, number) as ready, self.monitor:
            for i in order:
                served = ready[i].serve(self._rate, self._window, seed, self.monitor)
                windows[i] = window_of(served, self._rate, self._window, seed)
        return [windows[i] for i in sorted(windows)]
