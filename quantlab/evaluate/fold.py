"""Normalization inside the model: a copy of it that takes pixels as crops hold them."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantlab import graph as g
from quantlab.data.preprocess import Pipeline
from quantlab.errors import ModelError
from quantlab.large import array_of
from quantlab.model import InputSpec


def fold_preprocess(proto: onnx.ModelProto, spec: InputSpec, pipeline: Pipeline) -> onnx.ModelProto:
    """A model that takes uint8 RGB [n, height, width, 3] and normalizes by itself.

    The mean stays a subtraction, because a Conv pads with zeros what is normalized already; the
    division by the standard deviation goes into the weights of a first Conv in fp32, and stays a
    division before any other operator. Raises ModelError for a model that takes pixels already.
    """
    if spec.dtype == "uint8":
        raise ModelError(
            "this model takes uint8 pixels and normalizes them by itself.",
            "Leave --fold-preprocess out.",
        )
    folded = onnx.ModelProto()
    folded.CopyFrom(proto)
    graph, names = folded.graph, g.Names(g.tensor_names(folded.graph))

    def constant(part: str, value: g.Array) -> str:
        name = names.new(f"{spec.name}_{part}")
        g.set_initializer(graph, name, value)
        return name

    first = g.consumers(graph)[spec.name]
    channels = (0, 3, 1, 2) if spec.layout == "NCHW" else (0, 1, 2, 3)
    shape = (1, 3, 1, 1) if spec.layout == "NCHW" else (1, 1, 1, 3)
    mean, std = (np.array(v, np.float32).reshape(shape) for v in (pipeline.mean, pipeline.std))
    parts = ("pixels", "planes", "float", "centred", "ordered", "normalized")
    pixels, planes, floats, centred, ordered, ready = (
        names.new(f"{spec.name}_{part}") for part in parts
    )
    nodes = [
        helper.make_node("Transpose", [pixels], [planes], perm=channels),
        helper.make_node("Cast", [planes], [floats], to=TensorProto.FLOAT),
    ]
    if pipeline.color == "BGR":
        order = constant("order", np.array([2, 1, 0], np.int64))
        nodes.append(helper.make_node("Gather", [floats, order], [ordered], axis=shape.index(3)))
        floats = ordered
    nodes.append(helper.make_node("Sub", [floats, constant("mean", mean)], [centred]))
    if len(first) == 1 and _scaled(graph, first[0], spec, std):
        ready = centred
    else:
        nodes.append(helper.make_node("Div", [centred, constant("std", std)], [ready]))
    g.rename_reads(graph, spec.name, ready)
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
