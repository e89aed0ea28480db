"""Where an int8 model's answers hold: on other CPUs, in the other runtime."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from quantlab._util.reporter import Reporter
from quantlab.cluster.execution import ShardedExecution
from quantlab.compare.compare import fidelity
from quantlab.compare.comparison import OtherCpus, OtherRuntime, Where
from quantlab.data.crops import Crops
from quantlab.errors import ModelError
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criterion import Criterion
from quantlab.model.kinds import ONNX_RUNTIME, RuntimeName
from quantlab.model.model import Model
from quantlab.runtime.environment import environment
from quantlab.runtime.openvino import import_openvino
from quantlab.runtime.providers import CPU
from quantlab.verbs.cached_results import remembered
from quantlab.verbs.evaluate import predict

CPU_IMAGES = 8
"""Images on which CPUs without VNNI are emulated: about a second for MobileNetV2."""


def where(
    int8: Model, crops: Crops, execution: ShardedExecution, other: OtherRuntime | None = None
) -> Where:
    """Where the model's answers on these crops hold."""
    facts = environment()
    elsewhere = int8.runtime == ONNX_RUNTIME and execution.providers != CPU
    return Where(
        runtime=int8.runtime,
        version=facts[int8.runtime],
        on=execution.providers[0] if elsewhere else facts["isa"],
        cpus=other_cpus(int8, crops),
        other_runtime=other,
    )


def other_cpus(int8: Model, crops: Crops) -> OtherCpus:
    """Emulate CPUs without VNNI on some of these images; not for OpenVINO IR."""
    if not int8.is_quantized:
        return OtherCpus(state="not quantized")
    if int8.is_ir:
        return OtherCpus(state="unknown")
    step = max(1, len(crops) // CPU_IMAGES)
    rows = slice(0, step * CPU_IMAGES, step)

    def emulated() -> Any:
        from quantlab.inspect.portability import check_portability

        try:
            found = check_portability(int8, [crops.inputs(rows, int8.input)]).outcome
        except ModelError:
            found = OtherCpus(state="unknown")
        return found.model_dump(mode="json")

    found = OtherCpus.model_validate(remembered("portability", (int8,), crops, rows, emulated))
    if found.state == "no pairs" and int8.runtime != ONNX_RUNTIME:
        return OtherCpus(state="unknown")  # only ONNX Runtime's layers without pairs are known
    return found


def in_other_runtime(int8: Model, *criteria: Criterion) -> Model | None:
    """The model as the other runtime runs it, where a criterion asks for its answers there. Raises
    MissingExtraError."""
    asking = [criterion.name for criterion in criteria if criterion.needs_other_runtime]
    if not asking:
        return None
    runtimes: tuple[RuntimeName, ...] = get_args(RuntimeName)
    other = next(runtime for runtime in runtimes if runtime != int8.runtime)
    if other != ONNX_RUNTIME:
        import_openvino(f"the rule {asking[0]}")
    return int8.with_overrides(runtime=other)


def other_answers(
    answers: Predictions,
    there: Model | None,
    crops: Crops,
    reporter: Reporter,
    execution: ShardedExecution,
    seed: int,
) -> OtherRuntime | None:
    """The model's answers beside those that it gives ``there``, in the other runtime."""
    if there is None:
        return None
    others = predict(there, crops, reporter, execution)
    finite = [np.isfinite(each.outputs).all(1) for each in (answers, others)]
    return OtherRuntime(
        runtime=there.runtime,
        version=environment()[there.runtime],
        fidelity=fidelity(answers, others, seed=seed),
        not_finite=int((finite[0] & ~finite[1]).sum()),
    )
