"""Parquet with a column of images, as Hugging Face's ``datasets`` writes them.

The column ``image`` (or ``img``) holds encoded images, as binary or as a struct of ``bytes`` and
``path``; ``label`` (or ``labels``) class indices. A file, or a folder of them in the order of
their names. Source of the format: https://huggingface.co/docs/datasets/about_dataset_features.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from quantlab.data.dataset import Dataset
from quantlab.data.readers.files import cannot_read
from quantlab.errors import DataError, LabelError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_GROUP_BYTES = 2 * 1024**3
_IMAGES, _LABELS = ("image", "img"), ("label", "labels")
_REMEDY = "Give a file with a column 'image' (encoded images) and a column 'label' (class indices)."


@dataclass(frozen=True)
class RowGroup:
    """Rows that are compressed together; ``start`` is where in the dataset they begin."""

    path: Path
    number: int
    start: int


@dataclass
class ParquetSource:
    """The images of files, a row group at a time: the last one read is kept."""

    column: str
    groups: Sequence[RowGroup]
    names: Sequence[str]
    _number: int = -1
    _images: Any = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def read(self, index: int) -> bytes:
        """The encoded image. Raises DataError."""
        starts = [group.start for group in self.groups]
        number = int(np.searchsorted(starts, index, side="right")) - 1
        group = self.groups[number]
        with self._lock:
            if number != self._number:
                self._images = _images(group, self.column)
                self._number = number
            image = self._images[index - group.start].as_py()
        if image is None:
            raise DataError(f"{self.names[index]}: no image in this row.")
        return bytes(image)


def read(path: Path, *, labelled: bool = True) -> Dataset:
    """The rows of the file, or of the folder's files; names are ``<file>[<row>]``.
    ``labelled=False`` leaves labels aside.

    Raises DataError, MissingExtraError.
    """
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    groups: list[RowGroup] = []
    labels: list[NDArray[np.int64] | None] = []
    names: list[str] = []
    columns: set[str] = set()
    class_names = None
    for file in files:
        with _opened(file) as opened:
            columns.add(_column(opened, _IMAGES, file))
            start = len(names)
            names += [f"{file.name}[{row}]" for row in range(opened.metadata.num_rows)]
            for number in range(opened.metadata.num_row_groups):
                groups.append(RowGroup(file, number, start))
                start += opened.metadata.row_group(number).num_rows
            labels.append(_labels(opened, file) if labelled else None)
            class_names = class_names or _class_names(opened)
    known = [part for part in labels if part is not None]
    if len(columns) > 1 or len(known) not in (0, len(labels)):
        raise DataError(f"{path}: the files do not all have the same columns.", _REMEDY)
    return Dataset(
        root=str(path),
        names=tuple(names),
        labels=np.concatenate(known) if known else None,
        source=ParquetSource(columns.pop(), groups, names),
        class_names=class_names,
        label_source="the column of labels" if known else "none",
    )


def _images(group: RowGroup, column: str) -> Any:
    """The row group's encoded images, None where there is none."""
    with _opened(group.path) as opened:
        chosen = [c for c in _leaves(opened) if c in (column, f"{column}.bytes")]
        size = sum(
            _chunk(opened, group.number, _leaves(opened).index(name)).total_uncompressed_size
            for name in chosen
        )
        if size > MAX_GROUP_BYTES:
            raise DataError(
                f"{group.path}: row group {group.number} holds {size >> 20} MiB of images.",
                "Write it with smaller row groups.",
            )
        table = opened.read_row_group(group.number, columns=chosen, use_threads=False)
        images = table.column(column).combine_chunks()
        return images.field("bytes") if column not in chosen else images


def _chunk(opened: Any, group: int, column: int) -> Any:
    return opened.metadata.row_group(group).column(column)


def _leaves(opened: Any) -> list[str]:
    """The paths of the columns that hold values."""
    schema = opened.schema
    return [schema.column(i).path for i in range(len(schema))]


def _column(opened: Any, wanted: Sequence[str], path: Path) -> str:
    """The name of the column of images."""
    import pyarrow.types as kinds

    schema = opened.schema_arrow
    for name in wanted:
        if name in schema.names:
            kind = schema.field(name).type
            if kinds.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind = kind.field("bytes").type
            if kinds.is_binary(kind) or kinds.is_large_binary(kind):
                return name
    raise DataError(f"{path} has no column of images ({', '.join(schema.names[:10])}).", _REMEDY)


def _labels(opened: Any, path: Path) -> NDArray[np.int64] | None:
    import pyarrow.types as kinds

    schema = opened.schema_arrow
    name = next((name for name in _LABELS if name in schema.names), None)
    if name is None:
        return None
    column = opened.read(columns=[name], use_threads=False).column(name)
    if not kinds.is_integer(column.type) or column.null_count:
        raise LabelError(
            f"{path}: the column {name!r} is {column.type} with {column.null_count} empty rows, "
            "not a class index in each.",
            _REMEDY,
        )
    return np.asarray(column.to_numpy(), np.int64)


def _class_names(opened: Any) -> tuple[str, ...] | None:
    """The names that ``datasets`` keeps beside a column of ClassLabel, if any."""
    try:
        facts = json.loads((opened.schema_arrow.metadata or {})[b"huggingface"])
        features = facts["info"]["features"]
        names = next(features[name]["names"] for name in _LABELS if name in features)
        return tuple(map(str, names))
    except (KeyError, TypeError, ValueError, StopIteration):
        return None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the file with pyarrow; its errors become DataErrors."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "Reading Parquet") from error
    try:
        with parquet.ParquetFile(path) as opened:
            yield opened
    except OSError as error:
        raise cannot_read(path, error) from error
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"{path} is not a readable Parquet file: {reason}.",
            "Copy it again from where it came from.",
        ) from error
