"""Read answers of another device from its files and match them to images by name.

Files: an ``.npz`` with ``names`` [n] and ``outputs`` [n, classes] (or a quantlab predictions.npz);
a text with a line ``name value value ...`` an image; a folder with one file an image, named after
it: ``.npz`` (``outputs``, or its only array), ``.bin`` (float32, little-endian) or ``.txt``.
In texts whole numbers are classes, the best first, and any other numbers are scores of all classes.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.readers.files import SUFFIXES, cannot_read, read_text
from quantlab.errors import DataError, RecordError, shown
from quantlab.evaluate.metrics import top_k
from quantlab.evaluate.predictions import MAX_BYTES, Predictions, read_arrays
from quantlab.model.model import OutputKind

FILES = (".npz", ".txt", ".csv")
_EACH = (".npz", ".bin", ".txt")
_ENDINGS = (*SUFFIXES, *_EACH, ".csv")
_MAX_EACH = 64 * 1024**2
_CLASS = re.compile(r"[+-]?[0-9]{1,9}")
_SEPARATOR = re.compile(r"[,\s]+")
_FORM = (
    "Each line is an image's name and its classes, best first, or all its scores "
    "(docs/evaluate.md)."
)


@dataclass(frozen=True, eq=False)
class DeviceAnswers:
    """Answers by image name: ``top`` [n, k] are the best classes, -1 for none; ``outputs`` float32
    [n, classes] are None where only classes are known."""

    names: tuple[str, ...]
    top: NDArray[np.int64]
    outputs: NDArray[np.float32] | None

    @property
    def has_five(self) -> bool:
        """Whether every image has five answers, or all that there are."""
        five = self.top[:, :5]
        return self.outputs is not None or (five.shape[1] == 5 and bool((five >= 0).all()))

    @property
    def output_kind(self) -> OutputKind:
        """Probabilities where every row is one of them, else logits."""
        if self.outputs is None:
            return "logits"
        within = (self.outputs >= 0) & (self.outputs <= 1)
        sums = self.outputs.sum(axis=1, dtype=np.float64)
        return "probabilities" if within.all() and (np.abs(sums - 1) < 0.05).all() else "logits"


def read_answers(path: Path) -> DeviceAnswers:
    """The answers in a file or folder. Raises DataError."""
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() == ".npz":
        return _npz(path)
    return _text(path)


def match_names(names: Sequence[str], others: Sequence[str]) -> NDArray[np.int64]:
    """For each name the index of the same image among ``others`` (int64 [n]), -1 for none.

    Endings do not count; folders do only where file names alone are not unique. Raises DataError
    when two of ``others`` are of one image.
    """
    here, there = [_stem(n) for n in names], [_stem(n) for n in others]
    twice = [name for name, times in Counter(there).items() if times > 1]
    if twice:
        raise DataError(
            f"{len(twice)} images have more than one result, first {twice[0]}.",
            "Give one result an image.",
        )
    whole = {name: i for i, name in enumerate(there)}
    short_here, short_there = Counter(map(_short, here)), Counter(map(_short, there))
    short = {_short(name): i for i, name in enumerate(there) if short_there[_short(name)] == 1}

    def place(name: str) -> int:
        if name in whole:
            return whole[name]
        return short.get(_short(name), -1) if short_here[_short(name)] == 1 else -1

    return np.array([place(name) for name in here], np.int64)


def _stem(name: str) -> str:
    """The name without its endings, so that ``a.JPEG.npz`` is ``a``."""
    stem = name.replace("\\", "/").removeprefix("./")
    while stem.lower().endswith(_ENDINGS) and "." in stem.rpartition("/")[2][1:]:
        stem = stem.rpartition(".")[0]
    return stem


def _short(stem: str) -> str:
    return stem.rpartition("/")[2]


def _of_scores(names: Sequence[str], outputs: NDArray[Any], path: Path) -> DeviceAnswers:
    if outputs.ndim != 2 or outputs.dtype.kind not in "fiu" or min(outputs.shape) < 1:
        raise DataError(
            f"{path}: the outputs are {outputs.dtype} {list(outputs.shape)}, not numbers "
            "[images, classes]."
        )
    if outputs.shape[1] < 2:
        raise DataError(f"{path} holds one score an image.", _FORM)
    if len(names) != len(outputs):
        raise DataError(f"{path} has {len(names)} names and {len(outputs)} rows of outputs.")
    scores = np.ascontiguousarray(outputs, np.float32)
    return DeviceAnswers(tuple(names), top_k(scores, 5), scores)


def _npz(path: Path) -> DeviceAnswers:
    arrays = _arrays(path)
    if "meta" in arrays:
        try:
            known = Predictions.load(path)
        except RecordError as error:
            raise DataError(error.problem, error.remedy) from error
        return _of_scores(known.names, known.outputs, path)
    names, outputs = arrays.get("names"), arrays.get("outputs")
    if names is None or outputs is None or names.ndim != 1 or names.dtype.kind not in "US":
        raise DataError(
            f"{path} does not hold the arrays 'names' (text) and 'outputs'.",
            "Save it with np.savez(path, names=names, outputs=float32 [images, classes]).",
        )
    return _of_scores([_words(name) for name in names.tolist()], outputs, path)


def _words(name: str | bytes) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    damages = (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    try:
        return read_arrays(path)
    except OSError as error:
        raise cannot_read(path, error) from error
    except RecordError as error:
        raise DataError(error.problem, error.remedy) from error
    except (*damages, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path} is not a readable .npz: {shown(error)}.", "Save it again with np.savez."
        ) from error


def _text(path: Path) -> DeviceAnswers:
    lines = [_SEPARATOR.split(line.strip()) for line in read_text(path).splitlines()]
    rows = [line for line in lines if line != [""]]
    if not rows:
        raise DataError(f"{path} is empty.", _FORM)
    return _of_words([row[0] for row in rows], [row[1:] for row in rows], path)


def _of_words(names: Sequence[str], rows: Sequence[Sequence[str]], path: Path) -> DeviceAnswers:
    for name, row in zip(names, rows, strict=True):
        if not row:
            raise DataError(f"{path}: {name[:60]!r} has no answer.", _FORM)
    if all(_CLASS.fullmatch(word) for row in rows for word in row):
        return _of_classes(names, [[int(word) for word in row] for row in rows], path)
    if len({len(row) for row in rows}) > 1:
        raise DataError(f"{path}: the images do not all have the same number of scores.", _FORM)
    try:
        scores = np.array([[float(word) for word in row] for row in rows], np.float32)
    except ValueError as error:
        raise DataError(f"{path}: {error}.", _FORM) from error
    return _of_scores(names, scores, path)


def _of_classes(names: Sequence[str], rows: Sequence[Sequence[int]], path: Path) -> DeviceAnswers:
    top = np.full((len(rows), max(map(len, rows))), -1, np.int64)
    for i, (name, row) in enumerate(zip(names, rows, strict=True)):
        if min(row) < 0 or len(set(row)) < len(row):
            raise DataError(
                f"{path}: {name[:60]!r} has whole numbers that are no different classes.",
                "Whole numbers are classes; write scores with a decimal point.",
            )
        top[i, : len(row)] = row
    return DeviceAnswers(tuple(names), top, None)


def _folder(path: Path) -> DeviceAnswers:
    """One file an image, all of one kind, in the order of their names."""
    files = sorted(p for p in path.rglob("*") if p.suffix.lower() in _EACH and p.is_file())
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1:
        raise DataError(
            f"{path} holds {'files of ' + ', '.join(kinds) if kinds else 'no results'}.",
            "Give a folder with one .npz, .bin or .txt an image.",
        )
    names = [file.relative_to(path).as_posix() for file in files]
    if kinds == [".txt"]:
        rows = [_SEPARATOR.split(read_text(file).strip()) for file in files]
        return _of_words(names, [row if row != [""] else [] for row in rows], path)
    return _of_scores(names, _stacked(files, _row_of_npz if kinds == [".npz"] else _floats), path)


def _stacked(files: Sequence[Path], read: Callable[[Path], NDArray[Any]]) -> NDArray[np.float32]:
    rows: list[NDArray[np.float32]] = []
    for file in files:
        row = read(file).reshape(-1)
        if row.dtype.kind not in "fiu":
            raise DataError(f"{file} holds {row.dtype}, not numbers.")
        if rows and len(row) != len(rows[0]):
            raise DataError(f"{file} holds {len(row)} numbers, {files[0].name} {len(rows[0])}.")
        if row.nbytes * len(files) > MAX_BYTES:
            raise DataError(f"{files[0].parent} holds more than {MAX_BYTES >> 30} GiB of results.")
        rows.append(row.astype(np.float32))
    return np.stack(rows)


def _floats(file: Path) -> NDArray[Any]:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_EACH + 1)
    except OSError as error:
        raise cannot_read(file, error) from error
    if len(data) % 4 or not 0 < len(data) <= _MAX_EACH:
        raise DataError(f"{file} holds {len(data)} bytes, which is no row of float32.")
    return np.frombuffer(data, "<f4")


def _row_of_npz(file: Path) -> NDArray[Any]:
    arrays = _arrays(file)
    if "outputs" in arrays:
        return arrays["outputs"]
    if len(arrays) != 1:
        raise DataError(f"{file} does not hold the array 'outputs'.")
    return next(iter(arrays.values()))
