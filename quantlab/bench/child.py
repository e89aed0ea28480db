"""The benchmark process: ``python -m quantlab.bench.child``.

Its first line of standard input is a BenchTask in JSON, every further one an order in JSON,
``{"do": NAME, …}``, a method of Sessions. Each is answered by one line: ``{"answer": …}``, or
``{"problem": …, "remedy": …}`` before the process ends. Between orders it waits, and takes no time
of its CPU; when its standard input is closed it ends.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from statistics import median
from time import monotonic_ns, perf_counter_ns, sleep
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.bench.schedule import is_warm, poisson_arrivals
from quantlab.bench.task import BenchTask, TimedModel
from quantlab.errors import ModelError, QuantlabError

if TYPE_CHECKING:
    import onnxruntime as ort

    from quantlab.runtime.openvino import OpenVinoSession

BatchRun = Callable[[], object]
OPENVINO = "openvino"
WARMUP_SECONDS = 1.0
"""Warm-up of one session ends after so long, stable or not."""
INDEX_BYTES = 4
OVERTIME = 1.5
"""A queue is served for this many times the window in which requests come, and then given up."""
_AWAKE_NS = 200_000
"""The last of a wait is spent awake, because a sleep ends too late by about a third of this."""


def main() -> None:
    """Read the task, pin the process, then execute orders from standard input until it closes."""
    say = _reserve_stdout()
    sessions = Sessions(BenchTask.from_json(sys.stdin.readline()))
    gc.disable()
    for line in sys.stdin:
        order = json.loads(line)
        try:
            say({"answer": getattr(sessions, order.pop("do"))(**order)})
        except QuantlabError as error:
            say({"problem": error.problem, "remedy": error.remedy})
            return


def _reserve_stdout() -> Callable[[dict[str, Any]], None]:
    """Keep standard output for answers; send whatever else is printed to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    return say


