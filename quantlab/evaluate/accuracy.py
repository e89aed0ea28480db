"""One model's accuracy: top-1 and top-5 with Wilson's intervals, and whether it can be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.evaluate.metrics import hits
from quantlab.stats.paired import Share, clopper_pearson, wilson

USEFUL = 0.2
"""A classifier that is of use comes this far from guessing to being always right."""


class Accuracy(BaseModel):
    """Top-1 and top-5 as shares of all images. Without top-5 where five answers are not known.

    Examples:
        >>> from quantlab.testing import fake_predictions
        >>> found = fake_predictions(200, 10, 0, seed=0).accuracy
        >>> found.top1.count, found.top1.n, round(found.top1.interval.low, 3)
        (153, 200, 0.702)
    """

    model_config = ConfigDict(frozen=True)

    top1: Share
    top5: Share | None


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
    return share_of(int(right.sum()), len(right))


def share_of(count: int, n: int) -> Share:
    """A count of images as a share of all ``n`` with Wilson's interval."""
    return Share(count=count, n=n, value=count / n, interval=wilson(count, n))


def useful_share(classes: int) -> float:
    """The least accuracy of a classifier that is of use: 60% of two classes, 20% of a thousand."""
    return 1 / classes + USEFUL * (1 - 1 / classes)


def is_implausible(top1: Share, classes: int) -> bool:
    """Whether the accuracy is so low that the labels or the preprocessing seem wrong: below that of
    a classifier of use, and surely below halfway from there to 100%, which 0 of 4 images is not."""
    useful = useful_share(classes)
    return top1.value < useful and clopper_pearson(top1.count, top1.n).high < (1 + useful) / 2


def is_guessing(top1: Share, classes: int) -> bool:
    """Whether a model is no better than guessing: not surely above 1 / ``classes`` (the exact
    binomial test), and surely (at 2.5%) no classifier of use, which a few images do not show."""
    useful = useful_share(classes)
    if top1.value >= useful:
        return False
    exact = clopper_pearson(top1.count, top1.n)
    return exact.low <= 1 / classes and exact.high < useful
