"""The table of costs is fitted to times."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from quantlab.quantize.costs import Cost, Work

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark, which lies in no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import costs

    yield costs
    sys.modules.pop("costs")


def test_known_costs_are_found_again(costs: ModuleType) -> None:
    rng = np.random.default_rng(0)
    true = Cost(start=2.0, position=1.5, read=0.0, write=0.25, mac=0.002)
    works = [Work("dense", *(int(n) for n in rng.integers(1, 10**6, 4))) for _ in range(40)]
    found, error = costs.fitted([(work, true.of(work)) for work in works])
    assert error < 1e-6
    for work in works:
        assert found.of(work) == pytest.approx(true.of(work), rel=1e-3)


def test_what_a_fused_activation_adds_is_what_the_convolution_alone_does_not_take(
    costs: ModuleType,
) -> None:
    alone, each = Cost(start=2.0, mac=0.002), 0.16
    works = [Work("dense", 10, 10, 1000 * n, 10**6 * n) for n in range(1, 20)]
    rows = {
        ("fused hardswish dense", "fp32"): [
            (w, alone.of(w) + each * w.writes / 1000) for w in works
        ]
    }
    assert costs.activations(rows, {"dense": {"fp32": alone}}).write == pytest.approx(each)


def test_each_operator_of_a_network_is_timed_in_int8_and_in_fp32(costs: ModuleType) -> None:
    rows: dict[tuple[str, str], list[Any]] = defaultdict(list)
    costs.collect(costs.mobile(8, 8, 2, 3, "hswish", True), 1, rows)
    assert {how for _, how in rows} == {"int8", "fp32", "convert"}
    assert all(time > 0 for found in rows.values() for _, time in found)
    assert {"pointwise", "depthwise", "elementwise"} <= {
        kind for kind, how in rows if how == "int8"
    }
