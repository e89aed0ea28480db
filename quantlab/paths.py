"""Where quantlab keeps what it may throw away."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
