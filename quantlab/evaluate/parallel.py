"""ParallelRunner: run a model over many images with calls in parallel."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.data.preprocess import Pipeline
from quantlab.data.threads import ordered_map
from quantlab.evaluate.evaluator import AnswerStream, Rows
from quantlab.evaluate.execution import ALL_CORES, Execution
from quantlab.evaluate.fold import fold_preprocess
from quantlab.evaluate.plan import BATCHES, ParallelPlan, fastest, next_plan, splits
from quantlab.model.kinds import ONNX_RUNTIME
from quantlab.model.model import Model
from quantlab.runtime.environment import default_threads
from quantlab.runtime.providers import CPU
from quantlab.runtime.runner import Runner

GiveImages = Callable[[Rows], NDArray[Any]]
PROBE_BATCHES, PROBE_SPLITS = 400, 2000
"""With fewer images than this, trying costs more than the best choice saves: another split needs
another session."""
_PIECES = 4
"""Calls of each worker while a plan is tried; the first is not timed."""
_CHECKED = 2


class ParallelRunner:
    """``with ParallelRunner(model) as run: for rows, outputs in run.answers(order, images): …``.

    With a ``pipeline`` it is given uint8 crops, without one what the model takes. On the CPU the
    answers are those of each image alone in one thread, to the last bit: two images of each plan
    are computed so, and a plan that gives others is not used. Raises ModelError as Runner and
    ``fold_preprocess`` do.
    """

    def __init__(
        self, model: Model, execution: Execution = ALL_CORES, *, pipeline: Pipeline | None = None
    ) -> None:
        self.model, self.providers = model, execution.providers
        self._pipeline = pipeline
        self._source: Model | onnx.ModelProto = model
        if pipeline is not None and execution.fold:
            self._source = fold_preprocess(model.proto(), model.input, pipeline)
            self._pipeline = None
        cores = execution.threads or default_threads()
        usual = splits(cores) if self._on_cpu else ((1, cores),)
        self._splits = (execution.split,) if execution.split else usual
        fixed = model.input.batch or execution.batch
        usual_batches = BATCHES if model.runtime == ONNX_RUNTIME else BATCHES[:1]
        self._batches: Sequence[int] = (fixed,) if fixed else usual_batches
        self._runners: dict[int, Runner] = {}
        self._plan: ParallelPlan | None = None
        self._runner(self._splits[0][1])

    @property
    def plan(self) -> ParallelPlan:
        """The plan in use: the fastest of those tried, else the first."""
        return self._plan or ParallelPlan(*self._splits[0], self._batches[0])

    @property
    def _on_cpu(self) -> bool:
        return self.providers == CPU

    def answers(self, order: Rows, images: GiveImages) -> AnswerStream:
        """Rows and their outputs [n, classes], in ``order``, some ahead of the consumer.

        ``images`` gives those of some rows, in threads.
        """

        def inputs(rows: Rows) -> NDArray[np.generic]:
            found = images(rows)
            if self._pipeline is None:
                return found
            return self._pipeline.to_input(found, self.model.input)

        rates: dict[ParallelPlan, float] = {}
        done = 0
        probing = self._plan is None and len(order) >= PROBE_BATCHES
        choice = self._splits if len(order) >= PROBE_SPLITS else self._splits[:1]
        while probing and (plan := next_plan(rates, choice, self._batches)) is not None:
            stretch = order[done : done + _PIECES * plan.workers * plan.batch]
            if not len(stretch):
                break
            found, rates[plan] = self._try_plan(plan, stretch, inputs)
            yield from found
            done += len(stretch)
        if rates:
            best = fastest(rates)
            self._use_plan(best if rates[best] else self._alone)
        yield from self._checked(order[done:], inputs)

    def _checked(self, order: Rows, inputs: GiveImages) -> AnswerStream:
        """Run by the plan in use, after its answers were checked against single images."""
        first = self.plan.workers * self.plan.batch
        if self._plan is None and len(order):
            found, rate = self._try_plan(self.plan, order[:first], inputs)
            self._use_plan(self.plan if rate else self._alone)
            yield from found
            order = order[first:]
        yield from self._in_order(self.plan, order, inputs)

    def _use_plan(self, plan: ParallelPlan) -> None:
        """Use this plan from now on; free what only other plans need."""
        self._plan = plan
        for threads in self._runners.keys() - {plan.threads}:
            self._runners.pop(threads).close()

    @property
    def _alone(self) -> ParallelPlan:
        """Run each image by itself."""
        return ParallelPlan(self._splits[0][0], 1, self.model.input.batch or 1)

    def _try_plan(
        self, plan: ParallelPlan, rows: Rows, inputs: GiveImages
    ) -> tuple[list[tuple[Rows, NDArray[np.float32]]], float]:
        """Try a plan: its answers and images/s; 0 images/s where the answers differed and were
        computed again."""
        found, start, timed = list[tuple[Rows, NDArray[np.float32]]](), time.perf_counter(), 0
        for piece in self._in_order(plan, rows, inputs):
            found.append(piece)
            if len(found) == plan.workers < -(-len(rows) // plan.batch):
                start = time.perf_counter()
            elif len(found) > plan.workers:
                timed += len(piece[0])
        seconds = time.perf_counter() - start
        if self._on_cpu and plan != self._alone and not self._same(*found[0], inputs):
            return list(self._in_order(self._alone, rows, inputs)), 0.0
        return found, (timed or len(rows)) / max(seconds, 1e-9)

    def _same(self, rows: Rows, outputs: NDArray[np.float32], inputs: GiveImages) -> bool:
        run = self._runner(1)
        alone = [run(inputs(rows[i : i + 1])) for i in range(min(_CHECKED, len(rows)))]
        return np.array_equal(np.concatenate(alone), outputs[:_CHECKED], equal_nan=True)

    def _in_order(self, plan: ParallelPlan, order: Rows, inputs: GiveImages) -> AnswerStream:
        run, size = self._runner(plan.threads), plan.batch
        pieces = [order[i : i + size] for i in range(0, len(order), size)]
        outputs = ordered_map(lambda i: run(inputs(pieces[i])), len(pieces), plan.workers)
        return zip(pieces, outputs, strict=True)

    def _runner(self, threads: int) -> Runner:
        if threads not in self._runners:
            self._runners[threads] = Runner(
                self._source,
                threads=threads,
                providers=self.providers,
                output_kind=self.model.output_kind,
                runtime=self.model.runtime,
                streams={each: workers for workers, each in self._splits}.get(threads, 1),
            )
        return self._runners[threads]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for runner in self._runners.values():
            runner.close()
