"""Convolutions of other kinds, and what is one in other words, as Conv over images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.quantize.fold import affine_of
from quantlab.quantize.rewriting import Rewriting

_Shapes = Mapping[str, tuple[g.Dim, ...]]


_WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
_SPATIAL = (*_WINDOWED, "Concat", "Add", "Relu", "Clip")


def affine_as_convs(graph: onnx.GraphProto, shapes: _Shapes) -> None:
    """What scales or shifts each channel of an image (or a line, or a volume), and could not be
    folded into the layer before, becomes a depthwise convolution of one weight a channel:
    BatchNormalization before a convolution (DenseNet), constants that are added or multiplied."""
    rewriting = Rewriting(graph)
    tensors = g.initializers(graph)
    for node in graph.node:
        data = next((n for n in node.input if n not in rewriting.weights), "")
        maker, shape = rewriting.made_by.get(data), shapes.get(data, ())
        channels = shape[1] if len(shape) in (3, 4, 5) else None
        if maker is None or not isinstance(channels, int) or not g.is_standard(maker, *_SPATIAL):
            continue
        normalizes = g.is_standard(node, "BatchNormalization")
        if len(shape) != 4 and not normalizes and not g.is_standard(maker, *_WINDOWED):
            continue  # rows of a matrix
        affine = affine_of(node, data, len(shape), tensors)
        if affine is None or max(affine.factor.size, affine.offset.size) != channels:
            continue
        rows = np.broadcast_to(affine.factor, channels).astype(np.float32)
        ones = [1] * (len(shape) - 2)
        weight = rewriting.constant(f"{node.output[0]}_weight", rows.reshape(-1, 1, *ones))
        offsets = np.broadcast_to(affine.offset, channels).astype(np.float32)
        bias = rewriting.constant(f"{node.output[0]}_bias", np.ascontiguousarray(offsets))
        made = helper.make_node(
            "Conv", [data, weight, bias], [node.output[0]], name=node.name,
            group=channels, kernel_shape=ones,
        )  # fmt: skip
        node.CopyFrom(made)


def lines_as_images(graph: onnx.GraphProto) -> None:
    """A convolution of one dimension becomes one over images of height 1."""
    rewriting = Rewriting(graph)
    kept = []
    for node in graph.node:
        weight = rewriting.weights.get(node.input[1]) if g.is_standard(node, "Conv") else None
        if (
            weight is None
            or weight.ndim != 3
            or g.attribute(node, "auto_pad", "NOTSET") != "NOTSET"
        ):
            kept.append(node)
            continue
        before, after = g.attribute(node, "pads", [0, 0])
        values: dict[str, Any] = {
            "kernel_shape": [1, weight.shape[2]],
            "pads": [0, before, 0, after],
            "strides": [1, *g.attribute(node, "strides", [1])],
            "dilations": [1, *g.attribute(node, "dilations", [1])],
            "group": g.attribute(node, "group", 1),
        }
        output = node.output[0]
        high, made = (rewriting.names.new(f"{output}_{end}") for end in ("high", "image"))
        labels = [rewriting.node_names.new(f"{node.name}_{end}") for end in ("high", "flat")]
        axes = rewriting.constant(f"{output}_axes", np.array([2], np.int64))
        image = rewriting.constant(f"{output}_weight", np.expand_dims(weight, 2))
        kept += [
            helper.make_node("Unsqueeze", [node.input[0], axes], [high], name=labels[0]),
            helper.make_node(
                "Conv", [high, image, *node.input[2:]], [made], name=node.name, **values
            ),
            helper.make_node("Squeeze", [made, axes], [output], name=labels[1]),
        ]
    g.set_nodes(graph, kept)


def transposed_convs(graph: onnx.GraphProto) -> None:
    """A ConvTranspose over images becomes a Conv, a DepthToSpace and a Slice of the rest.

    With strides s an output at s·q + r, r < s, is a sum over x[q − t] · w[r + s·t]: convolutions
    with kernels of ⌈k / s⌉, one for each r, and DepthToSpace spreads what they give.
    """
    rewriting = Rewriting(graph)
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        is_one = g.is_standard(node, "ConvTranspose")
        weight = rewriting.weights.get(node.input[1]) if is_one else None
        phases = None if weight is None else _phases(node, weight)
        kept += [node] if phases is None else _spread(node, phases, rewriting)
    g.set_nodes(graph, kept)


_SPREAD = 4
"""Weights of the Conv in a ConvTranspose's place are at most so many times its own."""


