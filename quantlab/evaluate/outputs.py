"""Allocate arrays for the outputs of many images, in a temporary file above a size limit."""

from __future__ import annotations

import tempfile

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 8 * 1024**2
ROWS = 256
"""Rows that are worked on at a time."""


def new_outputs(images: int, classes: int) -> NDArray[np.float32]:
    """Uninitialized float32 [images, classes]; from IN_MEMORY bytes on in a temporary file."""
    if images * classes * 4 <= IN_MEMORY:
        return np.empty((images, classes), np.float32)
    with tempfile.TemporaryFile(prefix="quantlab-") as file:
        return np.memmap(file, np.float32, "w+", shape=(images, classes))
