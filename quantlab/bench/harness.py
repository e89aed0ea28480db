"""bench: models timed side by side, so that their ratio means something.

In every round each model has a fresh process; all of them live side by side, pinned to the same
CPUs. They are told in turns to run a few times, and the others wait meanwhile: turns are short, so
that what makes the machine slower for a while slows all of them, and rounds are many, because a
process can be lucky or unlucky with its place in memory for all its life. A′ is the first model
once more, in processes of its own: the difference of A and A′ is noise, and shows what the machine
can tell apart.

``isolation="shared"`` saves starting processes: one holds all sessions for all rounds. Its rounds
share their luck, which only the A/A floor shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from statistics import median
from time import monotonic
from typing import Literal

from quantlab.bench.machine import Watch
from quantlab.bench.measurement import BenchResult, Measurement
from quantlab.bench.process import Deadline, Worker, workers
from quantlab.bench.schedule import ROUNDS, Plan, drawn_order, plan, turn_orders
from quantlab.bench.setup import (
    NOISE,
    SECONDS,
    TIMEOUT,
    Progress,
    check,
    conditions_of,
    noticed,
    task_of,
    without_noise,
)
from quantlab.bench.task import Task
from quantlab.model.model import Model
from quantlab.runtime.environment import default_threads
from quantlab.runtime.providers import CPU

Isolation = Literal["fresh", "shared"]
SHARED_ROUNDS, SHARED_SECONDS = 30, 10.0


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
    optimization: str = "all",
    isolation: Isolation = "fresh",
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> BenchResult:
    """Latency of every model at every batch size, on seeded random input.

    ``rounds=None`` makes as many as fit into ``seconds`` per batch size, 8 to 15, and
    ``turns=None`` fills them. ``threads=0`` takes every physical core. ``progress`` is told how
    many of ``steps(...)`` are done, and a note.

    Raises ModelError for a model that cannot run at a batch size, QuantlabError for settings the
    machine cannot meet or when a benchmark process dies or all takes over ``timeout`` seconds.
    """
    threads = threads or default_threads()
    check(models, batch_sizes, rounds)
    task = task_of(models, 1, threads, seed=seed, providers=providers, optimization=optimization)
    bout = _Bout(task, Deadline(timeout), seconds, rounds, turns, isolation)
    heard = progress or (lambda done, note: None)
    with bout.stage() as seats:
        batches = [
            bout.batch(size, seats, _told(heard, number * (rounds or ROUNDS), size, rounds))
            for number, size in enumerate(batch_sizes)
        ]
    if isolation == "shared":
        _add_costs(batches, bout)
    return _result(models, task, batches, isolation)


def steps(batch_sizes: int, rounds: int | None = None) -> int:
    """How many steps ``progress`` will be told of in the end."""
    return batch_sizes * (rounds or ROUNDS)


@dataclass
class _Seat:
    """One session of a process."""

    worker: Worker
    session: int
    session_ms: float

    def warm(self, size: int) -> dict[str, float]:
        found: dict[str, float] = self.worker.ask("warm", session=self.session, batch=size)
        return found

    def turn(self, plan: Plan) -> list[float]:
        asked = {"session": self.session, "count": plan.runs, "uncounted": plan.uncounted}
        return [float(ms) for ms in self.worker.ask("run", **asked)]


Seats = Callable[[tuple[int, ...]], AbstractContextManager[list[_Seat]]]


@dataclass
class _Batch:
    """What came of one batch size. The lists' first index is the session, the second the round."""

    size: int
    watch: Watch
    samples: list[list[list[float]]]
    session_ms: list[list[float]]
    peaks: list[list[int]]
    plan: Plan = field(default_factory=lambda: Plan(0, 1, 0, 0))
    warmup: int = 0

    @classmethod
    def empty(cls, size: int, task: Task) -> _Batch:
        """Nothing yet."""
        every = task.subjects
        watch = Watch(task.cpus)
        return cls(size, watch, [[] for _ in every], [[] for _ in every], [[] for _ in every])


