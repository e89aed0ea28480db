from __future__ import annotations

from quantlab.bench.task import BenchTask, TimedModel

TASK = BenchTask(
    models=(TimedModel("m.onnx", "input", "uint8", (8, 8, 3)),),
    threads=1,
    cpus=(0,),
    seed=7,
    providers=("CPUExecutionProvider",),
)


def test_a_task_survives_json() -> None:
    assert BenchTask.from_json(TASK.to_json()) == TASK
    assert "\n" not in TASK.to_json()
