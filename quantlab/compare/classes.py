"""Find the classes whose accuracy fell or rose, with p-values corrected for their number. Pure.

With a thousand classes some seem to fall by chance. Each class is tested by itself, exactly because
it has few images, and Benjamini and Hochberg's procedure keeps the share of wrong ones among those
that are named to at most ``q``.
"""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.compare.comparison import ClassChange
from quantlab.stats.paired import CONFIDENCE, benjamini_hochberg, few_difference_p, mcnemar_exact

FALSE_DISCOVERIES = 1 - CONFIDENCE
"""The share of wrong ones among the classes that are said to have changed."""


def classes_exceeding(
    classes: Sequence[ClassChange], limit: float
) -> tuple[tuple[ClassChange, float], ...]:
    """Every class with the adjusted p of "it declines by at most ``limit``", the surest first.

    ``limit`` is a fraction of the class's images.
    """
    p = [few_difference_p(c.lost, c.gained, c.n, limit) for c in classes]
    return _sorted(classes, benjamini_hochberg(p))


def changed(classes: Sequence[ClassChange]) -> tuple[ClassChange, ...]:
    """The classes whose accuracy changed significantly, by McNemar's exact test, lowest p first."""
    p = [mcnemar_exact(c.lost, c.gained) for c in classes]
    found = _sorted(classes, benjamini_hochberg(p))
    return tuple(c for c, adjusted in found if adjusted <= FALSE_DISCOVERIES)


def _sorted(
    classes: Sequence[ClassChange], adjusted: Sequence[float]
) -> tuple[tuple[ClassChange, float], ...]:
    pairs = zip(classes, adjusted, strict=True)
    return tuple(sorted(pairs, key=lambda pair: (pair[1], -abs(pair[0].net_loss), pair[0].index)))
