"""The cache folder's path, and locations of data as paths or URLs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


def cache_dir() -> Path:
    """The user's cache folder for quantlab, which may not exist yet.

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
    """Whether the text is a URL, such as ``s3://bucket/val``, and not a path."""
    return isinstance(place, str) and _URL.match(place) is not None


def location(place: Path | str) -> Path | str:
    """A URL unchanged, anything else as a Path."""
    return place if is_url(place) else Path(place)
