"""Names of search strategies and of trials to pick."""

from __future__ import annotations

from typing import Literal

Strategy = Literal[
    "ladder", "sensitivity", "grid", "random", "tpe", "exhaustive", "basic", "conservative"
]
IncStrategy = Literal["basic", "bayesian", "exhaustive"]
"""Neural Compressor's own."""
Pick = Literal["best", "fastest", "smallest", "most-accurate"]
EarlyStopChoice = Literal["off", "search", "report"]
"""What of a tune may end before all images were seen."""
