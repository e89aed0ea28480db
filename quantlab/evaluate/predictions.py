"""Predictions: what one model answered on every image of one dataset through one pipeline."""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from quantlab._util.files import atomic_path
from quantlab._util.pages import release_pages
from quantlab.data.dataset import ImageProblem
from quantlab.errors import DataError, RecordError, shown
from quantlab.evaluate.metrics import logits_of, top_k
from quantlab.evaluate.outputs import ROWS
from quantlab.model.model import OutputKind

if TYPE_CHECKING:
    from pandas import DataFrame

    from quantlab.evaluate.accuracy import Accuracy

FORMAT = 1
MAX_BYTES = 8 * 1024**3


@dataclass(frozen=True, eq=False)
class Predictions:
    """One row per image, in the dataset's order.

    ``digests`` are the sha256 of each image's content; ``labels`` is None for unlabelled images;
    ``outputs`` is float32 [n, classes] just as the model gave them, logits or probabilities as
    ``output_kind`` says. Raises DataError when these do not have one entry per image.
    """

    names: tuple[str, ...]
    digests: tuple[str, ...]
    labels: NDArray[np.int64] | None
    outputs: NDArray[np.float32]
    output_kind: OutputKind
    model_sha256: str
    model_name: str
    dataset_digest: str
    pipeline: Mapping[str, Any]
    problems: tuple[ImageProblem, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.names)
        labels = n if self.labels is None else len(self.labels)
        if self.outputs.ndim != 2 or {len(self.outputs), len(self.digests), labels} != {n}:
            raise DataError(
                f"the predictions of {self.model_name} do not give each of {n} images one answer."
            )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """The logits, or for a model that ends in a softmax the logarithm of its probabilities."""
        return logits_of(self.outputs) if self.output_kind == "probabilities" else self.outputs

    def top(self, k: int) -> NDArray[np.int64]:
        """The ``k`` best classes [n, k], ties to the lower index; -1 where the model gave NaN."""
        return top_k(self.outputs, k)

    @property
    def accuracy(self) -> Accuracy | None:
        """Top-1 and top-5 with their 95% intervals, None for unlabelled images.

        Examples:
            >>> from quantlab.testing import fake_predictions
            >>> accuracy = fake_predictions(200, 10, 0, seed=0).accuracy
            >>> round(accuracy.top1.value, 3)
            0.765
        """
        from quantlab.evaluate.accuracy import accuracy_of

        return None if self.labels is None else accuracy_of(self.top(5), self.labels)

    def to_frame(self) -> DataFrame:
        """The answers, one row an image.

        Returns:
            The columns ``image`` (its name), ``label`` (missing for unlabelled images), ``top1`` to
            ``top5`` (class indices, the best first; -1 where the model gave NaN) and
            ``probability`` (of the first answer, 0 to 1).

        Examples:
            >>> from quantlab.testing import fake_predictions
            >>> list(fake_predictions(200, 10, 0, seed=0).to_frame().columns)
            ['image', 'label', 'top1', 'top2', 'top3', 'top4', 'top5', 'probability']
        """
        from quantlab.report.frames import predictions_frame

        return predictions_frame(self)

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import predictions_html

        return predictions_html(self)

    def subset(self, indices: NDArray[np.int64]) -> Predictions:
        """The same predictions for some of the images, in the order of ``indices``."""
        return replace(
            self,
            names=tuple(self.names[i] for i in indices),
            digests=tuple(self.digests[i] for i in indices),
            labels=None if self.labels is None else self.labels[indices],
            outputs=self.outputs[indices],
        )

    def save(self, path: Path, *, compressed: bool = False) -> None:
        """Write as .npz without pickles, whole or not at all. Raises OutputError.

        The same predictions give the same bytes.
        """
        arrays: dict[str, NDArray[Any]] = {"meta": _pack(self), "outputs": self.outputs}
        if self.labels is not None:
            arrays["labels"] = self.labels
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            _write_npz(file, arrays, zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)

    @classmethod
    def load(cls, path: Path, *, max_bytes: int | None = None) -> Predictions:
        """Read what ``save`` wrote.

        Raises RecordError when it is missing, damaged or larger than ``max_bytes`` when unpacked
        (default MAX_BYTES).
        """
        try:
            arrays = read_arrays(path, max_bytes)
            meta = json.loads(arrays["meta"].tobytes())
            if meta.pop("format") != FORMAT:
                raise RecordError(
                    f"{path} was written by another quantlab.", "Run quantlab evaluate again."
                )
            return _unpack(meta, arrays["outputs"], arrays.get("labels"))
        except RecordError:
            raise
        except OSError as error:
            raise RecordError(f"cannot read {path}: {error.strerror or error}.") from error
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RecordError(
                f"{path} is not a readable predictions file: {shown(error)}.",
                "Run quantlab evaluate again.",
            ) from error
        except (DataError, NotImplementedError, AttributeError, RuntimeError) as error:
            raise RecordError(f"{path} is a damaged predictions file: {shown(error)}") from error


