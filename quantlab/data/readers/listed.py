"""A flat folder and a list file of ``name label`` lines (``val.txt``; MLPerf's ``val_map.txt``).

A list of ``.npz`` files (``npz_datalist.txt``) is one of ready inputs.
"""

from __future__ import annotations

import ntpath
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quantlab.data.dataset import Dataset, ImageProblem
from quantlab.data.readers.classes import (
    find_synsets,
    fitting_names,
    is_wnid,
    resolve,
    shorten,
)
from quantlab.data.readers.files import FileSource, read_text
from quantlab.data.readers.npz import InputSource
from quantlab.errors import DataError, LabelError

_LABEL = re.compile(r"-?[0-9]{1,9}")
_FORM = "Each line is an image's name, a space and its label: a class index or a wnid."


@dataclass(frozen=True)
class ListedImage:
    """One line of a list: its number, the image's name and the label as written."""

    number: int
    name: str
    label: str


def read(
    path: Path,
    list_file: Path,
    *,
    synsets: Path | None = None,
    num_classes: int | None = None,
    labelled: bool = True,
) -> Dataset:
    """The listed images, in the list's order; names are relative to ``path`` or ``path``/val.

    Missing files and names listed twice become problems; ``labelled=False`` leaves labels aside,
    and a line need not have one. Raises DataError when no file is there or a name is outside the
    folder, LabelError for lines that cannot be read and wnids that cannot be resolved.
    """
    if labelled:
        lines, repeated = _without_repeats(parse_list(list_file), list_file)
        labels, rule, class_names = _labels(lines, path, list_file, synsets, num_classes)
    else:
        lines, repeated = _without_repeats(_names_only(path, list_file), list_file)
        labels, rule, class_names = None, "none", None
    folders = _located(path, [line.name for line in lines])
    present = [i for i, folder in enumerate(folders) if folder is not None]
    if not present:
        raise _nothing_there(path, list_file, lines)
    names = [lines[i].name for i in present]
    source = FileSource(names, [folder for folder in folders if folder is not None])
    ready = all(name.endswith(".npz") for name in names)
    missing = [
        ImageProblem(line.name, "in the list, but there is no such file")
        for line, folder in zip(lines, folders, strict=True)
        if folder is None
    ]
    return Dataset(
        root=str(path),
        names=tuple(names),
        labels=None if labels is None else np.array([labels[i] for i in present], np.int64),
        source=InputSource(source) if ready else source,
        problems=(*missing, *repeated),
        class_names=class_names,
        label_source=rule if labels is None else f"{list_file.name}: {rule}",
        ready=ready,
    )


def labels_of(
    list_file: Path, *, synsets: Path | None = None
) -> tuple[list[str], NDArray[np.int64]]:
    """The listed names and their labels [n], files or none. Raises DataError as ``read``."""
    lines, _ = _without_repeats(parse_list(list_file), list_file)
    labels, _, _ = _labels(lines, list_file.parent, list_file, synsets, None)
    return [line.name for line in lines], np.array(labels, np.int64)


def parse_list(list_file: Path) -> list[ListedImage]:
    """The list's lines. Raises DataError, naming the first lines that are not ``name label``."""
    lines: list[ListedImage] = []
    bad: list[str] = []
    for number, text in enumerate(read_text(list_file).splitlines(), 1):
        parts = text.rsplit(None, 1)
        if len(parts) == 2 and (is_wnid(parts[1]) or _LABEL.fullmatch(parts[1])):
            lines.append(ListedImage(number, parts[0].strip(), parts[1]))
        elif parts:
            bad.append(f"line {number} ({text.strip()[:60]!r})")
    if bad:
        raise LabelError(f"{list_file}: {shorten(bad, 3)} cannot be read as name and label.", _FORM)
    if not lines:
        raise DataError(f"{list_file} is empty.", _FORM)
    _check_inside(lines, list_file)
    return lines


def _names_only(path: Path, list_file: Path) -> list[ListedImage]:
    """The names of a list's lines: the whole line where there is such a file, else all but its
    last word."""
    texts = [(i, text.strip()) for i, text in enumerate(read_text(list_file).splitlines(), 1)]
    texts = [(i, text) for i, text in texts if text]
    whole = _located(path, [text for _, text in texts])
    lines = [
        ListedImage(number, text if folder is not None else text.rsplit(None, 1)[0], "")
        for (number, text), folder in zip(texts, whole, strict=True)
    ]
    _check_inside(lines, list_file)
    return lines


def _check_inside(lines: Sequence[ListedImage], list_file: Path) -> None:
    for line in lines:
        drive, rest = ntpath.splitdrive(line.name)
        if drive or rest[:1] in ("/", "\\") or ".." in re.split(r"[/\\]", rest):
            raise DataError(
                f"{list_file}, line {line.number}: {line.name!r} is outside the image folder.",
                "Names in a list are relative to the folder and hold no '..'.",
            )


def _without_repeats(
    lines: Sequence[ListedImage], list_file: Path
) -> tuple[list[ListedImage], list[ImageProblem]]:
    first: dict[str, ListedImage] = {}
    problems: list[ImageProblem] = []
    for line in lines:
        known = first.setdefault(line.name, line)
        if known is line:
            continue
        if known.label != line.label:
            raise LabelError(
                f"{list_file}: {line.name} has the label {known.label} in line {known.number} and "
                f"{line.label} in line {line.number}.",
                "Remove the wrong line.",
            )
        problems.append(ImageProblem(line.name, f"listed again in line {line.number}"))
    return list(first.values()), problems


def _labels(
    lines: Sequence[ListedImage],
    path: Path,
    list_file: Path,
    synsets: Path | None,
    num_classes: int | None,
) -> tuple[list[int], str, tuple[str, ...] | None]:
    table = find_synsets(path, synsets, num_classes)
    wnids = sorted({line.label for line in lines if is_wnid(line.label)})
    if not wnids:
        return [int(x.label) for x in lines], "class indices", fitting_names(table, num_classes)
    if any(not is_wnid(line.label) for line in lines):
        raise LabelError(f"{list_file}: some labels are wnids, some are indices.", "Use one kind.")
    resolved = resolve(
        wnids,
        table,
        where=str(list_file),
        num_classes=num_classes,
        explicit=synsets is not None,
    )
    index = dict(zip(wnids, resolved.indices, strict=True))
    return [index[line.label] for line in lines], resolved.rule, resolved.class_names


def _located(path: Path, names: Sequence[str]) -> list[str | None]:
    """The folder that holds each file, if any."""
    places = str(path), str(path / "val")

    def holds(place: str, name: str) -> bool:
        # Fifty thousand names: Path is slow, and keeps their parts.
        return os.path.isfile(os.path.join(place, name))  # noqa: PTH113, PTH118

    return [next((place for place in places if holds(place, name)), None) for name in names]


def _nothing_there(path: Path, list_file: Path, lines: Sequence[ListedImage]) -> DataError:
    return DataError(
        f"{list_file} names {len(lines)} images, but none of them is in {path} or {path / 'val'} "
        f"(first: {shorten([line.name for line in lines], 3)}).",
        "Give the folder that holds them, or the list that belongs to this folder.",
    )
