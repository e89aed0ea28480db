"""Check files and folders against a published sha256."""

from __future__ import annotations

import hashlib
from pathlib import Path

from quantlab.errors import FetchError


def content_sha256(path: Path) -> str:
    """Of a file its bytes; of a folder a ``sha256  name`` line for each of its files, by name."""
    if path.is_dir():
        lines = (f"{content_sha256(p)}  {p.name}\n" for p in sorted(path.iterdir()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, *expected: str) -> None:
    """Raises FetchError with both digests when ``path`` has none of the expected ones."""
    if (found := content_sha256(path)) not in expected:
        raise FetchError(f"refused: its sha256 is {found}, expected {' or '.join(expected)}")
