"""bench: measure the latency of models side by side, in turns, with an A/A control.

In every round each model has a fresh process; all of them run side by side, pinned to the same
CPUs. One at a time runs its model a few times, and the others wait meanwhile: turns are short, so
that what makes the machine slower for a while slows all of them, and rounds are many, because a
process's speed depends on where its memory lies and stays so until it ends. A′ is the first model
once more, in processes of its own: the difference of A and A′ is noise, and shows what the machine
can tell apart.

``isolation="shared"`` saves starting processes: one holds all sessions for all rounds. Where
their memory lies is then an error common to all rounds, which only the A/A noise floor shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from statistics import median
from time import monotonic

from quantlab._util.reporter import Advance
from quantlab.bench.child import WARMUP_SECONDS
from quantlab.bench.defaults import Isolation as Isolation
from quantlab.bench.machine import CpuMonitor
from quantlab.bench.measurement import BenchResult, Measurement
from quantlab.bench.process import BenchProcess, Deadline, workers
from quantlab.bench.schedule import LEAST_ROUNDS, ROUNDS, RoundPlan, drawn_order, plan, turn_orders
from quantlab.bench.setup import (
    SECONDS,
    TIMEOUT,
    check_settings,
    conditions_of,
    task_of,
    with_control,
    with_machine_state,
)
from quantlab.bench.task import BenchTask
from quantlab.model.model import Model
from quantlab.runtime.environment import default_threads
from quantlab.runtime.providers import CPU

Enough = Callable[[Sequence[Sequence[Sequence[float]]], int], bool]
"""Given the milliseconds of every run, by session and round, and the turns of a round: whether more
rounds are not needed."""


def bench(
    models: Sequence[Model],
    *,
    batch_sizes: Sequence[int] = (1,),
    rounds: int | None = None,
    turns: int | None = None,
    seconds: float = SECONDS,
    threads: int = 1,
    seed: int = 0,
    providers: Sequence[str] = CPU,
    isolation: Isolation = "fresh",
    timeout: float = TIMEOUT,
    enough: Enough | None = None,
    costs: bool = True,
    progress: Advance | None = None,
) -> BenchResult:
    """Latency of every model at every batch size, on seeded random input.

    ``rounds=None`` makes as many as fit into ``seconds`` per batch size, 8 to 15, and
    ``turns=None`` fills them. ``threads=0`` takes every physical core. From round 8 on ``enough``
    may end a batch size's rounds. ``costs=False`` leaves out what takes processes of their own in
    ``isolation="shared"``: the memory of each model. ``progress`` is told how many of
    ``steps(...)`` are done, and a note.

    Raises ModelError for a model that cannot run at a batch size, QuantlabError for settings the
    machine cannot meet or when a benchmark process dies or all takes over ``timeout`` seconds.
    """
    threads = threads or default_threads()
    check_settings(models, batch_sizes, rounds)
    task = task_of(models, 1, threads, seed=seed, providers=providers)
    benchmark = _Benchmark(task, Deadline(timeout), seconds, rounds, turns, isolation, enough)
    advance = progress or (lambda done, note: None)
    with benchmark.sessions() as source:
        batches = [
            benchmark.batch(
                size, source, _progress_note(advance, number * (rounds or ROUNDS), size, rounds)
            )
            for number, size in enumerate(batch_sizes)
        ]
    if isolation == "shared" and costs:
        _add_costs(batches, benchmark)
    elif isolation == "shared":
        for batch in batches:
            batch.peaks = [[] for _ in batch.peaks]
    return _result(models, task, batches, isolation)


def steps(batch_sizes: int, rounds: int | None = None) -> int:
    """The number of steps that ``progress`` counts to."""
    return batch_sizes * (rounds or ROUNDS)


@dataclass
class _Session:
    """One session of a process."""

    worker: BenchProcess
    session: int
    session_ms: float

    def warm(self, size: int, seconds: float) -> dict[str, float]:
        asked = {"session": self.session, "batch": size, "seconds": seconds}
        found: dict[str, float] = self.worker.ask("warm", **asked)
        return found

    def turn(self, plan: RoundPlan) -> list[float]:
        asked = {"session": self.session, "count": plan.runs, "uncounted": plan.uncounted}
        return [float(ms) for ms in self.worker.ask("run", **asked)]


SessionSource = Callable[[tuple[int, ...]], AbstractContextManager[list[_Session]]]


@dataclass
class _Batch:
    """The measurements of one batch size. The lists' first index is the session, the second the
    round."""

    size: int
    monitor: CpuMonitor
    samples: list[list[list[float]]]
    session_ms: list[list[float]]
    peaks: list[list[int]]
    plan: RoundPlan = field(default_factory=lambda: RoundPlan(0, 1, 0, 0))
    warmup: int = 0

    @classmethod
    def empty(cls, size: int, task: BenchTask) -> _Batch:
        """Nothing yet."""
        every = task.models
        monitor = CpuMonitor(task.cpus)
        return cls(size, monitor, [[] for _ in every], [[] for _ in every], [[] for _ in every])


@dataclass
class _Benchmark:
    """The settings of one benchmark; runs its rounds."""

    task: BenchTask
    deadline: Deadline
    seconds: float
    rounds: int | None
    turns: int | None
    isolation: Isolation
    enough: Enough | None

    @contextmanager
    def sessions(self) -> Iterator[SessionSource]:
        """How a round gets its sessions: in fresh processes each time, or always the same ones."""
        with ExitStack() as stack:
            if self.isolation == "fresh":
                alone = [replace(self.task, models=(m,)) for m in self.task.models]
                yield lambda order: _fresh_sessions(alone, order, self.deadline)
            else:
                kept = stack.enter_context(_sessions([self.task], self.deadline))
                yield lambda order: nullcontext(kept)

    def batch(
        self, size: int, source: SessionSource, told: Callable[[int, _Batch], None]
    ) -> _Batch:
        """All rounds of one batch size."""
        found, number = _Batch.empty(size, self.task), 0
        while number == 0 or number < found.plan.rounds:
            start = monotonic()
            order = drawn_order(len(self.task.models), (self.task.seed, size, number))
            with source(order) as sessions:
                if number == 0 or self.isolation == "fresh":
                    self._warm(found, sessions, order, start)
                self._round(found, sessions, number)
            number += 1
            told(number, found)
            if self._is_enough(found, number):
                found.plan = replace(found.plan, rounds=number)
        return found

    def _is_enough(self, found: _Batch, rounds: int) -> bool:
        if self.enough is None or rounds < LEAST_ROUNDS:
            return False
        return self.enough(found.samples, found.plan.turns)

    def _warm(
        self, found: _Batch, sessions: list[_Session], order: tuple[int, ...], start: float
    ) -> None:
        """Warm the sessions up one after the other; the first time, also plan rounds and turns."""
        most = min(WARMUP_SECONDS, self.seconds)
        warm = {i: sessions[i].warm(found.size, most) for i in order}
        for i, answer in warm.items():
            found.session_ms[i].append(sessions[i].session_ms)
            found.peaks[i].append(int(answer["peak_rss_bytes"]))
        fewest = min(int(answer["runs"]) for answer in warm.values())
        if found.plan.rounds:
            found.warmup = min(found.warmup, fewest)
            return
        found.warmup = fewest
        overhead = monotonic() - start if self.isolation == "fresh" else 0.0
        found.plan = plan(
            [float(answer["median_ms"]) for answer in warm.values()],
            overhead=overhead,
            seconds=self.seconds,
            rounds=self.rounds,
            turns=self.turns,
        )

    def _round(self, found: _Batch, sessions: list[_Session], number: int) -> None:
        runs: list[list[float]] = [[] for _ in sessions]
        seed = (self.task.seed, found.size, number)
        with found.monitor:
            sessions[0].worker.order("run", session=sessions[0].session, count=found.plan.runs)
            found.monitor.sample_clock_rate()
            sessions[0].worker.receive()
            for order in turn_orders(len(sessions), found.plan.turns, seed):
                for i in order:
                    runs[i] += sessions[i].turn(found.plan)
        for part, samples in zip(runs, found.samples, strict=True):
            samples.append(part)


@contextmanager
def _fresh_sessions(
    tasks: Sequence[BenchTask], order: tuple[int, ...], deadline: Deadline
) -> Iterator[list[_Session]]:
    """One session for each task, created in the given order, on which their places in memory may
    depend."""
    with _sessions([tasks[i] for i in order], deadline) as made:
        yield [made[order.index(i)] for i in range(len(tasks))]


@contextmanager
def _sessions(tasks: Sequence[BenchTask], deadline: Deadline) -> Iterator[list[_Session]]:
    """Start processes and create their sessions, one process after the other."""
    with workers(tasks, deadline) as started:
        yield [
            _Session(worker, session, float(ms))
            for worker in started
            for session, ms in enumerate(worker.ask("open"))
        ]


def _progress_note(
    advance: Advance, before: int, size: int, rounds: int | None
) -> Callable[[int, _Batch], None]:
    """A function that reports after each round the progress and the medians so far, in ms."""

    def tell(number: int, found: _Batch) -> None:
        medians = [median(x for part in session for x in part) for session in found.samples]
        shown = " · ".join(f"{m:.2f}" for m in medians)
        done = round((rounds or ROUNDS) * number / found.plan.rounds)
        advance(before + done, f"batch {size}: {shown} ms")

    return tell


def _add_costs(batches: Sequence[_Batch], benchmark: _Benchmark) -> None:
    """Session creation and peak memory of each session alone, from further processes. Memory never
    shrinks, so the batch sizes run in rising order."""
    task = benchmark.task
    for i, model in enumerate(task.models):
        if model.is_control:
            continue
        only = replace(task, models=(model,))
        with _sessions([only], benchmark.deadline) as (alone,):
            for batch in sorted(batches, key=lambda b: b.size):
                warm = alone.worker.ask("warm", session=0, batch=batch.size, seconds=0)
                batch.peaks[i] = [int(warm["peak_rss_bytes"])]
                batch.session_ms[i] = [alone.session_ms]
    for batch in batches:
        batch.peaks[task.control], batch.session_ms[task.control] = (
            batch.peaks[0],
            batch.session_ms[0],
        )


def _result(
    models: Sequence[Model], task: BenchTask, batches: Sequence[_Batch], isolation: Isolation
) -> BenchResult:
    found = [
        tuple(_measurement(model, session, task, batch, isolation) for batch in batches)
        for session, model in enumerate(with_control(models))
    ]
    return BenchResult(task.of_models(found), found[task.control])


def _measurement(
    model: Model, session: int, task: BenchTask, batch: _Batch, isolation: Isolation
) -> Measurement:
    return Measurement(
        model_name=model.name,
        model_sha256=model.sha256,
        bytes=model.size_bytes,
        rounds=tuple(tuple(part) for part in batch.samples[session]),
        session_ms=median(batch.session_ms[session]),
        peak_rss_bytes=max(batch.peaks[session], default=None),
        conditions=replace(
            with_machine_state(conditions_of(task, batch.size), batch.plan.rounds, batch.monitor),
            runs=batch.plan.turns * batch.plan.runs,
            turns=batch.plan.turns,
            warmup=batch.warmup,
            isolation=isolation,
        ),
    )
