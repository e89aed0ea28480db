"""Sequential tests: stop as soon as a limit is surely kept or surely broken. Pure.

Bets against "the limit is kept" and against "the limit is broken" are laid on every image; whoever
could multiply a stake by 1 / alpha has shown the opposite (Waudby-Smith & Ramdas, "Estimating means
of bounded random variables by betting", JRSS-B 2023). That holds whenever one looks and wherever
one stops: each of the two errors has a probability of at most alpha. The stake is split evenly over
a fixed ladder of bet sizes, which is a bet itself, so that nothing has to be known of the models.

The images must come in random order. Without ``total`` they are draws from an endless population,
and a test near the limit may never decide. With it they are all the images there are, drawn without
replacement: the question is then what the evaluation of all of them would say, and it is decided at
the last image for certain.

``early_stop`` tests one model against fp32's known answers on all images, for the tuner. ``watch``
tests two models side by side about an endless population, as the verdict of ``compare`` is; its
intervals are ``quantlab.stats.paired.anytime``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import DataError, RecipeError
from quantlab.evaluate.metrics import hits, top_k
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criterion import Criterion, Stopping
from quantlab.stats.anytime import (
    BETS,
    BOLDEST,
    SMALLEST_REACH,
    Decision,
    Floats,
    Kind,
    bet_sizes,
    decision,
)

__all__ = [
    "AgreementSequential",
    "Decision",
    "EarlyStop",
    "PairedSequential",
    "SequentialMean",
    "Watch",
    "early_stop",
    "watch",
]

Bools = NDArray[np.bool_]

_ROUNDING = 1e-9


class SequentialMean:
    """Whether the mean of numbers within ``low <= 0 <= high`` is at most 0 (pass) or not (fail).

    ``seen`` counts the numbers so far; once there is a ``decision`` it stays.
    """

    def __init__(
        self, low: float, high: float, *, alpha: float = 0.05, total: int | None = None
    ) -> None:
        self.seen = 0
        self.total = total
        self.decision: Decision | None = None
        self._low, self._high = low, high
        self._sum = 0.0
        self._above, self._below = _Bets(-low), _Bets(high)
        self._enough = math.log(1 / alpha)

    def update(self, values: Floats) -> Decision | None:
        """Take more numbers; the decision, if there is one by now."""
        if self.total is not None and self.seen + len(values) > self.total:
            raise ValueError(f"more than the {self.total} announced images")
        if self.decision is None and len(values):
            sums = self._sum + np.cumsum(values)
            expected = self._expected(sums - values)
            fails = self._above.update(values, expected) >= self._enough
            passes = self._below.update(-values, -expected) >= self._enough
            if self.total is not None:
                left = self.total - self.seen - np.arange(1, len(values) + 1)
                fails |= sums + self._low * left > _ROUNDING
                passes |= sums + self._high * left <= _ROUNDING
            self._sum = float(sums[-1])
            self.decision = _first(fails, passes)
        self.seen += len(values)
        return self.decision

    def _expected(self, sums: Floats) -> Floats:
        """The mean of the images left before each draw, were the mean of all 0."""
        if self.total is None:
            return np.zeros(len(sums))
        return -sums / (self.total - self.seen - np.arange(len(sums)))


def _first(fails: Bools, passes: Bools) -> Decision | None:
    if not (fails | passes).any():
        return None
    return "fail" if fails[int((fails | passes).argmax())] else "pass"


class _Bets:
    """Bets that numbers, none below ``-reach``, come out above what is expected of them."""

    def __init__(self, reach: float) -> None:
        self.reach = max(reach, SMALLEST_REACH)
        self.sizes = bet_sizes(reach)
        self.log_stakes = np.full(BETS, -math.log(BETS))

    def update(self, values: Floats, expected: Floats) -> Floats:
        """The logarithm of what the stake has become after each of ``values`` [k]."""
        room = np.maximum(expected + self.reach, _ROUNDING)
        sizes = np.minimum(self.sizes, BOLDEST / room[:, None])
        gains = np.log1p(sizes * (values - expected)[:, None])
        stakes = self.log_stakes + np.cumsum(gains, axis=0)
        self.log_stakes = stakes[-1]
        return np.asarray(np.logaddexp.reduce(stakes, axis=1), np.float64)


class PairedSequential:
    """Whether int8's accuracy declines by at most ``limit``, of fp32's accuracy or of all images.

    It judges (1 - limit) * fp32_right - int8_right, whose mean is at most 0 just when a relative
    limit is kept, or fp32_right - int8_right - limit for an absolute one.
    """

    def __init__(
        self, limit: float, kind: Kind, alpha: float = 0.05, *, total: int | None = None
    ) -> None:
        self.limit, self.kind = limit, kind
        low = -1.0 if kind == "relative" else -1 - limit
        self.mean = SequentialMean(low, 1 - limit, alpha=alpha, total=total)

    def update(self, fp32_right: Bools, int8_right: Bools) -> Decision | None:
        """Take the next images [k]: which of them each model gets right."""
        first, second = np.asarray(fp32_right, np.float64), np.asarray(int8_right, np.float64)
        if self.kind == "relative":
            return self.mean.update((1 - self.limit) * first - second)
        return self.mean.update(first - second - self.limit)


class AgreementSequential:
    """Whether int8 gives fp32's first answer on at least the share ``least`` of the images."""

    def __init__(self, least: float, alpha: float = 0.05, *, total: int | None = None) -> None:
        self.least = least
        self.mean = SequentialMean(least - 1, least, alpha=alpha, total=total)

    def update(self, same: Bools) -> Decision | None:
        """Take the next images [k]: on which of them the answers are the same."""
        return self.mean.update(self.least - np.asarray(same, np.float64))