class Sessions:
    """The sessions of a task, and the orders that they execute."""

    def __init__(self, task: BenchTask) -> None:
        for runtime in {model.runtime for model in task.models}:
            import_module(runtime)  # its import is not the session's time, and is not pinned
        if hasattr(os, "sched_setaffinity") and task.cpus:
            os.sched_setaffinity(0, task.cpus)
        self.task = task
        self._sessions: list[ort.InferenceSession | OpenVinoSession] = []
        self._runs: dict[int, BatchRun] = {}

    def open(self) -> list[float]:
        """Create the sessions; returns the milliseconds that each took."""
        taken = []
        for model in self.task.models:
            start = perf_counter_ns()
            self._sessions.append(_session(self.task, model))
            taken.append(_ms_since(start))
        return taken

    def warm(
        self, session: int, batch: int, seconds: float = WARMUP_SECONDS
    ) -> dict[str, float | int]:
        """Runs on a batch of this size until that takes equally long, or for ``seconds``: how many
        ``runs`` that were, their ``median_ms`` in the end, the process's ``peak_rss_bytes``."""
        from quantlab.runtime.environment import peak_rss_bytes

        start = perf_counter_ns()
        run = _bound_run(self._sessions[session], self.task.models[session], batch, self.task)
        self._runs[session] = run
        times = [_ms_since(start)]
        while not is_warm(times) and _ms_since(start) < 1000 * seconds:
            times += _times(run, 1)
        gc.collect()
        return {
            "runs": len(times),
            "median_ms": median(times[len(times) // 2 :]),
            "peak_rss_bytes": peak_rss_bytes(),
        }

    def run(self, session: int, count: int, uncounted: int = 0) -> list[float]:
        """The milliseconds of ``count`` runs, after some that are not counted: the process that ran
        before has filled the CPU's caches with its own data."""
        run = self._runs[session]
        for _ in range(uncounted):
            run()
        return _times(run, count)

    def spin(self, session: int, start_ns: int, seconds: float) -> list[float]:
        """The milliseconds of all runs from ``start_ns`` on until ``seconds`` are over, after one
        that is not counted."""
        run, times = self._runs[session], list[float]()
        run()
        wait_until(start_ns)
        while not times or monotonic_ns() < start_ns + seconds * 1e9:
            times += _times(run, 1)
        return times

    def serve(
        self, session: int, start_ns: int, rate: float, seconds: float, seed: list[int], queue: int
    ) -> list[tuple[int, float, float]]:
        """Serve requests that come at the times of ``poisson_arrivals(rate, seconds, seed)``,
        counted from ``start_ns``, in order; returns of each served one its number, begin and end in
        milliseconds.

        Who else serves the same queue has the same open file ``queue``, which holds the requests'
        numbers: reading one takes it, because the place in the file is shared. Below 0 it is this
        process's alone.
        """
        run, served = self._runs[session], list[tuple[int, float, float]]()
        due = poisson_arrivals(rate, seconds, seed)
        end_ns = start_ns + OVERTIME * seconds * 1e9
        for number in _taken(queue, len(due)):
            if served and monotonic_ns() > end_ns:
                break
            wait_until(start_ns + int(due[number] * 1e9))
            begun = monotonic_ns()
            run()
            served.append((number, (begun - start_ns) / 1e6, (monotonic_ns() - start_ns) / 1e6))
        return served


def _taken(queue: int, count: int) -> Iterator[int]:
    if queue < 0:
        yield from range(count)
        return
    while word := os.read(queue, INDEX_BYTES):
        yield int.from_bytes(word, "little")


def wait_until(moment_ns: int) -> None:
    """Sleep until ``time.monotonic_ns()`` reaches this value; that clock is one for all
    processes."""
    while (left := moment_ns - monotonic_ns()) > 0:
        if left > _AWAKE_NS:
            sleep((left - _AWAKE_NS) / 1e9)


def _times(run: BatchRun, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = perf_counter_ns()
        run()
        times.append(_ms_since(start))
    return times


def _ms_since(start_ns: int) -> float:
    return (perf_counter_ns() - start_ns) / 1e6


def _session(task: BenchTask, model: TimedModel) -> ort.InferenceSession | OpenVinoSession:
    if model.runtime == OPENVINO:
        from quantlab.runtime.openvino import OpenVinoSession

        compiled = OpenVinoSession(Path(model.path), threads=task.threads)
        compiled.compiled((1, *model.shape))
        return compiled
    from quantlab.runtime.session import create_session

    session = create_session(
        Path(model.path),
        threads=task.threads,
        providers=task.providers,
    )
    absent = [name for name in task.providers if name not in session.get_providers()]
    if absent:
        raise ModelError(
            f"ONNX Runtime lists {', '.join(absent)}, but cannot use it here.",
            "Its driver or libraries are missing: quantlab bench --provider cpu runs anywhere.",
        )
    return session


def _bound_run(
    session: ort.InferenceSession | OpenVinoSession, model: TimedModel, size: int, task: BenchTask
) -> BatchRun:
    """One call of the session on a fixed batch. Raises ModelError when the batch does not fit."""
    batch = random_batch(model, size, task.seed)
    if model.runtime == OPENVINO:
        return session.bound(batch)
    from quantlab.runtime.session import plain_errors

    feed = {model.input_name: batch}
    run: Callable[..., object] = session.run
    with plain_errors(f"ONNX Runtime cannot run {model.path} at batch size {size}"):
        run(None, feed)
    return lambda: run(None, feed)


def random_batch(model: TimedModel, size: int, seed: int) -> NDArray[np.generic]:
    """A random batch of the model's input type: uniform uint8 pixels, or standard normal
    float32."""
    rng = np.random.default_rng(seed)
    if model.dtype == "uint8":
        return rng.integers(0, 256, (size, *model.shape), np.uint8)
    return rng.standard_normal((size, *model.shape), np.float32)


if __name__ == "__main__":
    main()
