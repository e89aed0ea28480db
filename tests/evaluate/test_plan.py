"""Which plans are tried, and in which order."""

from __future__ import annotations

import pytest

from quantlab.evaluate.plan import ParallelPlan, fastest, next_plan, splits


@pytest.mark.parametrize(
    ("cores", "expected"),
    [
        (1, ((1, 1),)),
        (2, ((2, 1),)),
        (4, ((4, 1), (2, 2), (1, 4))),
        (16, ((16, 1), (4, 4), (1, 16))),
        (64, ((16, 4), (1, 64))),
    ],
)
def test_splits_fill_the_cores(cores: int, expected: tuple[tuple[int, int], ...]) -> None:
    assert splits(cores) == expected


@pytest.mark.parametrize("cores", range(1, 200))
def test_splits_never_take_more_than_there_are(cores: int) -> None:
    assert all(1 <= workers * threads <= cores for workers, threads in splits(cores))
    assert max(workers for workers, _ in splits(cores)) <= 16


def test_every_batch_then_the_other_splits_with_the_best_batch() -> None:
    rates: dict[ParallelPlan, float] = {}
    speed = {1: 10.0, 4: 30.0, 8: 20.0}
    tried = []
    while (plan := next_plan(rates, ((2, 1), (1, 2)), (4, 1, 8))) is not None:
        tried.append(plan)
        rates[plan] = speed[plan.batch] * plan.workers
    assert tried == [
        ParallelPlan(2, 1, 4),
        ParallelPlan(2, 1, 1),
        ParallelPlan(2, 1, 8),
        ParallelPlan(1, 2, 4),
    ]
    assert fastest(rates) == ParallelPlan(2, 1, 4)
    assert str(fastest(rates)) == "2 x 1 threads, batch 4"


def test_a_later_plan_must_be_clearly_faster() -> None:
    usual, other = ParallelPlan(2, 1, 4), ParallelPlan(2, 1, 8)
    assert fastest({usual: 100.0, other: 109.0}) == usual
    assert fastest({usual: 100.0, other: 111.0}) == other
    assert fastest({usual: 0.0, other: 1.0}) == other
