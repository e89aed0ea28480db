"""Default search spaces of grid, random, tpe and exhaustive, for each engine."""

from __future__ import annotations

from typing import Any

from quantlab.tune.strategies import SPACE

_RANGES = {
    "ort": ["minmax", "mean", "percentile", "entropy"],
    "inc": ["minmax", "percentile", "entropy"],
    "nncf": ["minmax", "mean"],
}
_FORMATS = {"nncf": ["qdq"]}


def default_space(engine: str) -> dict[str, list[Any]]:
    """The fields that the engine supports, each with the values to try. For another package's
    engine only those that a ladder uses."""
    if engine == "quantlab":
        return SPACE
    return {
        "format": _FORMATS.get(engine, ["qdq", "qoperator"]),
        "per_channel": [True, False],
        "ranges": _RANGES.get(engine, ["minmax"]),
    }
