"""Move normalization into the model: a copy of it that takes uint8 pixels of crops."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantlab.data.preprocess import LUMA, Pipeline
from quantlab.errors import ModelError
from quantlab.model import graph as g
from quantlab.model.large import array_of
from quantlab.model.model import InputSpec


def fold_preprocess(proto: onnx.ModelProto, spec: InputSpec, pipeline: Pipeline) -> onnx.ModelProto:
    """A model that takes uint8 RGB [n, height, width, 3] and normalizes by itself; a grey one makes
    luminance of it first.

    The mean stays a subtraction, because a Conv pads with zeros what is normalized already; the
    division by the standard deviation goes into the weights of a first Conv in fp32, and stays a
    division before any other operator. Raises ModelError for a model that takes pixels already.
    """
    if spec.dtype == "uint8":
        raise ModelError(
            "this model takes uint8 pixels and normalizes them by itself.",
            "Leave --fold-preprocess out.",
        )
    if pipeline.dtype != np.uint8:
        raise ModelError(
            "these inputs are ready: no normalization is left to fold.",
            "Leave --fold-preprocess out.",
        )
    folded = onnx.ModelProto()
    folded.CopyFrom(proto)
    graph, names = folded.graph, g.Names(g.tensor_names(folded.graph))

    def constant(part: str, value: g.Array) -> str:
        name = names.new(f"{spec.name}_{part}")
        g.set_initializer(graph, name, value)
        return name

    order = (0, 3, 1, 2) if spec.layout == "NCHW" else (0, 1, 2, 3)
    shape = (1, -1, 1, 1) if spec.layout == "NCHW" else (1, 1, 1, -1)
    values = pipeline.grey if spec.channels == 1 else (pipeline.mean, pipeline.std)
    mean, std = (np.array(v, np.float32).reshape(shape) for v in values)
    nodes: list[onnx.NodeProto] = []

    def node(op: str, reads: list[str], part: str, **attributes: Any) -> str:
        made = names.new(f"{spec.name}_{part}")
        nodes.append(helper.make_node(op, reads, [made], **attributes))
        return made

    made = pixels = names.new(f"{spec.name}_pixels")
    if spec.channels == 1:  # whole numbers below 2 ** 24, which float32 holds exactly
        luma = constant("luma", np.array(LUMA, np.float32).reshape(3, 1))
        half, unit = (np.array(v, np.float32) for v in (2**15, 2**16))
        weighed = node("MatMul", [node("Cast", [made], "real", to=TensorProto.FLOAT), luma], "sum")
        raised = node("Add", [weighed, constant("half", half)], "raised")
        made = node("Floor", [node("Div", [raised, constant("unit", unit)], "level")], "grey")
    made = node("Transpose", [made], "planes", perm=order)
    made = node("Cast", [made], "float", to=TensorProto.FLOAT)
    if pipeline.color == "BGR" and spec.channels == 3:
        swap = constant("order", np.array([2, 1, 0], np.int64))
        made = node("Gather", [made, swap], "ordered", axis=order.index(3))
    made = node("Sub", [made, constant("mean", mean)], "centred")
    first = g.consumers(graph)[spec.name]
    if len(first) != 1 or not _scaled(graph, first[0], spec, std):
        made = node("Div", [made, constant("std", std)], "normalized")
    g.rename_reads(graph, spec.name, made)
    g.set_nodes(graph, [*nodes, *graph.node])
    batch = spec.batch if spec.batch is not None else "batch"
    sizes = [batch, spec.height, spec.width, 3]
    value = helper.make_tensor_value_info(pixels, TensorProto.UINT8, sizes)
    others = [v for v in graph.input if v.name != spec.name]
    kept = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in others]
    del graph.input[:]
    graph.input.extend([value, *kept])
    return folded


def _scaled(
    graph: onnx.GraphProto, node: onnx.NodeProto, spec: InputSpec, std: NDArray[np.float32]
) -> bool:
    """Whether the node is a Conv whose weights now divide by ``std``."""
    weights = g.initializers(graph)
    tensor = weights.get(node.input[1]) if g.is_standard(node, "Conv") else None
    if tensor is None or spec.layout != "NCHW" or tensor.data_type != TensorProto.FLOAT:
        return False
    if len(g.consumers(graph)[node.input[1]]) > 1 or g.attribute(node, "group", 1) != 1:
        return False
    g.set_initializer(graph, node.input[1], array_of(tensor) / std)
    return True