def _write_npz(file: BinaryIO, arrays: dict[str, NDArray[Any]], compression: int) -> None:
    """As ``np.savez``, but some rows at a time, so that little of the arrays is in memory."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = compression
            with archive.open(entry, "w", force_zip64=True) as member:
                header = np.lib.format.header_data_from_array_1_0(np.empty((0,), array.dtype))
                facts = {**header, "shape": array.shape, "fortran_order": False}
                np.lib.format.write_array_header_1_0(member, facts)
                for start in range(0, len(array), ROWS):
                    member.write(np.ascontiguousarray(array[start : start + ROWS]).tobytes())
                    release_pages(array)


def _pack(predictions: Predictions) -> NDArray[np.uint8]:
    meta = {
        "format": FORMAT,
        "names": predictions.names,
        "digests": predictions.digests,
        "output_kind": predictions.output_kind,
        "model_sha256": predictions.model_sha256,
        "model_name": predictions.model_name,
        "dataset_digest": predictions.dataset_digest,
        "pipeline": dict(predictions.pipeline),
        "problems": [asdict(problem) for problem in predictions.problems],
    }
    text = bytearray()
    for part in json.JSONEncoder().iterencode(meta):  # never a second copy of all names
        text += part.encode()
    return np.frombuffer(text, np.uint8)


def _unpack(
    meta: dict[str, Any], outputs: NDArray[Any], labels: NDArray[Any] | None
) -> Predictions:
    if outputs.dtype != np.float32 or (labels is not None and labels.dtype != np.int64):
        raise ValueError("outputs must be float32 and labels int64")
    if meta["output_kind"] not in ("logits", "probabilities"):
        raise ValueError(f"unknown kind of output {meta['output_kind']!r}")
    for name in ("names", "digests"):
        meta[name] = tuple(str(entry) for entry in meta[name])
    meta["problems"] = tuple(ImageProblem(**problem) for problem in meta["problems"])
    return Predictions(outputs=outputs, labels=labels, **meta)


def read_arrays(path: Path, max_bytes: int | None = None) -> dict[str, NDArray[Any]]:
    """The arrays of an .npz. Raises RecordError where they would unpack to more than they may, and
    what zipfile and NumPy raise on a damaged file."""
    most = MAX_BYTES if max_bytes is None else max_bytes
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > most:
            raise RecordError(f"{path} is larger than {most >> 20:,} MiB when unpacked.")
        return {
            member.filename.removesuffix(".npy"): _read_array(archive.read(member))
            for member in archive.infolist()
        }


def _read_array(data: bytes) -> NDArray[Any]:
    """One .npy whose header promises no more than there is."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError("an array of an unknown format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    promised = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or promised != len(data) - file.tell():
        raise ValueError("an array does not have the size that its header declares")
    flat: NDArray[Any] = np.frombuffer(data, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if fortran else "C")


@dataclass(frozen=True, eq=False)
class Aligned:
    """Two predictions on the same images in the same order, and how many each had beyond these."""

    first: Predictions
    second: Predictions
    only_first: int
    only_second: int


def align(first: Predictions, second: Predictions) -> Aligned:
    """Match by image content, in the order of ``first``; an image present twice is matched twice.

    Labels that only one of them has count for both. Raises DataError when the models do not share
    their classes, no image is common, or labels of common images differ.
    """
    _check_classes(first, second)
    if first.digests != second.digests:
        here, there = _matches(first.digests, second.digests)
        if not len(here):
            raise DataError(
                f"{first.model_name} and {second.model_name} were evaluated on different images: "
                "none is common.",
                "Evaluate both on the same data.",
            )
        dropped = (len(first) - len(here), len(second) - len(there))
        first, second = first.subset(here), second.subset(there)
    else:
        dropped = (0, 0)
    first, second = _share_labels(first, second)
    return Aligned(first, second, *dropped)


def _check_classes(first: Predictions, second: Predictions) -> None:
    a, b = first.outputs.shape[1], second.outputs.shape[1]
    if a != b:
        raise DataError(
            f"{first.model_name} knows {a} classes and {second.model_name} {b}: "
            "they cannot be compared image by image.",
            "Compare a model with its own quantized version.",
        )
    if not len(first) or not len(second):
        raise DataError("there are no predictions to compare: no image was evaluated.")


def _matches(
    first: tuple[str, ...], second: tuple[str, ...]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    places: defaultdict[str, deque[int]] = defaultdict(deque)
    for index, digest in enumerate(second):
        places[digest].append(index)
    pairs = [(i, places[d].popleft()) for i, d in enumerate(first) if places.get(d)]
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _share_labels(first: Predictions, second: Predictions) -> tuple[Predictions, Predictions]:
    if first.labels is None or second.labels is None:
        labels = second.labels if first.labels is None else first.labels
        return replace(first, labels=labels), replace(second, labels=labels)
    different = np.flatnonzero(first.labels != second.labels)
    if len(different):
        raise DataError(
            f"the two predictions give {len(different)} images different labels, "
            f"first {first.names[different[0]]}.",
            "Evaluate both models with the same labels.",
        )
    return first, second
