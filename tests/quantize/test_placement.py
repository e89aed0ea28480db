"""The minimum cut is the best of all choices."""

from __future__ import annotations

from itertools import pairwise, product
from math import inf

import numpy as np
import onnx
import pytest

from quantlab.quantize.placement import (
    PLACEMENT_KEY,
    Exchange,
    Operation,
    Placement,
    Region,
    fastest,
    front,
    predicted,
    read_placement,
    widest,
    write_placement,
)


def problem(rng: np.random.Generator) -> tuple[list[Operation], list[Exchange]]:
    """A graph of up to eight operators, some of which cannot be in int8, nor some tensors."""
    count = int(rng.integers(1, 9))
    operations = [
        Operation(
            inf if rng.random() < 0.2 else float(rng.integers(0, 30)), float(rng.integers(30))
        )
        for _ in range(count)
    ]
    exchanges = [Exchange(None, (0,), float(rng.integers(9)), 0.0)]
    for i in range(count - 1):
        later = np.arange(i + 1, count)
        readers = rng.choice(later, size=min(len(later), int(rng.integers(1, 3))), replace=False)
        quantize = inf if rng.random() < 0.1 else float(rng.integers(12))
        ends = tuple(int(r) for r in readers)
        exchanges.append(Exchange(i, ends, quantize, float(rng.integers(12))))
    exchanges.append(Exchange(count - 1, (None,), 1.0, float(rng.integers(9))))
    return operations, exchanges


@pytest.mark.parametrize("seed", range(60))
def test_the_cut_takes_the_least_time_of_all_choices_and_int8_where_two_are_as_fast(
    seed: int,
) -> None:
    operations, exchanges = problem(np.random.default_rng(seed))
    every = product([False, True], repeat=len(operations))
    best = min((predicted(operations, exchanges, c), -sum(c)) for c in every)
    found = fastest(operations, exchanges)
    assert (predicted(operations, exchanges, found), -sum(found)) == best


@pytest.mark.parametrize("seed", range(20))
def test_the_widest_choice_has_the_most_operators_of_all_that_can_be(seed: int) -> None:
    operations, exchanges = problem(np.random.default_rng(seed))
    every = product([False, True], repeat=len(operations))
    most = max(sum(c) for c in every if predicted(operations, exchanges, c) < inf)
    found = widest(operations, exchanges)
    assert sum(found) == most
    assert predicted(operations, exchanges, found) < inf


def test_fractions_of_a_microsecond_and_hours_are_told_apart() -> None:
    assert fastest([Operation(0.25, 0.5)], []) == (True,)
    assert fastest([Operation(0.5, 0.25)], []) == (False,)
    assert fastest([Operation(4e9, 4.1e9), Operation(5e9, 4.9e9)], []) == (True, False)


def test_two_readers_of_one_tensor_pay_one_conversion() -> None:
    operations = [Operation(1.0, 9.0), Operation(inf, 1.0), Operation(inf, 1.0)]
    both = Exchange(0, (1, 2), 0.0, 5.0)
    assert predicted(operations, [both], [True, False, False]) == 8.0
    assert fastest(operations, [both]) == (True, False, False)
    apart = [Exchange(0, (1,), 0.0, 5.0), Exchange(0, (2,), 0.0, 5.0)]
    assert fastest(operations, apart) == (False, False, False)


def test_a_placement_is_kept_in_the_metadata_and_what_is_none_is_no_error() -> None:
    region = Region(layers=("a", "b"), slower=12.5)
    placement = Placement(regions=(region,), placed=90.0, widest=102.5, fp32=130.0)
    proto = onnx.ModelProto()
    write_placement(proto, placement)
    metadata = {p.key: p.value for p in proto.metadata_props}
    assert read_placement(metadata) == placement
    assert placement.left == {"a": 12.5, "b": 12.5}
    assert read_placement({}) is None
    assert read_placement({PLACEMENT_KEY: "{"}) is None


@pytest.mark.parametrize("seed", range(40))
def test_the_front_is_the_lower_hull_of_all_choices(seed: int) -> None:
    """Each is the best of all choices at some weight, none that is the best at a weight is missing,
    and from one to the next operators only leave int8."""
    rng = np.random.default_rng(seed)
    operations, exchanges = problem(rng)
    errors = [float(rng.integers(0, 20)) / 1000 for _ in operations]
    found = front(operations, exchanges, errors)

    def figures(int8: tuple[bool, ...]) -> tuple[float, float]:
        error = sum(e for e, now in zip(errors, int8, strict=True) if now)
        return predicted(operations, exchanges, int8), error

    every = [figures(c) for c in product([False, True], repeat=len(operations))]
    for weight in (*np.geomspace(1, 1e6, 200), 0.0):
        least = min(time + weight * error for time, error in every)
        assert min(c.time + weight * c.error for c in found) == pytest.approx(least, rel=1e-5)
    weights = [(b.time - a.time) / (a.error - b.error) for a, b in pairwise(found)]
    assert weights == sorted(weights)
    for first, second in pairwise(found):
        assert set(np.flatnonzero(second.int8)) < set(np.flatnonzero(first.int8))
    assert [(c.time, c.error) for c in found] == [figures(c.int8) for c in found]
    assert found[-1].error == 0


def test_errors_of_all_sizes_are_traded() -> None:
    """A weight at which the least error counts is beyond what the largest is worth."""
    operations = [Operation(1.0, 2.0)] * 4
    found = front(operations, [], [1e-9, 1e-5, 0.1, 10.0])
    assert [sum(c.int8) for c in found] == [4, 3, 2, 1, 0]


def test_without_any_error_the_front_is_the_fastest_choice() -> None:
    operations, exchanges = problem(np.random.default_rng(0))
    (found,) = front(operations, exchanges, [0.0] * len(operations))
    assert found.int8 == fastest(operations, exchanges)
