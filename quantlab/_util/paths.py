"""Where quantlab keeps what it may throw away, and how it is told where data is."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def cache_dir() -> Path:
    """The user's cache folder for quantlab; it may not exist yet.

    QUANTLAB_CACHE names it outright. Else it is ``quantlab`` inside XDG_CACHE_HOME, or inside the
    system's own place: ~/.cache, ~/Library/Caches (macOS), %LOCALAPPDATA% (Windows).
    """
    if chosen := os.environ.get("QUANTLAB_CACHE"):
        return Path(chosen).expanduser()
    return _system_cache() / "quantlab"


def _system_cache() -> Path:
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path.home() / ".cache"


def is_url(place: Path | str) -> bool:
    """Whether it says where data is by a URL, such as ``s3://bucket/val``, and not by a path."""
    return isinstance(place, str) and _URL.match(place) is not None


def location(place: Path | str) -> Path | str:
    """A URL as it is, anything else as a path."""
    return place if is_url(place) else Path(place)
