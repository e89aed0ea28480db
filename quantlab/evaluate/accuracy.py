"""One model's accuracy: top-1 and top-5 with Wilson's intervals."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from quantlab.comparison import Share
from quantlab.evaluate.metrics import hits
from quantlab.evaluate.predictions import Predictions
from quantlab.stats import wilson


class Accuracy(BaseModel):
    """Top-1 and top-5 as shares of all images."""

    model_config = ConfigDict(frozen=True)

    top1: Share
    top5: Share


def accuracy(predictions: Predictions) -> Accuracy | None:
    """The accuracy, or None for unlabelled images."""
    if predictions.labels is None:
        return None
    top = predictions.top(5)
    return Accuracy(
        top1=_share(int(hits(top[:, :1], predictions.labels).sum()), len(predictions)),
        top5=_share(int(hits(top, predictions.labels).sum()), len(predictions)),
    )


def _share(count: int, n: int) -> Share:
    return Share(count=count, n=n, value=count / n, interval=wilson(count, n))
