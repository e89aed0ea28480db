from __future__ import annotations

import numpy as np
import pytest

from quantlab.testing.predictions import fake_predictions


def test_two_models_on_the_same_images() -> None:
    fp32, int8 = fake_predictions(5000, 20, 0, 3), fake_predictions(5000, 20, 0.1, 3)
    assert fp32.digests == int8.digests
    np.testing.assert_array_equal(fp32.labels, int8.labels)
    differ = float((fp32.top(1) != int8.top(1)).mean())
    assert differ == pytest.approx(0.1, abs=0.02)
    right = float((fp32.top(1)[:, 0] == fp32.labels).mean())
    assert right == pytest.approx(0.81, abs=0.02)


def test_unlabelled() -> None:
    assert fake_predictions(5, 3, 0, 0, labelled=False).labels is None
