"""bench: models timed side by side, so that their ratio means something.

All models share one fresh process, pinned to as many CPUs as threads. In every round each model
runs a few times in a row; the order is A A′ B … in one round and … B A′ A in the next, so that
what makes the machine slower for a while slows all of them. A′ is the first model once more, in a
session of its own: the difference of A and A′ is noise, and shows what the machine can tell apart.
Session creation and peak memory come from further processes, one a model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from quantlab.bench.measurement import BenchResult, Conditions, Measurement
from quantlab.bench.process import run_task
from quantlab.bench.task import Subject, Task
from quantlab.errors import ModelError, QuantlabError
from quantlab.model import Model
from quantlab.runtime.environment import available_cpus, default_threads, environment, pick_cpus

Progress = Callable[[int, str], None]
ROUNDS = 30
SECONDS = 10.0
WARMUP = 10
TIMEOUT = 3600.0
_NOISE = 1
"""Where A′ stands among the sessions."""


@dataclass(frozen=True)
class _Cost:
    session_ms: float
    peak_rss_bytes: tuple[int, ...]


def bench(
    models: Sequence[Model],
    *,
    batch_sizes: Sequence[int] = (1,),
    rounds: int = ROUNDS,
    runs: int | None = None,
    seconds: float = SECONDS,
    warmup: int = WARMUP,
    threads: int = 1,
    seed: int = 0,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    optimization: str = "all",
    timeout: float = TIMEOUT,
    progress: Progress | None = None,
) -> BenchResult:
    """Latency of every model at every batch size, on seeded random input.

    Each model is run ``runs`` times in each of ``rounds`` rounds; ``runs=None`` chooses that number
    (the same for all models) so that a batch size takes about ``seconds``. ``threads=0`` takes
    every physical core. ``progress`` is told how many of ``steps(...)`` are done, and a note.

    Raises ModelError for a model that cannot run at a batch size, QuantlabError for settings the
    machine cannot meet or when a benchmark process dies or takes over ``timeout`` seconds.
    """
    threads = threads or default_threads()
    _check(models, batch_sizes, rounds, threads)
    heard = progress or (lambda done, note: None)
    task = Task(
        kind="latency",
        subjects=tuple(_subject(m) for m in models),
        batch_sizes=tuple(batch_sizes),
        rounds=rounds,
        runs=runs,
        seconds=seconds,
        warmup=warmup,
        threads=threads,
        cpus=pick_cpus(threads),
        seed=seed,
        providers=tuple(providers),
        optimization=optimization,
    )
    costs = [_cost(task, i, timeout, heard) for i in range(len(models))]
    with_noise = replace(task, subjects=_insert(task.subjects, task.subjects[0]))
    told: Progress = lambda done, note: heard(len(models) + done, note)  # noqa: E731
    result = run_task(with_noise, timeout=timeout, heard=told)
    return _result(models, task, costs, result["batches"])


def steps(models: int, batch_sizes: int, rounds: int = ROUNDS) -> int:
    """How many steps ``progress`` will be told of in the end."""
    return models + batch_sizes * rounds


def _insert(items: tuple[Subject, ...], item: Subject) -> tuple[Subject, ...]:
    return (*items[:_NOISE], item, *items[_NOISE:])


def _check(models: Sequence[Model], batch_sizes: Sequence[int], rounds: int, threads: int) -> None:
    if not models or not batch_sizes:
        raise QuantlabError("a benchmark needs at least one model and one batch size.")
    if rounds < 1 or min(batch_sizes) < 1:
        raise QuantlabError("rounds and batch sizes must be at least 1.")
    available = len(available_cpus())
    if not 1 <= threads <= available:
        raise QuantlabError(
            f"cannot pin {threads} threads: this process may use {available} CPUs.",
            f"Ask for 1 to {available} threads.",
        )
    for model in models:
        fixed = model.check_classifier().input.batch
        wrong = sorted({b for b in batch_sizes if fixed is not None and b != fixed})
        if wrong:
            sizes = ", ".join(map(str, wrong))
            raise ModelError(
                f"{model.path}: its batch size is fixed at {fixed}, it cannot run at {sizes}.",
                f"Leave the batch size at {fixed}, or export the model with a free batch.",
            )


def _subject(model: Model) -> Subject:
    spec = model.input
    image = (spec.height, spec.width)
    shape = (3, *image) if spec.layout == "NCHW" else (*image, 3)
    return Subject(str(model.path), spec.name, spec.dtype, shape)


def _cost(task: Task, index: int, timeout: float, heard: Progress) -> _Cost:
    subject = task.subjects[index]
    found = run_task(replace(task, kind="cost", subjects=(subject,)), timeout=timeout)
    heard(index + 1, f"session {found['session_ms']:.0f} ms")
    return _Cost(found["session_ms"], tuple(found["peak_rss_bytes"]))


def _result(
    models: Sequence[Model], task: Task, costs: Sequence[_Cost], batches: list[dict[str, Any]]
) -> BenchResult:
    def measurements(model: int, session: int) -> tuple[Measurement, ...]:
        return tuple(
            _measurement(models[model], costs[model], task, b, session, batch)
            for b, batch in enumerate(batches)
        )

    sessions = [i if i < _NOISE else i + 1 for i in range(len(models))]
    return BenchResult(
        measurements=tuple(measurements(i, s) for i, s in enumerate(sessions)),
        noise=measurements(0, _NOISE),
    )


def _measurement(
    model: Model, cost: _Cost, task: Task, number: int, session: int, batch: dict[str, Any]
) -> Measurement:
    facts = environment()
    return Measurement(
        model_name=model.name,
        model_sha256=model.sha256,
        bytes=model.size_bytes,
        rounds=tuple(tuple(part) for part in batch["samples"][session]),
        session_ms=cost.session_ms,
        peak_rss_bytes=cost.peak_rss_bytes[number],
        conditions=Conditions(
            threads=task.threads,
            batch_size=task.batch_sizes[number],
            rounds=task.rounds,
            runs=batch["runs"],
            warmup=batch["warmup"],
            seed=task.seed,
            cpu=facts["cpu"],
            isa=facts["isa"],
            versions={k: facts[k] for k in ("onnxruntime", "numpy", "python")},
        ),
    )
