"""The benchmark process: ``python -m quantlab.bench.child``.

A Task in JSON on standard input; JSON lines on standard output: ``{"done": n, "note": …}`` while it
works, then ``{"result": …}`` or ``{"problem": …, "remedy": …}``.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from quantlab.bench.task import Subject, Task, round_order, runs_per_round
from quantlab.errors import QuantlabError

if TYPE_CHECKING:
    import onnxruntime as ort

    from quantlab.runtime.session import Optimization

Run = Callable[[], object]
Say = Callable[[dict[str, Any]], None]
WARMUP_SECONDS = 1.0
"""Warm-up of one session ends after so long, even when not all its runs were made."""


def main() -> None:
    """Reads the task, pins the process, works, answers."""
    say = _own_stdout()
    task = Task.from_json(sys.stdin.read())
    if hasattr(os, "sched_setaffinity") and task.cpus:
        os.sched_setaffinity(0, task.cpus)
    try:
        result = cost(task) if task.kind == "cost" else latency(task, say)
    except QuantlabError as error:
        say({"problem": error.problem, "remedy": error.remedy})
    else:
        say({"result": result})


def _own_stdout() -> Say:
    """Answers go to the real standard output, whatever else is printed to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    return say


def cost(task: Task) -> dict[str, Any]:
    """``session_ms`` of the only subject, and ``peak_rss_bytes`` up to each batch size.

    Memory never shrinks, so the batch sizes run in rising order.
    """
    from quantlab.runtime.environment import peak_rss_bytes

    subject = task.subjects[0]
    import onnxruntime  # noqa: F401  its import is not the session's time

    start = perf_counter_ns()
    session = _session(task, subject)
    session_ms = _ms_since(start)
    peaks = {}
    for size in sorted(set(task.batch_sizes)):
        run = _bound_run(session, subject, size, task.seed)
        run()
        run()
        peaks[size] = peak_rss_bytes()
    return {"session_ms": session_ms, "peak_rss_bytes": [peaks[b] for b in task.batch_sizes]}


def latency(task: Task, say: Say) -> dict[str, Any]:
    """For each batch size: ``runs`` per round, ``warmup`` runs of each session before the rounds,
    and ``samples[session][round][run]`` in milliseconds.
    """
    sessions = [_session(task, subject) for subject in task.subjects]
    batches: list[dict[str, Any]] = []
    for size in task.batch_sizes:
        pairs = zip(sessions, task.subjects, strict=True)
        runs = [_bound_run(session, subject, size, task.seed) for session, subject in pairs]
        say({"done": len(batches) * task.rounds, "note": f"batch {size}: warming up"})
        batches.append(_one_batch_size(task, runs, _Told(say, len(batches) * task.rounds, size)))
    return {"batches": batches}


class _Told:
    """Says after each round how far the work is and what it shows."""

    def __init__(self, say: Say, before: int, batch_size: int) -> None:
        self._say, self._before, self._batch_size = say, before, batch_size

    def __call__(self, rounds: int, samples: list[list[list[float]]]) -> None:
        medians = [median(x for part in session for x in part) for session in samples]
        shown = " · ".join(f"{m:.2f}" for m in medians)
        note = f"batch {self._batch_size}: {shown} ms"
        self._say({"done": self._before + rounds, "note": note})


def _one_batch_size(task: Task, runs: list[Run], told: _Told) -> dict[str, Any]:
    warm = [_warm_up(run, task.warmup) for run in runs]
    medians = [median(times[len(times) // 2 :]) for times in warm]
    count = task.runs or runs_per_round(medians, task.rounds, task.seconds)
    samples: list[list[list[float]]] = [[] for _ in runs]
    gc.collect()
    gc.disable()
    for number in range(task.rounds):
        for i in round_order(number, len(runs)):
            samples[i].append(_timed(runs[i], count))
        told(number + 1, samples)
    gc.enable()
    return {"runs": count, "warmup": min(len(times) for times in warm), "samples": samples}


def _warm_up(run: Run, most: int) -> list[float]:
    """At least two runs, then up to ``most`` of them while time remains."""
    start, times = perf_counter_ns(), list[float]()
    while len(times) < 2 or (len(times) < most and _ms_since(start) < 1000 * WARMUP_SECONDS):
        times += _times(run, 1)
    return times


def _timed(run: Run, count: int) -> list[float]:
    """``count`` runs in milliseconds, after one that is not counted: the session before this one
    has left its own data in the caches."""
    run()
    return _times(run, count)


def _times(run: Run, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = perf_counter_ns()
        run()
        times.append(_ms_since(start))
    return times


def _ms_since(start_ns: int) -> float:
    return (perf_counter_ns() - start_ns) / 1e6


def _session(task: Task, subject: Subject) -> ort.InferenceSession:
    from quantlab.runtime.session import create_session

    return create_session(
        Path(subject.path),
        threads=task.threads,
        providers=task.providers,
        optimization=cast("Optimization", task.optimization),
    )


def _bound_run(session: ort.InferenceSession, subject: Subject, size: int, seed: int) -> Run:
    """One call of the session on a fixed batch. Raises ModelError when the batch does not fit."""
    from quantlab.runtime.session import plain_errors

    feed = {subject.input_name: random_batch(subject, size, seed)}
    run: Callable[..., object] = session.run
    with plain_errors(f"ONNX Runtime cannot run {subject.path} at batch size {size}"):
        run(None, feed)
    return lambda: run(None, feed)


def random_batch(subject: Subject, size: int, seed: int) -> NDArray[np.generic]:
    """A batch of the subject's type: any uint8 pixel, or standard normal float32."""
    rng = np.random.default_rng(seed)
    if subject.dtype == "uint8":
        return rng.integers(0, 256, (size, *subject.shape), np.uint8)
    return rng.standard_normal((size, *subject.shape), np.float32)


if __name__ == "__main__":
    main()
