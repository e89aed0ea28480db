"""What a shard names, opened by the worker that computes it: images and models.

A worker keeps what it opened last; crops and models lie in its own cache folder.
"""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab._util.cache import cache_limit, trim
from quantlab._util.paths import cache_dir
from quantlab.data.crops import Crops, decoded, load_crops
from quantlab.data.dataset import Content, Dataset, Opening, Source, digest_of
from quantlab.data.preprocess import Pipeline
from quantlab.data.readers import reopen
from quantlab.errors import ClusterError, DataError
from quantlab.evaluate.execution import Execution
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.model.kinds import RuntimeName
from quantlab.model.model import Layout, Model, OutputKind
from quantlab.quantize.cached_files import keep_model

_SEE = "Every worker must see the caller's files: a shared path, or a URL (docs/scale.md)."
_TRIM_SECONDS = 30.0


@dataclass(frozen=True, eq=False)
class ShardImages:
    """Some images of a dataset, as a shard names them: ``rows`` int64 [n] of the dataset that
    ``opening`` opens, their names, their content digests where these are known.

    ``visit`` is the same for all that one caller names: a worker opens a dataset once for each.
    """

    opening: Opening
    rows: NDArray[np.int64]
    names: tuple[str, ...]
    digests: tuple[str, ...] | None
    pipeline: Pipeline
    visit: str


@dataclass(frozen=True)
class SentModel:
    """A model as a shard names it; its content comes beside. ``content_sha256`` is the content's,
    ``sha256`` the caller's model's, whose external data lie in files of their own."""

    content_sha256: str
    sha256: str
    name: str
    layout: Layout | None
    output_kind: OutputKind
    size: int | tuple[int, int] | None
    output_name: str | None
    runtime: RuntimeName


@dataclass(frozen=True, eq=False)
class Checked:
    """A source whose contents are what the caller saw. Raises ClusterError when they are not."""

    source: Source
    names: tuple[str, ...]
    digests: tuple[str, ...]
    ready: bool

    def read(self, index: int) -> Content:
        """See Source.read."""
        expected = self.digests[index]
        try:
            content = self.source.read(index)
        except DataError as error:
            if not expected:
                raise
            raise ClusterError(f"on {_host()}, {error.problem}", _SEE) from error
        if expected and digest_of(content, self.ready) != expected:
            name = self.names[index]
            raise ClusterError(f"{name} is another image on {_host()} than for the caller.", _SEE)
        return content


def _host() -> str:
    return socket.gethostname()


@lru_cache(maxsize=4)
def _dataset(opening: Opening, visit: str) -> Dataset:
    try:
        return reopen(opening)
    except DataError as error:
        raise ClusterError(f"on {_host()}, {error.problem}", _SEE) from error


def dataset(images: ShardImages) -> Dataset:
    """The images as a Dataset. Raises ClusterError when they are not here."""
    whole = _dataset(images.opening, images.visit)
    if images.rows.max() < len(whole):
        part = whole.subset(images.rows)
        if part.names == images.names:
            return part if images.digests is None else _known(part, images.digests)
    raise ClusterError(f"{images.opening.path} holds other files on {_host()} than here.", _SEE)


def _known(part: Dataset, digests: tuple[str, ...]) -> Dataset:
    source = Checked(part.source, part.names, digests, part.ready)
    return replace(part, source=source).knowing(digests)


def usable(images: ShardImages) -> tuple[tuple[str, ...], dict[int, str]]:
    """Decodes the images into this worker's cache; their content digests, and of those that are
    not usable, by index, why."""
    part = dataset(images)
    digests = tuple(part.digest_or_empty(i) for i in range(len(part)))
    part = part.knowing(digests)
    _, bad = decoded(part, images.pipeline, cache_dir=cache_dir() / "crops", workers=1)
    _keep_to_limit()
    return digests, bad


def crops(images: ShardImages) -> Crops:
    """The images, all of them usable, from this worker's cache or decoded into it."""
    found = load_crops(
        dataset(images), images.pipeline, cache_dir=cache_dir() / "crops", max_bad=0, workers=1
    )
    _keep_to_limit()
    return found


_trimmed = 0.0


def _keep_to_limit() -> None:
    """Now and then: looking through a large cache takes as long as some images."""
    global _trimmed
    if time.monotonic() - _trimmed > _TRIM_SECONDS:
        _trimmed = time.monotonic()
        trim(cache_dir(), cache_limit())


def model(sent: SentModel, content: Path | bytes) -> Model:
    """The model; bytes become a file of this worker's cache. Raises ModelError, ClusterError."""
    path = content if isinstance(content, Path) else _file(sent, content)
    found = Model.load(path)
    if found.sha256 != sent.content_sha256:
        raise ClusterError(f"{sent.name} is another file on {_host()} than for the caller.", _SEE)
    found = found.with_overrides(
        layout=sent.layout,
        output_kind=sent.output_kind,
        size=sent.size,
        output_name=sent.output_name,
        runtime=sent.runtime,
    )
    return replace(found, label=sent.name, sha256=sent.sha256)


def _file(sent: SentModel, content: bytes) -> Path:
    folder, key = cache_dir() / "models", hashlib.sha256(content).hexdigest()[:32]
    path = folder / f"{key}.onnx"
    if not path.is_file():
        keep_model(content, key, f"{sent.name}, for shards", folder)
    return path


class _RunnerCache(threading.local):
    """Each thread's runner: that of the last model."""

    of: object = None
    runner: ParallelRunner | None = None


_DESK = _RunnerCache()


def runner(
    sent: SentModel, content: Path | bytes, execution: Execution, pipeline: Pipeline
) -> ParallelRunner:
    """The model's runner, which stays open for the next shard."""
    of = (sent, execution, pipeline)
    if _DESK.of != of or _DESK.runner is None:
        _DESK.runner = None  # one session at a time
        _DESK.runner = ParallelRunner(model(sent, content), execution, pipeline=pipeline)
        _DESK.of = of
    return _DESK.runner
