"""What a benchmark does where nothing else is asked."""

from __future__ import annotations

from typing import Literal

Isolation = Literal["fresh", "shared"]
SECONDS = 25.0
"""For each batch size."""
SHARED_ROUNDS, SHARED_SECONDS = 30, 10.0
"""Of models that share one process."""