@dataclass(frozen=True)
class _Phases:
    """The weights [out · s², in / groups, t, t] of the Conv in a ConvTranspose's place, and what
    is left out before and after each axis."""

    weight: g.Array
    stride: int
    before: tuple[int, int]
    after: tuple[int, int]


def _phases(node: onnx.NodeProto, weight: g.Array) -> _Phases | None:
    """None where a side is padded with what the Conv does not compute, for unequal strides,
    dilations and sizes given in other ways, and where most of its weights would be zeros."""
    strides = g.attribute(node, "strides", [1, 1])
    stride, groups = strides[0], g.attribute(node, "group", 1)
    pads, extra = g.attribute(node, "pads", [0] * 4), g.attribute(node, "output_padding", [0, 0])
    plain = g.attribute(node, "auto_pad", "NOTSET") == "NOTSET"
    plain = plain and not g.attribute(node, "output_shape", [0][:0])
    if weight.ndim != 4 or weight.dtype != np.float32 or not plain or len(set(strides)) > 1:
        return None
    if any(d != 1 for d in g.attribute(node, "dilations", [1, 1])):
        return None
    taps = [-(-k // stride) for k in weight.shape[2:]]
    after = [
        t * stride - k - extra[i] + pads[i + 2]
        for i, (t, k) in enumerate(zip(taps, weight.shape[2:], strict=True))
    ]
    spread = math.prod(t * stride for t in taps)
    if min(after) < 0 or spread > _SPREAD * math.prod(weight.shape[2:]):
        return None
    inner, outer = weight.shape[0] // groups, weight.shape[1]
    full = np.zeros((*weight.shape[:2], taps[0] * stride, taps[1] * stride), np.float32)
    full[:, :, : weight.shape[2], : weight.shape[3]] = weight
    parts = full.reshape(groups, inner, outer, taps[0], stride, taps[1], stride)
    parts = parts[:, :, :, ::-1, :, ::-1].transpose(0, 2, 4, 6, 1, 3, 5)
    made = parts.reshape(groups * outer * stride**2, inner, *taps)
    return _Phases(np.ascontiguousarray(made), stride, (pads[0], pads[1]), (after[0], after[1]))


def _spread(node: onnx.NodeProto, phases: _Phases, rewriting: Rewriting) -> list[onnx.NodeProto]:
    output, area = node.output[0], phases.stride**2
    constant = rewriting.constant
    reads = [node.input[0], constant(f"{output}_weight", phases.weight)]
    if len(node.input) > 2 and node.input[2]:
        bias = rewriting.weights.get(node.input[2])
        if bias is None:
            return [node]
        reads.append(constant(f"{output}_bias", np.repeat(bias, area)))
    taps = phases.weight.shape[2:]
    made = [
        helper.make_node(
            "Conv", reads, [rewriting.names.new(f"{output}_phases")], name=node.name,
            kernel_shape=taps, pads=[taps[0] - 1, taps[1] - 1] * 2,
            group=g.attribute(node, "group", 1),
        )
    ]  # fmt: skip
    if phases.stride > 1:
        spread = rewriting.names.new(f"{output}_spread")
        label = rewriting.node_names.new(f"{node.name}_DepthToSpace")
        more: dict[str, Any] = {"blocksize": phases.stride, "mode": "CRD"}
        made.append(helper.make_node("DepthToSpace", made[-1].output, [spread], name=label, **more))
    if any((*phases.before, *phases.after)):
        ends = [-n if n else np.iinfo(np.int64).max for n in phases.after]
        values = {"starts": phases.before, "ends": ends, "axes": (2, 3)}
        bounds = [constant(f"{output}_{k}", np.array(v, np.int64)) for k, v in values.items()]
        label = rewriting.node_names.new(f"{node.name}_Slice")
        cut = [made[-1].output[0], *bounds]
        made.append(helper.make_node("Slice", cut, [rewriting.names.new(output)], name=label))
    made[-1].output[0] = output
    return made
