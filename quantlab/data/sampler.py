"""Choose which images calibrate and which evaluate: pure functions of labels, digests and a
seed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.data.labels import check_labels
from quantlab.errors import DataError

Indices = NDArray[np.int64]

LEAST = 300
"""So many images calibrate by default, where there are so many: one image of each of a few classes
would not show what values a tensor takes."""

SPARE_FROM = 50
"""Of fewer images none is spared."""


@dataclass(frozen=True, eq=False)
class CalibrationSplit:
    """Sorted, disjoint indices into one dataset. No image content is in both parts."""

    calibration: Indices
    evaluation: Indices


def stratified(
    labels: NDArray[np.int64],
    num_classes: int,
    *,
    images_per_class: int = 1,
    size: int | None = None,
    seed: int = 0,
) -> Indices:
    """Sorted indices of a balanced random sample.

    Up to ``images_per_class`` of every class; or, when ``size`` is given, that many in all: each
    class gets its k-th image before any gets its (k+1)-th. The sample of a larger size contains
    that of a smaller one. Raises DataError for labels out of range.
    """
    check_labels(labels, num_classes)
    return _balanced(labels, _ranks(labels, seed), images_per_class, size, seed)


def default_size(classes: int, most: int, *, each: bool) -> int | None:
    """How many images calibrate when nothing is asked for: LEAST, or the ``most`` that may where
    these are fewer, and with ``each`` not fewer than one of each class; None for just one of each,
    where that makes LEAST."""
    if classes >= LEAST:
        return None
    return max(classes if each else 1, min(LEAST, most))


def sparing(count: int) -> int:
    """How many of ``count`` images a default sample may take where a few others are to check what
    was made of it: a tenth is left over of SPARE_FROM or more, and all that LEAST leaves over."""
    return count - count // 10 if SPARE_FROM <= count < LEAST else count


def random_sample(count: int, size: int, seed: int = 0) -> Indices:
    """Sorted indices of ``size`` of ``count`` unlabelled images, or of all when there are fewer."""
    return np.sort(np.random.default_rng(seed).permutation(count)[: _positive(size)])


def missing_classes(labels: NDArray[np.int64], num_classes: int) -> list[int]:
    """The classes without an image."""
    return sorted(set(range(num_classes)) - set(labels.tolist()))


def overlap(first: Iterable[str], second: Iterable[str]) -> set[str]:
    """The content digests in both; unreadable images (empty digests) are ignored."""
    return (set(first) & set(second)) - {""}


def split(
    labels: NDArray[np.int64] | None,
    digests: Sequence[str],
    *,
    images_per_class: int = 1,
    size: int | None = None,
    seed: int = 0,
) -> CalibrationSplit:
    """Split one dataset into calibration images and evaluation images.

    Calibration takes ``images_per_class`` (or ``size`` in all, balanced), but never more than half
    of a class; of the classes with a single image, half give it. Copies of a calibration image are
    left out of both. Without labels ``size`` is drawn, at most half. Raises DataError when there
    are not two different images.
    """
    unique = _first_of_each(digests)
    if unique.size < 2:
        raise DataError(
            "One image cannot both calibrate and judge.", "Give separate evaluation images."
        )
    if labels is None:
        wanted = min(size or unique.size, unique.size // 2)
        taken = unique[random_sample(unique.size, wanted, seed)]
    else:
        taken = unique[_half_of_each(labels[unique], images_per_class, size, seed)]
    used = {digests[i] for i in taken.tolist()} - {""}
    chosen = set(taken.tolist())
    rest = [i for i, digest in enumerate(digests) if i not in chosen and digest not in used]
    return CalibrationSplit(np.sort(taken), np.array(rest, np.int64))


def _first_of_each(digests: Sequence[str]) -> Indices:
    """The first index of each different content. Unreadable images count as different."""
    first: dict[str, int] = {}
    for index, digest in enumerate(digests):
        first.setdefault(digest or f"unreadable {index}", index)
    return np.array(list(first.values()), np.int64)


def _half_of_each(
    labels: NDArray[np.int64], images_per_class: int, size: int | None, seed: int
) -> Indices:
    ranks = _ranks(labels, seed)
    counts = np.unique_counts(labels)
    of_class = dict(zip(counts.values.tolist(), (counts.counts // 2).tolist(), strict=True))
    singles = np.sort(counts.values[counts.counts == 1])
    givers = np.random.default_rng(seed).permutation(singles)[: singles.size // 2]
    of_class.update(dict.fromkeys(givers.tolist(), 1))
    allowed = np.flatnonzero(ranks < np.array([of_class[c] for c in labels.tolist()]))
    return allowed[_balanced(labels[allowed], ranks[allowed], images_per_class, size, seed)]


def _ranks(labels: NDArray[np.int64], seed: int) -> Indices:
    """For every image its place in a random order of its class's images."""
    shuffled = np.random.default_rng(seed).permutation(labels.size)
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.searchsorted(labels[by_class], labels[by_class], side="left")
    ranks = np.empty(labels.size, np.int64)
    ranks[by_class] = np.arange(labels.size) - starts
    return ranks


def _balanced(
    labels: NDArray[np.int64], ranks: Indices, images_per_class: int, size: int | None, seed: int
) -> Indices:
    if size is None:
        return np.flatnonzero(ranks < _positive(images_per_class)).astype(np.int64)
    classes, of_image = np.unique(labels, return_inverse=True)
    turn = np.random.default_rng(seed).permutation(classes.size)
    order = np.lexsort((turn[of_image], ranks))
    return np.sort(order[: _positive(size)]).astype(np.int64)


def _positive(number: int) -> int:
    if number < 1:
        raise DataError(f"A sample of {number} images is none.", "Ask for one or more.")
    return number
