from __future__ import annotations

import numpy as np
import pytest

from quantlab.data.labels import check_labels
from quantlab.errors import DataError


def test_labels_in_range_pass() -> None:
    check_labels(np.array([0, 9]), 10)
    check_labels(np.array([], np.int64), 10)


def test_the_first_offenders_are_named() -> None:
    with pytest.raises(DataError) as caught:
        check_labels(np.array([3, 12, 40, 11, 10]), 10, ["a", "b", "c", "d", "e"])
    assert caught.value.problem == (
        "Labels out of range: the model has the labels 0 to 9, the data 3 to 40: 4 of 5 do not fit "
        "(b has 12, c has 40, d has 11)."
    )
    assert "same label space" in caught.value.remedy


def test_labels_that_count_from_one() -> None:
    with pytest.raises(DataError, match=r"count from 1.*1001 classes.*subtract 1"):
        check_labels(np.arange(1, 1001), 1000)


def test_negative_labels() -> None:
    with pytest.raises(DataError, match=r"image 1 has -1.*\n.*take these images out"):
        check_labels(np.array([0, -1]), 10)