class Watch:
    """Counts two models' answers as they come: ``decision`` once the criterion, its tolerance
    included, is surely kept or surely broken by all that was seen so far.

    The images are draws from an endless population, and the interval that
    ``judge(..., anytime=True)`` gives of the same images lies on that side of the limit.
    """

    def __init__(self, criterion: Criterion, stopping: Stopping) -> None:
        self._limit = criterion.limit + criterion.tolerance
        self._k, self._values = stopping.depth, stopping.values
        self._counts = np.zeros(2 if self._k is None else 4)
        self.decision: Decision | None = None

    def update(
        self,
        fp32: NDArray[np.float32],
        int8: NDArray[np.float32],
        labels: NDArray[np.int64] | None,
    ) -> Decision | None:
        """Take both models' outputs [n, classes] on the next images and their labels [n], which an
        agreement does without. Raises DataError where labels are missing."""
        if self._k is None:
            outcomes = ~_agree(top_k(fp32, 1)[:, 0], int8)
        elif labels is None:
            raise DataError(
                "an evaluation cannot be stopped early by accuracy: the images have no labels.",
                "Give labels (docs/data.md), or --criterion 'agreement >= 96%', which needs none.",
            )
        else:
            first, second = (hits(top_k(outputs, self._k), labels) for outputs in (fp32, int8))
            outcomes = np.where(first, ~second, 3 - second.astype(int))
        self._counts += np.bincount(outcomes, minlength=len(self._counts))
        if self._k is None or self._counts[:2].any():
            self.decision = decision(self._counts, self._values, self._limit)
        return self.decision


def watch(criterion: Criterion) -> Watch:
    """The criterion's Watch. Raises RecipeError where there is no sequential test."""
    if (stopping := criterion.stopping) is not None:
        return Watch(criterion, stopping)
    raise RecipeError(
        f"the {criterion.title} cannot stop an evaluation early: there is no sequential test for "
        "it.",
        "Leave --early-stop out, or judge by top-1, top-5 or 'agreement >= 96%'.",
    )


Update = Callable[[NDArray[np.int64], NDArray[np.float32]], Decision | None]


class EarlyStop:
    """A ``stop`` for ``collect``: true once the criterion is decided in a way of ``on``."""

    def __init__(self, update: Update, on: Collection[Decision]) -> None:
        self.decision: Decision | None = None
        self._update, self._on = update, on

    def __call__(self, indices: NDArray[np.int64], outputs: NDArray[np.float32]) -> bool:
        self.decision = self._update(indices, outputs)
        return self.decision in self._on


def early_stop(
    criterion: Criterion,
    fp32: Predictions,
    *,
    alpha: float = 0.05,
    total: int | None = None,
    on: Collection[Decision] = ("pass", "fail"),
) -> EarlyStop | None:
    """The sequential test of the criterion, its tolerance included, against fp32's predictions on
    the same images. None where there is none: for the KL, a user's metric, or without labels."""
    limit, stopping = criterion.limit + criterion.tolerance, criterion.stopping
    if stopping is None:
        return None
    if stopping.depth is None:
        same = AgreementSequential(max(0.0, 1 - limit), alpha, total=total)
        answers = fp32.top(1)[:, 0]
        return EarlyStop(lambda i, out: same.update(_agree(answers[i], out)), on)
    if fp32.labels is None:
        return None
    k, labels = stopping.depth, fp32.labels
    right = hits(fp32.top(k), labels)
    paired = PairedSequential(limit, stopping.kind, alpha, total=total)
    return EarlyStop(lambda i, out: paired.update(right[i], hits(top_k(out, k), labels[i])), on)


def _agree(answers: NDArray[np.int64], outputs: NDArray[np.float32]) -> Bools:
    return np.asarray((top_k(outputs, 1)[:, 0] == answers) & (answers >= 0), np.bool_)
