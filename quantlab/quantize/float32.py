"""Compute in float32 what a model computes in float16 or bfloat16."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, shape_inference

from quantlab.model import graph as g
from quantlab.model.large import array_of, tensor_of

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_TYPE_ATTRIBUTES = ("to", "dtype")


def to_float32(proto: onnx.ModelProto) -> None:
    """In place: weights, Casts, what depends on them and the graph's inputs and outputs become
    float32, and Casts that then do nothing go."""
    if not any(True for _ in _halves(proto.graph)):
        return
    _convert(proto.graph)
    del proto.graph.value_info[:]
    _drop_casts(proto)


def _halves(graph: onnx.GraphProto) -> Iterator[object]:
    """Whatever in the graph is or makes float16."""
    yield from (t for t in graph.initializer if t.data_type in _HALVES)
    for node in graph.node:
        for found in node.attribute:
            if found.name in _TYPE_ATTRIBUTES and found.i in _HALVES:
                yield found
            if found.HasField("t") and found.t.data_type in _HALVES:
                yield found
        for inner in g.subgraphs(node):
            yield from _halves(inner)


def _convert(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _convert_tensor(tensor)
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in _HALVES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for found in node.attribute:
            if found.name in _TYPE_ATTRIBUTES and found.i in _HALVES:
                found.i = TensorProto.FLOAT
            if found.HasField("t"):
                _convert_tensor(found.t)
        for inner in g.subgraphs(node):
            _convert(inner)


def _convert_tensor(tensor: onnx.TensorProto) -> None:
    if tensor.data_type in _HALVES:
        tensor.CopyFrom(tensor_of(array_of(tensor).astype(np.float32), tensor.name))


def _drop_casts(proto: onnx.ModelProto) -> None:
    """Make Casts to float32 of what is float32 an Identity, which preparation removes."""
    inferred = shape_inference.infer_shapes(proto).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    types |= {t.name: t.data_type for t in proto.graph.initializer}
    for node in proto.graph.node:
        same = types.get(node.input[0]) == TensorProto.FLOAT if node.input else False
        if g.is_standard(node, "Cast") and same and g.attribute(node, "to", 0) == TensorProto.FLOAT:
            node.op_type = "Identity"
            del node.attribute[:]
