"""Check that labels are valid class indices of a model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import LabelError


def check_labels(labels: NDArray[np.int64], num_classes: int, names: Sequence[str] = ()) -> None:
    """Raises LabelError, naming the first offenders, unless 0 <= label < num_classes throughout."""
    bad = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if bad.size == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    offenders = ", ".join(
        f"{names[i] if names else f'image {i}'} has {labels[i]}" for i in bad[:3].tolist()
    )
    raise LabelError(
        f"Labels out of range: the model has the labels 0 to {num_classes - 1}, the data {low} to "
        f"{high}: {bad.size} of {labels.size} do not fit ({offenders}).",
        _remedy(low, high, num_classes),
    )


def _remedy(low: int, high: int, num_classes: int) -> str:
    if low < 0:
        return "A negative label usually marks an unlabelled image: take these images out."
    if low >= 1 and high == num_classes:
        return (
            "The labels seem to count from 1, like those of TensorFlow models with a background "
            f"class ({num_classes + 1} classes): subtract 1 from each."
        )
    return "Check that the data and the model are of the same label space."
