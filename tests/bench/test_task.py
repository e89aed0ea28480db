from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quantlab.bench.task import Subject, Task, round_order, runs_per_round

TASK = Task(
    kind="latency",
    subjects=(Subject("m.onnx", "input", "uint8", (8, 8, 3)),),
    batch_sizes=(1, 4),
    rounds=3,
    runs=None,
    seconds=1.5,
    warmup=2,
    threads=1,
    cpus=(0,),
    seed=7,
    providers=("CPUExecutionProvider",),
    optimization="all",
)


def test_a_task_survives_json() -> None:
    assert Task.from_json(TASK.to_json()) == TASK


def test_the_order_is_reversed_every_other_round() -> None:
    assert [round_order(n, 3) for n in range(3)] == [(0, 1, 2), (2, 1, 0), (0, 1, 2)]


def test_runs_fill_the_time_given() -> None:
    assert runs_per_round([16.0, 16.0, 8.0], rounds=30, seconds=12) == 10


@given(
    st.lists(st.floats(0, 1e5), min_size=1, max_size=5),
    st.integers(1, 100),
    st.floats(0, 1000),
)
def test_runs_stay_within_bounds(medians: list[float], rounds: int, seconds: float) -> None:
    assert 3 <= runs_per_round(medians, rounds, seconds) <= 200
