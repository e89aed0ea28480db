"""Images without labels, anywhere below a folder."""

from __future__ import annotations

from pathlib import Path

from quantlab.data.dataset import Dataset
from quantlab.data.readers.files import FileSource, images_below


def read(path: Path) -> Dataset:
    """All images below the folder, sorted by relative path. Raises DataError."""
    names, problems = images_below(path)
    return Dataset(
        root=str(path),
        names=tuple(names),
        labels=None,
        source=FileSource(names, [str(path)] * len(names)),
        problems=tuple(problems),
    )
