"""Find image files in a fixed order and read them with a size limit."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantlab.data.dataset import ImageProblem
from quantlab.errors import DataError

MAX_FILE_BYTES = 512 * 1024**2
MAX_TEXT_BYTES = 64 * 1024**2

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".jxl"),
)
"""What counts as an image. Those that cannot be decoded are reported, not passed over."""


@dataclass(frozen=True)
class FileSource:
    """Image files, each read when asked for: ``names`` and the folder that each is relative to."""

    names: Sequence[str]
    folders: Sequence[str]

    def read(self, index: int) -> bytes:
        """The file's bytes. Raises DataError ``"<name>: <reason>."``."""
        try:
            with Path(self.folders[index], self.names[index]).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = file.read(min(size, MAX_FILE_BYTES) + 1)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise DataError(f"{self.names[index]}: cannot be read: {reason}.") from error
        if len(data) > MAX_FILE_BYTES:
            raise DataError(f"{self.names[index]}: larger than {MAX_FILE_BYTES >> 20} MiB.")
        return data


def is_image(name: str) -> bool:
    """Whether the name's ending is that of an image. Hidden files are none."""
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def folders(path: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones. Raises DataError."""
    return sorted(
        e.name for e in _scan(path) if e.is_dir() and not e.name.startswith((".", "__MACOSX"))
    )


def names(path: Path) -> list[str]:
    """The names of what lies in a folder, without hidden ones. Raises DataError."""
    return [entry.name for entry in _scan(path) if not entry.name.startswith(".")]


def holds_image(path: Path) -> bool:
    """Whether an image lies directly in the folder. Raises DataError."""
    return any(is_image(entry.name) and not entry.is_dir() for entry in _scan(path))


def images_below(path: Path) -> tuple[list[str], list[ImageProblem]]:
    """The images anywhere below, as sorted relative POSIX paths, and those that are no files."""
    found: list[str] = []
    problems: list[ImageProblem] = []
    for name, is_file in sorted(_walk(path, "", set())):
        if is_file:
            found.append(name)
        else:
            problems.append(ImageProblem(name, "not a regular file (a broken link?)"))
    return found, problems


def read_text(path: Path) -> str:
    """A small text file. Raises DataError when it is missing, too large or not UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT_BYTES + 1)
        if len(data) > MAX_TEXT_BYTES:
            raise DataError(f"{path} is larger than {MAX_TEXT_BYTES >> 20} MiB: not a list.")
        return data.decode("utf-8-sig")
    except OSError as error:
        raise cannot_read(path, error) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8.") from error


def cannot_read(path: Path, error: OSError) -> DataError:
    """A DataError with the system's reason why a file cannot be read."""
    return DataError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}.")


def _walk(root: Path, prefix: str, seen: set[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """Image names below, and whether each is a regular file. Each folder once: links may loop."""
    here = root / prefix if prefix else root
    entries, status = _scan(here), here.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for entry in entries:
        if entry.is_dir():
            if not entry.name.startswith((".", "__MACOSX")):
                yield from _walk(root, f"{prefix}{entry.name}/", seen)
        elif is_image(entry.name):
            yield f"{prefix}{entry.name}", entry.is_file()


def _scan(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise cannot_read(path, error) from error
