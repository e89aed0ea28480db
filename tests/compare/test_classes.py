"""Tests over all classes at once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control

from quantlab.compare.classes import changed, classes_exceeding
from quantlab.compare.comparison import ClassChange
from quantlab.stats.paired import few_difference_p


def change(index: int, n: int, lost: int, gained: int) -> ClassChange:
    right = n // 2
    return ClassChange(
        index=index,
        name="",
        n=n,
        fp32_right=right,
        int8_right=right - lost + gained,
        lost=lost,
        gained=gained,
    )


CLASSES = [change(0, 50, 0, 0), change(1, 50, 20, 1), change(2, 50, 1, 22), change(3, 50, 7, 3)]


def test_changed_is_mcnemar_with_benjamini_and_hochberg() -> None:
    p = [binomtest(c.lost, c.lost + c.gained).pvalue if c.lost else 1.0 for c in CLASSES]
    sure = np.flatnonzero(false_discovery_control(p) <= 0.05)
    assert {c.index for c in changed(CLASSES)} == set(sure.tolist()) == {1, 2}
    assert changed([]) == ()


def test_beyond_is_the_exact_test_with_the_surest_first() -> None:
    found = classes_exceeding(CLASSES, 0.1)
    raw = [few_difference_p(c.lost, c.gained, c.n, 0.1) for c in CLASSES]
    assert found[0][0].index == 1
    assert {c.index: p for c, p in found} == pytest.approx(
        dict(enumerate(false_discovery_control(raw)))
    )


def test_chance_alone_names_no_class() -> None:
    """A thousand classes of which none changes more often one way than the other."""
    rng, named = np.random.default_rng(0), 0
    for _ in range(40):
        counts = rng.multinomial(50, (0.8, 0.1, 0.1), 1000)
        classes = [change(i, 50, b, c) for i, (_, b, c) in enumerate(counts.tolist())]
        named += bool(changed(classes)) or classes_exceeding(classes, 0.05)[0][1] <= 0.025
    assert named <= 6
