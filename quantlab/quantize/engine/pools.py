"""Sums of tensors, and means and largest values over an image, in operators with int8 kernels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.quantize.rewriting import Rewriting

_Shapes = Mapping[str, tuple[g.Dim, ...]]


def sums_as_adds(graph: onnx.GraphProto) -> None:
    """Sum of several tensors becomes Add after Add."""
    rewriting = Rewriting(graph)
    kept = []
    for node in graph.node:
        if not g.is_standard(node, "Sum") or len(node.input) < 2:
            kept.append(node)
            continue
        total, rest = node.input[0], list(node.input[1:])
        for i, name in enumerate(rest):
            last = i + 1 == len(rest)
            made = node.output[0] if last else rewriting.names.new(f"{node.output[0]}_sum")
            label = node.name if last else rewriting.node_names.new(f"{node.name}_sum")
            kept.append(helper.make_node("Add", [total, name], [made], name=label))
            total = made
    g.set_nodes(graph, kept)


_BY_SPACE = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization", "Relu", "Clip",
)  # fmt: skip


def means_as_pools(proto: onnx.ModelProto, shapes: _Shapes) -> None:
    """The mean over all of an image's axes, as ReduceMean, becomes GlobalAveragePool, over some of
    them AveragePool; the largest value over all, as ReduceMax or GlobalMaxPool, MaxPool. A Flatten
    follows where these axes go. Lines and volumes are what convolutions and pools make."""
    rewriting = Rewriting(proto.graph)
    kept = []
    for node in proto.graph.node:
        kept.append(node)
        if not g.is_standard(node, "ReduceMean", "ReduceMax", "GlobalMaxPool"):
            continue
        source, target = node.input[0], node.output[0]
        shape, maker = shapes.get(source, ()), rewriting.made_by.get(source)
        if len(shape) not in (3, 5) or maker is None or not g.is_standard(maker, *_BY_SPACE):
            shape = shape if len(shape) == 4 else ()
        pool = _pool(node, _reduced(node, shape, rewriting), shape) if shape else None
        if pool is None:
            continue
        keeps = node.op_type == "GlobalMaxPool" or g.attribute(node, "keepdims", 1)
        pool.input[0], pool.output[0], pool.name = source, target, node.name
        if not keeps and pool.op_type == "AveragePool":
            continue
        kept[-1] = pool
        if not keeps:
            pool.output[0] = rewriting.names.new(f"{target}_pooled")
            label = rewriting.node_names.new(f"{node.name}_flat")
            kept.append(helper.make_node("Flatten", pool.output, [target], name=label, axis=1))
    g.set_nodes(proto.graph, kept)


def _reduced(node: onnx.NodeProto, shape: tuple[g.Dim, ...], rewriting: Rewriting) -> list[int]:
    """The axes that a node reduces."""
    if node.op_type == "GlobalMaxPool":
        return list(range(2, len(shape)))
    axes = g.attribute(node, "axes", [0][:0])
    if len(node.input) > 1:
        axes = [int(n) for n in rewriting.weights.get(node.input[1], np.zeros(0))]
    return sorted(axis % len(shape) for axis in axes) if shape else []


def _pool(node: onnx.NodeProto, axes: list[int], shape: tuple[g.Dim, ...]) -> onnx.NodeProto | None:
    """The pool over these axes, its names still to be set; None where no pool does the same or a
    size is not known."""
    whole = list(range(2, len(shape)))
    if node.op_type == "ReduceMean" and axes == whole:
        return helper.make_node("GlobalAveragePool", [""], [""])
    window = [shape[axis] if axis in axes else 1 for axis in whole]
    if not all(isinstance(size, int) for size in window) or not axes or min(axes) < 2:
        return None
    if node.op_type == "ReduceMean":
        return helper.make_node("AveragePool", [""], [""], kernel_shape=window)
    if axes != whole:
        return None
    return helper.make_node("MaxPool", [""], [""], kernel_shape=window)
