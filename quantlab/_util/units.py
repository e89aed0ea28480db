"""Parse and format shares, durations and sizes. Pure."""

from __future__ import annotations

import math
import re

_SHARE = re.compile(r"\s*([0-9.]+(?:e-?\d+)?)\s*(%?)\s*")
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|)\s*")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(
    r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT])B?|B|bytes)\s*|\s*0+(?:\.0+)?\s*", re.IGNORECASE
)
_SIDES = re.compile(r"\s*(\d{1,5})(?:\s*x\s*(\d{1,5}))?\s*")
MOST_SIDE = 4096
"""Pixels of an image's height or width."""
_NUMBER = re.compile(r"\s*[0-9.]+\s*")
_BYTES = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def share(value: object) -> float:
    """``1%`` or ``0.01`` as a share of one. Raises ValueError, also for a plain 1, which may mean
    1% or all."""
    if str(value).strip() == "1":
        raise ValueError(f"{value!r} has no unit: write 1% or 100%")
    match = _SHARE.fullmatch(str(value))
    try:
        found = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1:
        raise ValueError(f"{value!r} is not a share such as 1% or 0.01")
    return found


def seconds(value: object) -> float:
    """``90s``, ``5m``, ``1h``, ``7d`` or a number of seconds. Raises ValueError."""
    if isinstance(value, float) and 0 <= value < math.inf:
        return value
    match = _DURATION.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a duration such as 90s, 5m or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def duration(seconds: float) -> str:
    """Format seconds as ``seconds`` reads them: ``90s``, ``5m``, ``1h``."""
    unit = next((u for u in ("h", "m") if seconds and seconds % _SECONDS[u] == 0), "s")
    return f"{seconds / _SECONDS[unit]:.10g}{unit}"


def size_bytes(value: object) -> int:
    """``10 GB``, ``500MB`` or ``4096 B`` in bytes; a kilobyte is 1000 bytes, and only 0 needs no
    unit. Raises ValueError."""
    match = _SIZE.fullmatch(str(value))
    if match is None and _NUMBER.fullmatch(str(value)):
        raise ValueError(f"{value!r} has no unit: write {value}MB or {value}B")
    if match is None:
        raise ValueError(f"{value!r} is not a size such as 10GB or 500MB")
    return round(float(match[1] or 0) * _BYTES[(match[2] or "").upper()])


def image_size(value: object) -> int | str:
    """``224``, or ``48x192`` (or the pair) for height and width; of a square its one side.

    Raises ValueError.
    """
    value = "x".join(map(str, value)) if isinstance(value, tuple | list) else value
    whole = isinstance(value, float) and value.is_integer()
    match = _SIDES.fullmatch(f"{value:.0f}" if whole else str(value))
    found = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(1 <= side <= MOST_SIDE for side in found):
        raise ValueError(
            f"{value!r} is not a size such as 224 or 48x192, each side from 1 to {MOST_SIDE}"
        )
    return found[0] if found[0] == found[1] else f"{found[0]}x{found[1]}"


def sides(size: int | str | None) -> int | tuple[int, int] | None:
    """What ``image_size`` gave as one side, or height and width."""
    if not isinstance(size, str):
        return size
    height, _, width = size.partition("x")
    return int(height), int(width)


def size(count: int) -> str:
    """Format bytes as ``size_bytes`` reads them: ``4MB``, ``4096B``."""
    large = (u for u in "TGMK" if count >= _BYTES[u] and 1000 * count % _BYTES[u] == 0)
    unit = next(large, "")
    return f"{count / _BYTES[unit]:.10g}{unit}B"
