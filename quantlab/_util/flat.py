"""Flatten nested mappings to one level of strings, for comparison line by line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(data: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Flatten a mapping: keys joined by dots, values as strings, None left out."""
    found: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        elif value is not None:
            found[f"{before}{key}"] = str(value)
    return found
