"""Crops: a dataset's images decoded, resized and cropped once, kept on disk as uint8."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import PIL
from numpy.lib import format as npy
from numpy.typing import NDArray

from quantlab._util.cache import Store, key_of, side, touch
from quantlab._util.files import atomic_path, write_whole
from quantlab._util.pages import release_pages
from quantlab._util.reporter import Counted
from quantlab.data.dataset import Dataset, ImageProblem, describe
from quantlab.data.images import quiet_pillow
from quantlab.data.preprocess import Pipeline, opencv_version
from quantlab.data.threads import ordered_map
from quantlab.errors import DataError, OutputError
from quantlab.model.model import InputSpec

CROPS_FORMAT = 2  # raised whenever the same images would give other crops or another file
_TRIES = 3

C = TypeVar("C", bound="Crops")


@dataclass(frozen=True, eq=False)
class Crops:
    """The readable images of a dataset, cropped.

    ``planes`` is a read-only memory map [n, 3, height, width] of the pipeline's ``dtype``: uint8
    RGB, or float32 of who preprocesses alone; ``array`` is the same as [n, height, width, 3].
    ``digests`` are the content digests of the n images; ``problems`` are all images of the dataset
    that are not among them; ``root`` is the dataset's; ``dataset`` is the n images themselves.
    """

    planes: NDArray[Any]
    names: tuple[str, ...]
    labels: NDArray[np.int64] | None
    digests: tuple[str, ...]
    dataset_digest: str
    pipeline: Pipeline
    problems: tuple[ImageProblem, ...]
    root: str = ""
    dataset: Dataset | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def array(self) -> NDArray[Any]:
        """The crops [n, height, width, 3]."""
        return self.planes.transpose(0, 2, 3, 1)

    def touch(self) -> None:
        """Mark the crops as used now: the cache removes the least recently used first."""
        if isinstance(self.planes, np.memmap) and self.planes.filename is not None:
            touch(Path(self.planes.filename))

    def inputs(self, rows: slice | NDArray[np.intp], spec: InputSpec) -> NDArray[np.generic]:
        """These crops as a batch for a model's input."""
        return self.pipeline.to_input(self.pixels(rows), spec)

    def pixels(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        """A copy of these crops [n, height, width, 3].

        The memory map's pages are given back to the system, so that memory does not grow with the
        number of images seen.
        """
        planes = self.planes[rows]
        if isinstance(rows, slice):
            planes = np.array(planes)
        release_pages(self.planes, rows)
        return planes.transpose(0, 2, 3, 1)

    def some(self, rows: NDArray[np.intp]) -> Crops:
        """A subset of the crops, in memory, without labels."""
        return Crops(
            planes=self.pixels(rows).transpose(0, 3, 1, 2),
            names=tuple(self.names[i] for i in rows),
            labels=None,
            digests=tuple(self.digests[i] for i in rows),
            dataset_digest="",
            pipeline=self.pipeline,
            problems=(),
            root=self.root,
        )


class Undecoded(Crops):
    """Crops that were decoded by workers only; each image read here is decoded here, each time."""

    def pixels(self, rows: slice | NDArray[np.intp]) -> NDArray[Any]:
        """See Crops.pixels. Raises DataError."""
        dataset = self.dataset
        assert dataset is not None
        found = [crop_of(dataset, self.pipeline, i) for i in np.arange(len(self))[rows].tolist()]
        empty = np.empty((0, *self.pipeline.shape, 3), self.pipeline.dtype)
        return np.stack(found) if found else empty


def load_crops(
    dataset: Dataset,
    pipeline: Pipeline,
    *,
    cache_dir: Path,
    max_bad: float = 0.01,
    progress: Counted | None = None,
    workers: int | None = None,
) -> Crops:
    """The dataset's crops in its order, from the cache or decoded into it.

    ``max_bad`` is the share of images that may be unusable; these are left out and recorded.
    ``progress(done, total)`` is called while decoding. Raises DataError when there are more of
    them, OutputError when ``cache_dir`` cannot be written.
    """
    planes, bad = decoded(
        dataset, pipeline, cache_dir=cache_dir, progress=progress, workers=workers
    )
    return _assemble(Crops, dataset, pipeline, planes, bad, max_bad)


def decoded(
    dataset: Dataset,
    pipeline: Pipeline,
    *,
    cache_dir: Path,
    progress: Counted | None = None,
    workers: int | None = None,
) -> tuple[NDArray[Any], dict[int, str]]:
    """The crops [n, 3, height, width] of all usable images, and of the others, by index, why they
    are not. As ``load_crops``, but for any number of unusable images."""
    store, key = Store(cache_dir, ".npy"), cache_key(dataset, pipeline)
    path = store.path(key)
    read, tries = partial(_read, len(dataset), pipeline), 0
    while (cached := store.find(key, read)) is None:
        # Another process that keeps to the cache's limit may remove it before it is opened.
        if tries == _TRIES:
            raise OutputError(f"{path} vanished right after it was written.", "Run again.")
        decode_to(path, dataset, pipeline, progress=progress, workers=workers)
        tries += 1
    return cached


def undecoded(
    dataset: Dataset, pipeline: Pipeline, bad: dict[int, str], max_bad: float = 0.01
) -> Undecoded:
    """The crops of a dataset whose images are all usable but the ``bad`` ones, by index with the
    reason. Raises DataError as ``load_crops``."""
    nothing = np.empty((0, 3, *pipeline.shape), pipeline.dtype)
    return _assemble(Undecoded, dataset, pipeline, nothing, bad, max_bad)


def crops_path(dataset: Dataset, pipeline: Pipeline, cache_dir: Path) -> Path:
    """The path of these crops in the cache, whether or not the file exists."""
    return Store(cache_dir, ".npy").path(cache_key(dataset, pipeline))


def cache_key(dataset: Dataset, pipeline: Pipeline) -> str:
    """A digest of all that decides the crops: images, geometry, decoder and resizer versions."""
    images = [dataset.digest, dataset.max_pixels, *([pipeline.digest] if dataset.ready else [])]
    parts = [CROPS_FORMAT, images, *decoder(pipeline)]
    return key_of(*parts)


def decoder(pipeline: Pipeline) -> list[str]:
    """What decides an image's crop beside its content: the geometry and the libraries' versions."""
    cv2 = opencv_version() if pipeline.resizer.startswith("opencv") else ""
    return [pipeline.crop_digest, PIL.__version__, cv2]


def _assemble(
    kind: type[C],
    dataset: Dataset,
    pipeline: Pipeline,
    planes: NDArray[Any],
    bad: dict[int, str],
    max_bad: float,
) -> C:
    problems = _check_bad(dataset, bad, max_bad)
    _ = dataset.content_digests
    kept = dataset.subset([i for i in range(len(dataset)) if i not in bad]) if bad else dataset
    return kind(
        planes=planes,
        names=kept.names,
        labels=kept.labels,
        digests=kept.content_digests,
        dataset_digest=dataset.digest,
        pipeline=pipeline,
        problems=problems,
        root=dataset.root,
        dataset=kept,
    )


def _check_bad(dataset: Dataset, bad: dict[int, str], max_bad: float) -> tuple[ImageProblem, ...]:
    """All problems, the reader's first. Raises DataError when they are too many."""
    found = tuple(ImageProblem(dataset.names[i], reason) for i, reason in bad.items())
    problems = (*dataset.problems, *found)
    total = len(dataset) + len(dataset.problems)
    if len(bad) < len(dataset) and len(problems) <= max_bad * total:
        return problems
    raise DataError(
        f"{dataset.root}: {len(problems)} of {total} images cannot be used "
        f"({100 * len(problems) / max(total, 1):.3g}%, allowed are {100 * max_bad:.3g}%): "
        f"{describe(problems)}.",
        "Mend them or take them out; --max-bad allows more."
        if len(bad) < len(dataset)
        else "Give images that can be read.",
    )


@dataclass(frozen=True)
class DecodedRow:
    """A row just decoded: it is at ``offset`` of the file ``path``; None for an unusable image."""

    path: Path
    offset: int | None


def decode_to(
    path: Path,
    dataset: Dataset,
    pipeline: Pipeline,
    *,
    progress: Counted | None = None,
    workers: int | None = None,
    told: Callable[[DecodedRow], None] | None = None,
) -> None:
    """Writes the crops row by row, then the bad rows' reasons beside them.

    Plain writes, not a writable memory map: a full disk is then an error and not a crash. ``told``
    hears of every row in order, once it can be read.
    """
    bad: dict[int, str] = {}
    total = len(dataset)
    with atomic_path(path) as temporary, temporary.open("wb") as file, quiet_pillow():
        _write_header(file, total, pipeline)
        rows = ordered_map(lambda i: _planes_or_reason(dataset, pipeline, i), total, workers)
        for index, row in enumerate(rows):
            offset = None if isinstance(row, str) else file.tell()
            if isinstance(row, str):
                bad[index] = row
            else:
                file.write(row.data)
            if told is not None:
                file.flush()
                told(DecodedRow(temporary, offset))
            if progress is not None:
                progress(index + 1, total)
        file.seek(0)
        _write_header(file, total - len(bad), pipeline)
    facts = {"of": _subject(dataset, pipeline), "rows": total - len(bad), "bad": list(bad.items())}
    write_whole(side(path), json.dumps(facts))


def _subject(dataset: Dataset, pipeline: Pipeline) -> str:
    return (
        f"{len(dataset)} images of {dataset.root} ({pipeline.resizer}, {_pixels(pipeline)} pixels)"
    )


def _pixels(pipeline: Pipeline) -> str:
    """``224``, or ``64 x 160``."""
    return " x ".join(map(str, dict.fromkeys(pipeline.shape)))


def _write_header(file: BinaryIO, rows: int, pipeline: Pipeline) -> None:
    """NumPy pads it so that its length does not depend on the number of rows."""
    shape = (rows, 3, *pipeline.shape)
    descr = np.dtype(pipeline.dtype).str
    header = {"shape": shape, "fortran_order": False, "descr": descr}
    npy.write_array_header_1_0(file, header)


def crop_of(dataset: Dataset, pipeline: Pipeline, index: int) -> NDArray[Any]:
    """Decode one image now and crop it. Raises DataError."""
    if dataset.ready:
        return pipeline.from_input(np.asarray(dataset.source.read(index)))
    return pipeline.crop_image(dataset[index].image)


def _planes_or_reason(dataset: Dataset, pipeline: Pipeline, index: int) -> NDArray[Any] | str:
    """One image [3, height, width], the colours one after the other, as most models take them."""
    try:
        return np.ascontiguousarray(crop_of(dataset, pipeline, index).transpose(2, 0, 1))
    except DataError as error:
        return error.problem.removeprefix(f"{dataset.names[index]}: ").removesuffix(".")


def _read(
    total: int, pipeline: Pipeline, path: Path, facts: dict[str, Any]
) -> tuple[NDArray[Any], dict[int, str]] | None:
    """What the cache holds, or None when it holds nothing usable."""
    bad = {int(index): str(reason) for index, reason in facts["bad"]}
    rows = total - len(bad)
    if rows == 0:
        return np.empty((0, 3, *pipeline.shape), pipeline.dtype), bad
    planes = np.load(path, mmap_mode="r", allow_pickle=False)
    usable = planes.shape == (rows, 3, *pipeline.shape) and planes.dtype == pipeline.dtype
    return (planes, bad) if usable else None
