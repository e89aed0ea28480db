"""Parameters and multiply-accumulates (MACs)."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import TensorProto, helper

from quantlab.model import graph as g
from quantlab.model.model import InputSpec
from quantlab.model.operands import operands
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.session import plain_errors

_WEIGHT_POSITION = {
    "Conv": 1,
    "FusedConv": 1,
    "ConvTranspose": 1,
    "ConvInteger": 1,
    "DynamicQuantizeMatMul": 1,
    "QLinearConv": 3,
    "Gemm": 1,
    "FusedGemm": 1,
    "FusedMatMul": 1,
    "MatMul": 1,
    "MatMulInteger": 1,
    "MatMulIntegerToFloat": 1,
    "QLinearMatMul": 3,
    "QGemm": 3,
}
_INT8 = (TensorProto.INT8, TensorProto.UINT8)
_LEARNED_TYPES = {
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.BFLOAT16,
    TensorProto.DOUBLE,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.INT4,
    TensorProto.UINT4,
}


def count_parameters(graph: onnx.GraphProto) -> int:
    """The elements of all weights, biases and other learned tensors, each counted once.

    Not counted: scales and zero points, single numbers (Clip bounds), int64 tensors (shapes, axes),
    arguments of Resize, and BatchNormalization's running mean and variance (which torch calls
    buffers, not parameters). torchvision's MobileNetV2 has 3,504,872 with batch norm; its ONNX
    files, with batch norm folded into biases, have 3,487,816.
    """
    names = {name for node in graph.node for name in _learned(node)}
    return sum(
        math.prod(t.dims)
        for t in graph.initializer
        if t.name in names and t.data_type in _LEARNED_TYPES and math.prod(t.dims) > 1
    )


def _learned(node: onnx.NodeProto) -> list[str]:
    if node.op_type in ("Resize", "Clip", "Constant"):
        return []
    if node.op_type == "BatchNormalization":
        return list(node.input[1:3])
    aside = {name for o in operands(node) for name in (o.scale, o.zero_point)}
    return [name for name in node.input if name and name not in aside]


def count_macs(proto: onnx.ModelProto, spec: InputSpec) -> int:
    """Multiply-accumulates for one image in Conv, Gemm and MatMul and their quantized forms.

    A convolution costs output elements × kernel elements × input channels / groups; a product of
    matrices output elements × inner length. Everything else (activations, additions, pooling,
    biases, quantization) counts nothing. Shapes come from running the model once on one image of
    zeros, since shape inference does not know ONNX Runtime's own operators. Raises ModelError when
    the model does not run.
    """
    return sum(node_macs(proto, spec).values()) // (spec.batch or 1)


def node_macs(proto: onnx.ModelProto, spec: InputSpec) -> dict[str, int]:
    """The same of every node that has any, for one batch, by the name of its first output. Raises
    ModelError."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    nodes = [n for n in copy.graph.node if n.op_type in _WEIGHT_POSITION]
    wanted = {name for n in nodes for name in (n.output[0], *_matrices(n))}
    shapes = _run_for_shapes(copy, spec, wanted)
    return {n.output[0]: _node_macs(n, shapes) for n in nodes}


def product_share(proto: onnx.ModelProto, spec: InputSpec) -> float:
    """The share of the MACs that MatMul and Gemm have, 0 to 1. Raises ModelError."""
    of = {n.output[0] for n in proto.graph.node if n.op_type in ("MatMul", "Gemm")}
    if not any(n.op_type == "MatMul" for n in proto.graph.node):
        return 0.0  # a classifier behind convolutions
    macs = node_macs(proto, spec)
    return sum(macs[name] for name in of) / max(sum(macs.values()), 1)


def _matrices(node: onnx.NodeProto) -> tuple[str, ...]:
    return (node.input[0], node.input[_WEIGHT_POSITION[node.op_type]])


def _run_for_shapes(
    proto: onnx.ModelProto, spec: InputSpec, wanted: set[str]
) -> dict[str, tuple[int, ...]]:
    """Shapes of the wanted tensors. ``proto`` gets more outputs."""
    given = {t.name: tuple(t.dims) for t in proto.graph.initializer}
    given[spec.name] = (spec.batch or 1, *spec.shape)
    made = {v.name for v in proto.graph.output}
    extra = sorted(wanted - set(given) - made)
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in extra)
    session = graph_session(proto, threads=1, optimization="disabled")
    names = [o.name for o in session.get_outputs()]
    with plain_errors("ONNX Runtime cannot run the model on an image of zeros"):
        values = session.run(None, {spec.name: np.zeros(given[spec.name], spec.dtype)})
    return given | {n: np.shape(v) for n, v in zip(names, values, strict=True)}


def _node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    data, weight = (shapes[name] for name in _matrices(node))
    made = math.prod(shapes[node.output[0]])
    if node.op_type == "ConvTranspose":
        return math.prod(data) * math.prod(weight[1:])
    if "Conv" in node.op_type:
        return made * math.prod(weight[1:])
    inner = data[-2] if g.attribute(node, "transA", 0) else data[-1]
    return made * inner
