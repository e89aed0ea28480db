"""Nested mappings as one level of texts, to be compared line by line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def flat(data: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """The values as texts, those of inner mappings under joined names; None says nothing."""
    found: dict[str, str] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{before}{key}.")
        elif value is not None:
            found[f"{before}{key}"] = str(value)
    return found
