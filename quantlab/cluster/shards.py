"""Shards of an evaluation and of a calibration, cut by the caller and merged in their order."""

from __future__ import annotations

import copy
import hashlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab._util.reporter import Counted, Reporter
from quantlab.cluster import opened_data
from quantlab.cluster.executor import Executor, in_order
from quantlab.cluster.opened_data import SentModel, ShardImages
from quantlab.data.calibration import BATCH_SIZE, CalibrationImages
from quantlab.data.crops import Crops, Undecoded, undecoded
from quantlab.data.dataset import Dataset
from quantlab.data.preprocess import Pipeline
from quantlab.errors import ClusterError
from quantlab.evaluate.evaluator import AnswerStream, Rows
from quantlab.evaluate.execution import Execution
from quantlab.model.large import serialized
from quantlab.model.model import InputSpec, Model, external_files, read_proto
from quantlab.quantize.engine.grid import Floats
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.observe import Batches, Observe, observe_tensors
from quantlab.quantize.engine.ranges import Observer

SHARD = 64
"""Images of an evaluation's shard, at most: half a second, beside some ms of Dask's scheduler."""
OBSERVED = 128
"""Images of a calibration's: what comes back is a histogram of every tensor."""

_MODELS = 2

R = TypeVar("R")


def cut(rows: Rows, most: int, workers: int, step: int = 2) -> list[Rows]:
    """Consecutive pieces of about ``most`` rows or fewer, at least two for each of the workers and
    as many for one as for another.

    All but the last are whole batches of ``step``: every image keeps its place in its batch.
    """
    count = max(2, -(-len(rows) // (most * workers))) * workers
    size = -(-len(rows) // (count * step)) * step
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def named_images(
    dataset: Dataset, pipeline: Pipeline, rows: Rows, visit: str, known: bool
) -> ShardImages:
    """These images of the dataset, as a shard names them. ``known``: with their digests.

    Raises ClusterError for a dataset that only this process has.
    """
    if dataset.opening is None:
        raise ClusterError(f"{dataset.root} was not opened from a path that workers could open.")
    chosen = rows.tolist()
    return ShardImages(
        opening=dataset.opening,
        rows=dataset.opened_rows[rows],
        names=tuple(dataset.names[i] for i in chosen),
        digests=tuple(dataset.content_digests[i] for i in chosen) if known else None,
        pipeline=pipeline,
        visit=visit,
    )


@dataclass(frozen=True, eq=False)
class Sharded:
    """One caller's work on an executor. ``visit`` is its name for the workers, ``models`` are those
    that were shared last."""

    executor: Executor
    visit: str = field(default_factory=lambda: uuid.uuid4().hex)
    models: dict[object, tuple[SentModel, Any]] = field(default_factory=dict)

    def _cut(self, rows: Rows, most: int, step: int) -> list[Rows]:
        return cut(rows, most, max(1, self.executor.workers), step)

    def named(self, crops: Crops, rows: Rows | None = None) -> ShardImages:
        """These of the crops, or all, as a shard names them. Raises ClusterError."""
        if crops.dataset is None:
            raise ClusterError("these crops are of no dataset that workers could open.")
        chosen = np.arange(len(crops)) if rows is None else rows
        return named_images(crops.dataset, crops.pipeline, chosen, self.visit, known=True)

    def sent(self, model: Model) -> tuple[SentModel, Any]:
        """The model as a shard names it, and its content as the executor shares it: the file, or
        with its external data the whole as one. The last few are shared once."""
        read_as = (model.layout, model.output_kind, model.size, model.output_name, model.runtime)
        kind = (model.sha256, model.title, *read_as)
        if kind not in self.models:
            sha256, content = model.sha256, None
            if not model.is_ir and external_files(read_proto(model.path), model.path):
                content = serialized(model.proto(), f"{model.path.name} for workers")
                sha256 = hashlib.sha256(content).hexdigest()
            while len(self.models) >= _MODELS:
                del self.models[next(iter(self.models))]
            self.models[kind] = SentModel(sha256, *kind), self.executor.share(content or model.path)
        return self.models[kind]

    def in_order(self, function: Callable[..., R], tasks: Sequence[tuple[Any, ...]]) -> Iterator[R]:
        """See ``executor.in_order``."""
        return in_order(self.executor, function, tasks)

    def read(
        self, dataset: Dataset, pipeline: Pipeline, max_bad: float, progress: Counted
    ) -> Undecoded:
        """The dataset's crops, decoded by the workers and kept there.

        The first image of each shard is compared with what this process sees. Raises DataError as
        ``load_crops``, ClusterError.
        """
        pieces = self._cut(np.arange(len(dataset)), SHARD, 2)
        tasks = [
            (named_images(dataset, pipeline, rows, self.visit, known=False),) for rows in pieces
        ]
        digests, bad = list[str](), dict[int, str]()
        for rows, (found, why) in zip(
            pieces, self.in_order(opened_data.usable, tasks), strict=True
        ):
            _check_first(dataset, int(rows[0]), found[0])
            digests += found
            bad |= {int(rows[i]): reason for i, reason in why.items()}
            progress(len(digests), len(dataset))
        return undecoded(dataset.knowing(digests), pipeline, bad, max_bad)

    def answers(
        self, model: Model, crops: Crops, execution: Execution, order: Rows
    ) -> AnswerStream:
        """``ParallelRunner.answers`` on the crops: each shard in one thread, or in those that
        ``execution`` asks for."""
        pieces = self._cut(order, SHARD, model.input.batch or execution.batch or 2)
        at_worker = replace(execution, threads=execution.threads or 1)
        name, content = self.sent(model)
        tasks = [(self.named(crops, rows), name, content, at_worker) for rows in pieces]
        return zip(pieces, self.in_order(shard_answers, tasks), strict=True)

    def observe(self, reporter: Reporter) -> Observe:
        """``observe_tensors`` whose calibration images the workers look at."""

        def observed(
            net: Net,
            scales: Mapping[str, Floats],
            estimators: Mapping[str, Observer],
            batches: Batches,
        ) -> None:
            if not isinstance(batches, CalibrationImages) or not estimators:
                return observe_tensors(net, scales, estimators, batches)
            crops, spec = batches.crops, batches.spec
            pieces = self._cut(np.arange(len(crops)), OBSERVED, spec.batch or BATCH_SIZE)
            graph = self.executor.share(serialized(net.proto, "the model for workers"))
            # A pool pickles what waits when it gets there: by then these have merged something.
            fresh = (graph, spec, dict(scales), copy.deepcopy(dict(estimators)))
            tasks = [(self.named(crops, rows), *fresh) for rows in pieces]
            with reporter.progress("Calibrating", len(crops)) as advance:
                for rows, found in zip(pieces, self.in_order(statistics, tasks), strict=True):
                    for name, estimator in estimators.items():
                        estimator.merge(found[name])
                    advance(int(rows[-1]) + 1, "images")
            return None

        return observed


def _check_first(dataset: Dataset, index: int, digest: str) -> None:
    """Raises ClusterError when the worker saw another image."""
    if dataset.digest_or_empty(index) != digest:
        raise ClusterError(
            f"{dataset.names[index]} is another image for a worker than here.",
            "Every worker must see the caller's files: a shared path, or a URL (docs/scale.md).",
        )


def shard_answers(
    images: ShardImages, name: SentModel, content: Path | bytes, execution: Execution
) -> NDArray[np.float32]:
    """A shard of an evaluation: the model's outputs [n, classes] on the images."""
    crops = opened_data.crops(images)
    run = opened_data.runner(name, content, execution, images.pipeline)
    found = run.answers(np.arange(len(crops)), lambda rows: np.array(crops.array[rows]))
    return np.concatenate([outputs for _, outputs in found])


def statistics(
    images: ShardImages,
    graph: Path | bytes,
    spec: InputSpec,
    scales: Mapping[str, Floats],
    fresh: Mapping[str, Observer],
) -> Mapping[str, Observer]:
    """A shard of a calibration: copies of ``fresh`` estimators that have seen the images."""
    seen = copy.deepcopy(fresh)
    content = graph if isinstance(graph, bytes) else graph.read_bytes()
    net = Net(onnx.ModelProto.FromString(content), ())
    observe_tensors(net, scales, seen, CalibrationImages(opened_data.crops(images), spec))
    return seen
