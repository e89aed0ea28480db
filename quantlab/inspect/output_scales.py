"""Every operator's output scale and zero point, as Caffe2's int8 nets label them."""

from __future__ import annotations

import onnx
from onnx import TensorProto
from pydantic import BaseModel, ConfigDict

from quantlab.inspect.kernels import tensor_types
from quantlab.inspect.scales import QuantizedTensor, list_quantized_tensors
from quantlab.model import graph as g
from quantlab.quantize.operators import operators

_KEEP_SCALE = (*operators("moves"), "Identity")
_VALUES = {
    TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16,
    TensorProto.UINT16,
}  # fmt: skip


class OperatorScale(BaseModel):
    """One operator's output: real value = (integer − Y_zero_point) · Y_scale.

    ``type`` is that of the integers; it and both labels are None where the output stays in floating
    point.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    operator: str
    output: str
    type: str | None
    Y_scale: float | None
    Y_zero_point: int | None


def list_operators(graph: onnx.GraphProto) -> tuple[OperatorScale, ...]:
    """All operators in the graph's order, QOperator and QDQ alike.

    In QDQ the QuantizeLinear after an operator labels it. QuantizeLinear has a row of its own for
    the graph's inputs only; DequantizeLinear, and what works on shapes, has none.
    """
    known = {t.name: t for t in list_quantized_tensors(graph) if t.role == "activation"}
    weights, types, readers = g.initializers(graph), tensor_types(graph), g.consumers(graph)
    inputs = {v.name for v in graph.input} - set(weights)
    rows = []
    for node in graph.node:
        made = node.output[0]
        moved = node.op_type in _KEEP_SCALE and types.get(made) != TensorProto.FLOAT
        if moved and node.input[0] in known:
            known.setdefault(made, known[node.input[0]])
        if _has_row(node, inputs) and types.get(made) in _VALUES:
            after = [r.output[0] for r in readers.get(made, []) if r.op_type == "QuantizeLinear"]
            label = next((known[name] for name in (made, *after) if name in known), None)
            rows.append(_row(node, label))
    return tuple(rows)


def _has_row(node: onnx.NodeProto, inputs: set[str]) -> bool:
    if node.op_type == "QuantizeLinear":
        return node.input[0] in inputs
    return node.op_type not in ("DequantizeLinear", "Constant")


def _row(node: onnx.NodeProto, label: QuantizedTensor | None) -> OperatorScale:
    return OperatorScale(
        name=node.name or node.output[0],
        operator=node.op_type,
        output=node.output[0],
        type=label.dtype if label else None,
        Y_scale=label.scale_min if label else None,
        Y_zero_point=label.zero_point_min if label else None,
    )
