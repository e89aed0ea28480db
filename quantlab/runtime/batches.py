"""Fill batches up to a size that a model takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def filled(batch: NDArray[np.generic], size: int) -> NDArray[np.generic]:
    """The batch with copies of its last input behind it, ``size`` inputs in all."""
    missing = size - len(batch)
    return np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
