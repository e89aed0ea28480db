"""Conditions: who may compute the same bits."""

from __future__ import annotations

import pytest

from quantlab._util.source import source_digest
from quantlab.cluster.conditions import at_worker, check_alike, conditions
from quantlab.errors import ClusterError
from quantlab.runtime.environment import environment


def test_what_decides_the_bits_is_among_them() -> None:
    found = conditions()
    assert found["CPU instructions"] == environment()["isa"]
    assert found["onnxruntime"] == environment()["onnxruntime"]
    assert source_digest()[:12] in found["quantlab"]


def test_another_host_is_no_difference() -> None:
    check_alike(conditions(), {**conditions(), "host": "elsewhere"})


def test_a_worker_that_differs_is_refused_and_named() -> None:
    there = {**conditions(), "host": "node7", "onnxruntime": "1.2.3", "CPU instructions": "avx2"}
    with pytest.raises(ClusterError) as found:
        check_alike(conditions(), there)
    assert "on node7" in found.value.problem
    assert "onnxruntime 1.2.3 there" in found.value.problem
    assert "CPU instructions avx2 there" in found.value.problem
    assert "numpy" not in found.value.problem


def test_a_worker_looks_before_it_computes() -> None:
    assert at_worker(conditions(), divmod, 7, 2) == (3, 1)
    with pytest.raises(ClusterError, match=r"and 0\.0 here"):
        at_worker({**conditions(), "quantlab": "0.0"}, divmod, 7, 2)
