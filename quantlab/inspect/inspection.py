"""Inspection: all that a model file shows without running it on images."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from quantlab.inspect.counts import count_macs, count_parameters
from quantlab.inspect.kernels import Kernel, executed_graph, list_kernels
from quantlab.inspect.levels import LevelDifference
from quantlab.inspect.scales import QuantizedTensor, list_quantized_tensors
from quantlab.model.model import Model, TensorInfo
from quantlab.runtime.session import Optimization


class Inspection(BaseModel):
    """The result of ``quantlab inspect``; ``model_dump(mode="json")`` is plain JSON.

    ``parameters`` and ``macs`` are counted as ``quantlab.inspect.counts`` says. ``kernels`` are the
    nodes that ONNX Runtime really runs, after its optimizations at level ``optimization``.
    ``levels`` is whether those change a quantized model's answers, None where that was not tried.

    Examples:
        >>> from quantlab import inspect
        >>> from quantlab.testing import example_model
        >>> inspect(example_model()).op_census["Conv"]
        3
    """

    model_config = ConfigDict(frozen=True)

    name: str
    sha256: str
    size_bytes: int
    ir_version: int
    opset: int
    producer: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    layout: str
    judged: TensorInfo
    output_kind: str
    num_classes: int
    is_quantized: bool
    op_census: dict[str, int]
    parameters: int
    macs: int
    optimization: str
    executed_census: dict[str, int]
    kernels: tuple[Kernel, ...]
    quantized_tensors: tuple[QuantizedTensor, ...]
    levels: LevelDifference | None = None

    def of_kind(self, kind: str) -> tuple[Kernel, ...]:
        """The executed nodes of one kind: "int8", "fp32", "quantize" or "move"."""
        return tuple(k for k in self.kernels if k.kind == kind)


def inspect_model(
    model: Model,
    *,
    optimization: Optimization = "all",
) -> Inspection:
    """Looks into a classifier. Raises ModelError when it is none, or ONNX Runtime refuses it."""
    model.check_classifier()
    proto = model.proto()
    executed = executed_graph(model.runnable, optimization=optimization)
    kernels = list_kernels(executed.graph, quantized=model.is_quantized, optimization=optimization)
    census: dict[str, int] = {}
    for kernel in kernels:
        census[kernel.op_type] = census.get(kernel.op_type, 0) + 1
    return Inspection(
        name=model.name,
        sha256=model.sha256,
        size_bytes=model.size_bytes,
        ir_version=proto.ir_version,
        opset=model.opset,
        producer=f"{proto.producer_name} {proto.producer_version}".strip(),
        inputs=model.inputs,
        outputs=model.outputs,
        layout=model.input.layout,
        judged=model.judged,
        output_kind=model.output_kind,
        num_classes=model.num_classes,
        is_quantized=model.is_quantized,
        op_census=model.op_census,
        parameters=count_parameters(proto.graph),
        macs=count_macs(proto, model.input),
        optimization=optimization,
        executed_census=dict(sorted(census.items(), key=lambda item: -item[1])),
        kernels=kernels,
        quantized_tensors=list_quantized_tensors(proto.graph),
    )
