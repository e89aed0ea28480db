"""Small sets of images built in code: deterministic, labelled, in every shape the readers know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def pixels(label: int, seed: int, size: int | tuple[int, int]) -> NDArray[np.uint8]:
    """A soft random picture, uint8 [h, w, 3], tinted by its label. ``size``: (w, h) or the side."""
    width, height = (size, size) if isinstance(size, int) else size
    tint = np.random.default_rng([label, 7]).integers(0, 192, 3)
    noise = np.random.default_rng([label, seed]).integers(0, 64, (5, 5, 3))
    small = Image.fromarray((tint + noise).astype(np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def photo(label: int = 0, seed: int = 0, size: int | tuple[int, int] = 64) -> Image.Image:
    """The same, as an image."""
    return Image.fromarray(pixels(label, seed, size))


def image_folder(
    root: Path,
    classes: int | Sequence[str],
    per_class: int = 2,
    size: int | tuple[int, int] = 64,
    seed: int = 0,
) -> Path:
    """``root``/<class>/<i>.png; ``classes`` is a number (folders named by index) or the names."""
    names = [str(i) for i in range(classes)] if isinstance(classes, int) else list(classes)
    for label, name in enumerate(names):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(per_class):
            photo(label, seed * 1000 + i, size).save(folder / f"{i:03d}.png", compress_level=1)
    return root


def listed_folder(
    root: Path,
    labels: Sequence[int | str],
    size: int | tuple[int, int] = 64,
    seed: int = 0,
    list_name: str = "val.txt",
    subfolder: str = "",
) -> Path:
    """``root``/[<subfolder>/]<i>.png and a list file with these labels."""
    folder = root / subfolder
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for i, label in enumerate(labels):
        number = label if isinstance(label, int) else sum(map(ord, label))
        photo(number, seed * 1000 + i, size).save(folder / f"{i:03d}.png", compress_level=1)
        lines.append(f"{i:03d}.png {label}\n")
    (root / list_name).write_text("".join(lines))
    return root


def npz_file(
    path: Path,
    labels: Sequence[int],
    size: int | tuple[int, int] = 64,
    seed: int = 0,
) -> Path:
    """An archive with ``images`` and ``labels``."""
    images = [pixels(label, seed * 1000 + i, size) for i, label in enumerate(labels)]
    np.savez(path, images=np.stack(images), labels=np.array(labels, np.int64))
    return path


def truncate(path: Path, keep: float = 0.5) -> Path:
    """Cuts the file's end off."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path