@dataclass
class _Bout:
    """The settings of one benchmark, and how it goes."""

    task: Task
    deadline: Deadline
    seconds: float
    rounds: int | None
    turns: int | None
    isolation: Isolation

    @contextmanager
    def stage(self) -> Iterator[Seats]:
        """Where a round's seats come from: new ones each time, or always the same."""
        with ExitStack() as stack:
            if self.isolation == "fresh":
                alone = [replace(self.task, subjects=(s,)) for s in self.task.subjects]
                yield lambda order: _fresh_seats(alone, order, self.deadline)
            else:
                kept = stack.enter_context(_seats([self.task], self.deadline))
                yield lambda order: nullcontext(kept)

    def batch(self, size: int, seats: Seats, told: Callable[[int, _Batch], None]) -> _Batch:
        """All rounds of one batch size."""
        found, number = _Batch.empty(size, self.task), 0
        while number == 0 or number < found.plan.rounds:
            start = monotonic()
            order = drawn_order(len(self.task.subjects), (self.task.seed, size, number))
            with seats(order) as present:
                if number == 0 or self.isolation == "fresh":
                    self._warm(found, present, order, start)
                self._round(found, present, number)
            number += 1
            told(number, found)
        return found

    def _warm(
        self, found: _Batch, seats: list[_Seat], order: tuple[int, ...], start: float
    ) -> None:
        """Warms the seats up one after the other; the first time it makes the plan."""
        warm = {i: seats[i].warm(found.size) for i in order}
        for i, answer in warm.items():
            found.session_ms[i].append(seats[i].session_ms)
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

    def _round(self, found: _Batch, seats: list[_Seat], number: int) -> None:
        runs: list[list[float]] = [[] for _ in seats]
        seed = (self.task.seed, found.size, number)
        with found.watch:
            seats[0].worker.order("run", session=seats[0].session, count=found.plan.runs)
            found.watch.look()
            seats[0].worker.receive()
            for order in turn_orders(len(seats), found.plan.turns, seed):
                for i in order:
                    runs[i] += seats[i].turn(found.plan)
        for part, session in zip(runs, found.samples, strict=True):
            session.append(part)


@contextmanager
def _fresh_seats(
    tasks: Sequence[Task], order: tuple[int, ...], deadline: Deadline
) -> Iterator[list[_Seat]]:
    """A seat for each task. They are made in the given order, which may decide who gets the better
    place in memory."""
    with _seats([tasks[i] for i in order], deadline) as made:
        yield [made[order.index(i)] for i in range(len(tasks))]


@contextmanager
def _seats(tasks: Sequence[Task], deadline: Deadline) -> Iterator[list[_Seat]]:
    """Processes with their sessions made, one process after the other."""
    with workers(tasks, deadline) as started:
        yield [
            _Seat(worker, session, float(ms))
            for worker in started
            for session, ms in enumerate(worker.ask("open"))
        ]


def _told(
    heard: Progress, before: int, size: int, rounds: int | None
) -> Callable[[int, _Batch], None]:
    """Says after each round how far the work is and what it shows."""

    def tell(number: int, found: _Batch) -> None:
        medians = [median(x for part in session for x in part) for session in found.samples]
        shown = " · ".join(f"{m:.2f}" for m in medians)
        done = round((rounds or ROUNDS) * number / found.plan.rounds)
        heard(before + done, f"batch {size}: {shown} ms")

    return tell


def _add_costs(batches: Sequence[_Batch], bout: _Bout) -> None:
    """Session creation and peak memory of each session alone, from further processes. Memory never
    shrinks, so the batch sizes run in rising order."""
    for i, subject in enumerate(bout.task.subjects):
        if i == NOISE:
            continue
        with _seats([replace(bout.task, subjects=(subject,))], bout.deadline) as (seat,):
            for batch in sorted(batches, key=lambda b: b.size):
                warm = seat.worker.ask("warm", session=0, batch=batch.size, seconds=0)
                batch.peaks[i] = [int(warm["peak_rss_bytes"])]
                batch.session_ms[i] = [seat.session_ms]
    for batch in batches:
        batch.peaks[NOISE], batch.session_ms[NOISE] = batch.peaks[0], batch.session_ms[0]


def _result(
    models: Sequence[Model], task: Task, batches: Sequence[_Batch], isolation: Isolation
) -> BenchResult:
    def measurements(model: Model, session: int) -> tuple[Measurement, ...]:
        return tuple(_measurement(model, session, task, batch, isolation) for batch in batches)

    places = without_noise(len(models))
    return BenchResult(
        measurements=tuple(measurements(m, i) for m, i in zip(models, places, strict=True)),
        noise=measurements(models[0], NOISE),
    )


def _measurement(
    model: Model, session: int, task: Task, batch: _Batch, isolation: Isolation
) -> Measurement:
    return Measurement(
        model_name=model.name,
        model_sha256=model.sha256,
        bytes=model.size_bytes,
        rounds=tuple(tuple(part) for part in batch.samples[session]),
        session_ms=median(batch.session_ms[session]),
        peak_rss_bytes=max(batch.peaks[session]),
        conditions=replace(
            noticed(conditions_of(task, batch.size), batch.plan.rounds, batch.watch),
            runs=batch.plan.turns * batch.plan.runs,
            turns=batch.plan.turns,
            warmup=batch.warmup,
            isolation=isolation,
        ),
    )
