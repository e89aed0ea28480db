"""Digest of quantlab's source, by which cached results become invalid when the code changes."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import quantlab


@cache
def source_digest() -> str:
    """The sha256, in hex, of all of quantlab's Python files and tables of costs."""
    root = Path(quantlab.__file__).parent
    sources = [*sorted(root.rglob("*.py")), *sorted(root.rglob("costs*.json"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
