from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quantlab.inspect import levels
from quantlab.inspect.levels import LevelDifference, compare_levels, levels_line
from quantlab.testing import FakeRunner


def test_the_same_answers(twins: Any) -> None:
    pair = twins("ort", "qoperator")
    found = compare_levels(pair.int8, pair.images, "images")
    assert found.same
    assert (found.images, found.agreement) == (8, 1.0)
    assert levels_line(found) == (
        "optimization levels all and disabled give the same answers on 8 images"
    )


def test_other_answers(twins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = twins("ort", "qdq")
    answers = {
        "all": np.array([[1, 2], [3, 0]], np.float32),
        "disabled": np.array([[2, 1], [4, 0]], np.float32),
    }
    monkeypatch.setattr(
        levels,
        "Runner",
        lambda _, optimization: FakeRunner(lambda batch: answers[optimization]),
    )
    found = compare_levels(pair.int8, pair.images[:2], "images")
    assert (found.agreement, found.largest, found.scale) == (0.5, 1.0, 4.0)
    assert found.sqnr_db == pytest.approx(10 * np.log10(21 / 3))
    said = levels_line(found)
    assert "differ on 2 images" in said
    assert "agreement 50.0%" in said


def test_float_rounding_is_no_difference() -> None:
    found = LevelDifference(
        images=1, kind="images", agreement=1, largest=1e-5, scale=10, sqnr_db=120
    )
    assert found.same
