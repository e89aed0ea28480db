"""One folder a class, named by class index, wnid or class name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from quantlab.data.dataset import Dataset, ImageProblem
from quantlab.data.readers.classes import find_synsets, resolve
from quantlab.data.readers.files import FileSource, folders, images_below


def read(path: Path, *, synsets: Path | None = None, num_classes: int | None = None) -> Dataset:
    """The images below each class folder, sorted by folder and name. Raises DataError.

    Empty class folders count as classes, so that sorted order gives torchvision's labels.
    """
    classes = folders(path)
    table = find_synsets(path, synsets, num_classes)
    resolved = resolve(
        classes, table, where=str(path), num_classes=num_classes, explicit=synsets is not None
    )
    names: list[str] = []
    labels: list[int] = []
    problems: list[ImageProblem] = []
    for folder, label in zip(classes, resolved.indices, strict=True):
        found, broken = images_below(path / folder)
        names += [f"{folder}/{name}" for name in found]
        labels += [label] * len(found)
        problems += [ImageProblem(f"{folder}/{p.name}", p.reason) for p in broken]
    return Dataset(
        root=str(path),
        names=tuple(names),
        labels=np.array(labels, np.int64),
        source=FileSource(names, [str(path)] * len(names)),
        problems=tuple(problems),
        class_names=resolved.class_names,
        label_source=f"folder names: {resolved.rule}",
    )
