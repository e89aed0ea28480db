"""The one thing of EfficientNet-lite that is easily got wrong. The rest: test_published.py."""

from __future__ import annotations

import math

import pytest

from quantlab.fetch.builders.efficientnet_lite import same_pads


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [14, 112, 224])
def test_same_padding_is_tensorflows(kernel: int, stride: int, size: int) -> None:
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    assert same_pads(kernel, stride) == (total // 2, total - total // 2)
