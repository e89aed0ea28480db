"""One model's accuracy: top-1 and top-5 with Wilson's intervals."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.comparison import Share
from quantlab.evaluate.metrics import hits
from quantlab.evaluate.predictions import Predictions
from quantlab.stats import wilson


class Accuracy(BaseModel):
    """Top-1 and top-5 as shares of all images. Without top-5 where five answers are not known.

    Example:
        >>> from quantlab.testing import fake_predictions
        >>> found = fake_predictions(200, 10, 0, seed=0).accuracy
        >>> found.top1.count, found.top1.n, round(found.top1.interval.low, 3)
        (153, 200, 0.702)
    """

    model_config = ConfigDict(frozen=True)

    top1: Share
    top5: Share | None


def accuracy(predictions: Predictions) -> Accuracy | None:
    """The accuracy, or None for unlabelled images."""
    if predictions.labels is None:
        return None
    return accuracy_of(predictions.top(5), predictions.labels)


def accuracy_of(
    top: NDArray[np.int64], labels: NDArray[np.int64], *, has_five: bool = True
) -> Accuracy:
    """The accuracy of the best classes ``top`` [n, k], the best first; n is at least 1.

    ``has_five``: five of them, or all classes there are, are known.
    """
    return Accuracy(
        top1=_share(hits(top[:, :1], labels)),
        top5=_share(hits(top[:, :5], labels)) if has_five else None,
    )


def _share(right: NDArray[np.bool_]) -> Share:
    count, n = int(right.sum()), len(right)
    return Share(count=count, n=n, value=count / n, interval=wilson(count, n))
