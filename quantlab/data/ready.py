"""Preprocessed inputs on disk: one ``.npz`` an image, as a model takes it, and the list of them."""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from quantlab._util.files import write_whole
from quantlab._util.reporter import Counted
from quantlab.data.crops import Crops
from quantlab.data.readers import NPZ_LIST
from quantlab.data.readers.files import is_image
from quantlab.data.readers.listed import parse_list
from quantlab.errors import DataError
from quantlab.model.model import InputSpec

_MARK = b"quantlab data npz"
"""The comment of every archive."""
_ODD = re.compile(r"[^\w ,.()+=@~\[\]-]")


def write_inputs(crops: Crops, spec: InputSpec, folder: Path, progress: Counted) -> list[str]:
    """Write the files into ``folder``, their list last; returns the files' names.

    Each holds ``input``, a batch of one in the model's layout and dtype, and ``label`` (int64).
    Raises DataError for images without labels, OutputError.
    """
    if crops.labels is None:
        raise DataError(
            f"{crops.root} has no labels, and every line of {NPZ_LIST} needs one.",
            "Give labelled images; --list FILE names a list of labels.",
        )
    names = file_names(crops.names)
    for i, (name, label) in enumerate(zip(names, crops.labels, strict=True)):
        buffer = io.BytesIO()
        np.savez(buffer, input=crops.inputs(slice(i, i + 1), spec), label=label)
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = _MARK
        write_whole(folder / name, buffer.getvalue())
        progress(i + 1, len(names))
    lines = [f"{name} {label}\n" for name, label in zip(names, crops.labels, strict=True)]
    write_whole(folder / NPZ_LIST, "".join(lines))
    return names


def is_ours(path: Path) -> bool:
    """Whether ``write_inputs`` wrote the file: an archive with its mark, or a list of such only."""
    try:
        if path.name != NPZ_LIST:
            with zipfile.ZipFile(path) as archive:
                return archive.comment == _MARK
        names = [line.name for line in parse_list(path)]
    except (OSError, DataError, zipfile.BadZipFile, ValueError):
        return False
    return all(is_ours(path.parent / name) for name in names if name != NPZ_LIST)


def file_names(names: Sequence[str]) -> list[str]:
    """A file's name for each image: its own, inside the folder whatever it is, with ``.npz`` for
    its ending; where two would be one, a number and its own."""
    plain = [
        f"{_inside(name.rpartition('.')[0] if is_image(name) else name)}.npz" for name in names
    ]
    times = Counter(name.lower() for name in plain)
    return [
        name if times[name.lower()] == 1 else f"{i:08d}_{_inside(own)}.npz"
        for i, (name, own) in enumerate(zip(plain, names, strict=True))
    ]


def _inside(name: str) -> str:
    parts = [_ODD.sub("_", part).strip(" .") for part in name.split("/")]
    return "/".join(part for part in parts if part) or "image"
