from __future__ import annotations

import pytest

from quantlab.bench.measurement import Conditions
from quantlab.bench.throughput import Throughput

CONDITIONS = Conditions(threads=1, batch_size=4, rounds=2, runs=0)
MADE = Throughput("m", "ab", 1, 2, (((10.0, 10.0), (20.0,)), ((5.0, 5.0), (5.0,))), CONDITIONS)


def test_rates_of_instances_add_up() -> None:
    assert MADE.rates.tolist() == [400 + 200, 800 + 800]
    assert MADE.images_per_second == 1100


def test_percentiles_of_all_and_of_each_instance() -> None:
    assert MADE.percentile(50) == 7.5
    assert MADE.of_instances(50) == (7.5, 12.5)
    assert MADE.of_instances(100) == pytest.approx((10.0, 20.0))
