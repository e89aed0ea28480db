"""Fold what exporters leave around a convolution or Gemm into it: in place, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantlab.model import graph as g
from quantlab.model.large import array_of

_Weights = Mapping[str, onnx.TensorProto]
_Doubles = NDArray[np.float64]
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE)
_NOT_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax")


@dataclass(frozen=True)
class ChannelAffine:
    """What a node does to each channel: ``y = x * factor + offset``, a number of each for every
    channel, or one for all."""

    factor: _Doubles
    offset: _Doubles


def fold_affine(graph: onnx.GraphProto) -> None:
    """What scales or shifts the channels of a Conv, ConvTranspose or Gemm becomes part of it.

    That is BatchNormalization, and Add, Sub, Mul or Div of a constant for each channel: biases of
    paddle2onnx and tf2onnx, Caffe's Scale. With y = x · f + o: W' = W · f, b' = b · f + o, in
    double precision. The layer's output must have no other reader.
    """
    weights = g.initializers(graph)
    made_by, read_by = g.producers(graph), g.consumers(graph)
    outputs = {v.name for v in graph.output}
    names = g.Names(g.tensor_names(graph))
    kept = []
    for node in graph.node:
        kept.append(node)
        found = _found(node, made_by, weights)
        if found is None:
            continue
        layer, affine = found
        if len(read_by[layer.output[0]]) > 1 or layer.output[0] in outputs:
            continue
        _fold_into(graph, layer, affine, node.output[0], names)
        made_by[node.output[0]] = layer
        weights = g.initializers(graph)
        kept.pop()
    g.set_nodes(graph, kept)


def _found(
    node: onnx.NodeProto, made_by: Mapping[str, onnx.NodeProto], weights: _Weights
) -> tuple[onnx.NodeProto, ChannelAffine] | None:
    """The layer whose channels the node scales or shifts, and by what."""
    for name in node.input:
        layer = made_by.get(name)
        kernel = None if layer is None else _kernel(layer, weights)
        if layer is None or kernel is None or node is layer:
            continue
        affine = affine_of(node, name, len(kernel.dims), weights)
        channels = _channels(layer, kernel)
        if affine is not None and {affine.factor.size, affine.offset.size} <= {1, channels}:
            return layer, affine
    return None


def affine_of(
    node: onnx.NodeProto, name: str, rank: int, weights: _Weights
) -> ChannelAffine | None:
    """What the node does to the channels, the second axis, of the tensor of that name; None where
    it does anything else."""
    if g.is_standard(node, "BatchNormalization"):
        return _normalization(node, weights) if node.input[0] == name else None
    return _arithmetic(node, name, rank, weights)


def _kernel(layer: onnx.NodeProto, weights: _Weights) -> onnx.TensorProto | None:
    """The weights of a layer that can take an affine function in; None for every other node."""
    if not g.is_standard(layer, "Conv", "ConvTranspose", "Gemm"):
        return None
    if not all(name in weights for name in layer.input[1:] if name):
        return None
    if layer.op_type == "Gemm":
        ones = g.attribute(layer, "alpha", 1.0) == g.attribute(layer, "beta", 1.0) == 1
        bias = weights[layer.input[2]] if len(layer.input) > 2 and layer.input[2] else None
        matrix = bias is not None and len(bias.dims) == 2 and bias.dims[0] != 1
        if not ones or matrix:
            return None
    kernel = weights[layer.input[1]]
    return kernel if kernel.data_type in _FLOATS else None


def _channel_axis(layer: onnx.NodeProto) -> int:
    """Which axis of the kernel counts output channels; ConvTranspose's are divided by its group."""
    by_row = layer.op_type == "Conv" or (
        layer.op_type == "Gemm" and g.attribute(layer, "transB", 0) != 0
    )
    return 0 if by_row else 1


def _channels(layer: onnx.NodeProto, kernel: onnx.TensorProto) -> int:
    groups = g.attribute(layer, "group", 1) if layer.op_type == "ConvTranspose" else 1
    return int(kernel.dims[_channel_axis(layer)]) * groups


def _value(tensor: onnx.TensorProto) -> _Doubles:
    return array_of(tensor).astype(np.float64)


@np.errstate(all="ignore")  # engines name the node whose weights are not finite
def _normalization(node: onnx.NodeProto, weights: _Weights) -> ChannelAffine | None:
    if g.attribute(node, "training_mode", 0) or any(node.output[1:]):
        return None
    if not all(name in weights for name in node.input[1:5]):
        return None
    scale, shift, mean, variance = (_value(weights[name]) for name in node.input[1:5])
    factor = scale / np.sqrt(variance + g.attribute(node, "epsilon", 1e-5))
    return ChannelAffine(factor, shift - mean * factor)


@np.errstate(all="ignore")
def _arithmetic(
    node: onnx.NodeProto, name: str, rank: int, weights: _Weights
) -> ChannelAffine | None:
    """What the node does to the tensor of that name, where it is Add, Sub, Mul or Div of it and a
    constant that has one number for each channel, or one for all."""
    if not g.is_standard(node, "Add", "Sub", "Mul", "Div") or len(node.input) != 2:
        return None
    first = node.input[0] == name
    other = weights.get(node.input[1 if first else 0])
    if other is None or other.data_type not in _FLOATS or len(other.dims) > rank:
        return None
    dims = [1] * (rank - len(other.dims)) + list(other.dims)
    if any(size != 1 for axis, size in enumerate(dims) if axis != 1):
        return None
    return _of_constant(node, first, other)


@np.errstate(all="ignore")
def _of_constant(
    node: onnx.NodeProto, first: bool, other: onnx.TensorProto
) -> ChannelAffine | None:
    """What Add, Sub, Mul or Div of a tensor and the constant does; ``first``: the tensor comes
    first."""
    value = _value(other).reshape(-1)
    one, none = np.ones(1), np.zeros(1)
    if node.op_type == "Add":
        return ChannelAffine(one, value)
    if node.op_type == "Sub":
        return ChannelAffine(one, -value) if first else ChannelAffine(-one, value)
    if node.op_type == "Mul":
        return ChannelAffine(value, none)
    divides = node.op_type == "Div" and first and value.all()
    return ChannelAffine(1 / value, none) if divides else None


@np.errstate(all="ignore")
def _fold_into(
    graph: onnx.GraphProto,
    layer: onnx.NodeProto,
    affine: ChannelAffine,
    output: str,
    names: g.Names,
) -> None:
    weights = g.initializers(graph)
    kernel, axis = weights[layer.input[1]], _channel_axis(layer)
    channels = _channels(layer, kernel)
    factor = np.broadcast_to(affine.factor, channels)
    biased = len(layer.input) > 2 and layer.input[2] != ""
    bias = _value(weights[layer.input[2]]).reshape(-1) if biased else np.zeros(channels)
    scaled = _scaled(_value(kernel), factor, axis)
    dtype = helper.tensor_dtype_to_np_dtype(kernel.data_type)
    made = [names.new(f"{layer.output[0]}_{what}") for what in ("weight", "bias")]
    g.set_initializer(graph, made[0], scaled.astype(dtype))
    g.set_initializer(graph, made[1], (bias * factor + affine.offset).astype(dtype))
    data = layer.input[0]
    del layer.input[:]
    layer.input.extend([data, *made])
    layer.output[0] = output


def _scaled(kernel: _Doubles, factor: _Doubles, axis: int) -> _Doubles:
    """The kernel with each output channel multiplied. A grouped ConvTranspose has its groups'
    channels one after the other along its input axis."""
    if factor.size == kernel.shape[axis]:
        shape = [1] * kernel.ndim
        shape[axis] = -1
        return kernel * factor.reshape(shape)
    groups = factor.size // kernel.shape[1]
    parts = np.split(kernel, groups)
    rows = factor.reshape(groups, -1)
    every = [_scaled(part, row, 1) for part, row in zip(parts, rows, strict=True)]
    return np.concatenate(every)


def fold_pads(graph: onnx.GraphProto) -> None:
    """A Pad with zeros before convolutions and pools alone becomes their own padding.

    A MaxPool pads with the least number there is: it takes in a Pad with that one, and zeros only
    where nothing is negative.
    """
    weights = g.initializers(graph)
    made_by, read_by = g.producers(graph), g.consumers(graph)
    outputs = {v.name for v in graph.output}
    kept = []
    for pad in graph.node:
        kept.append(pad)
        sides = _padding(pad, weights)
        readers = read_by.get(pad.output[0], [])
        value = _pad_value(pad, weights) if sides is not None else None
        if sides is None or value is None or not readers or pad.output[0] in outputs:
            continue
        least = value < 0 or _is_not_negative(made_by.get(pad.input[0]), weights)
        pads = [
            _with_padding(node, pad.output[0], sides, weights)
            if (least if node.op_type == "MaxPool" else value == 0)
            else None
            for node in readers
        ]
        if any(each is None for each in pads):
            continue
        for node, each in zip(readers, pads, strict=True):
            own = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
            if node.op_type == "AveragePool":
                own = [a for a in own if a.name != "count_include_pad"]
                own.append(helper.make_attribute("count_include_pad", 1))
            del node.attribute[:]
            node.attribute.extend([*own, helper.make_attribute("pads", each or [])])
            node.input[0] = pad.input[0]
        kept.pop()
    g.set_nodes(graph, kept)


_LEAST = float(np.finfo(np.float32).min)


def _pad_value(pad: onnx.NodeProto, weights: _Weights) -> float | None:
    """What is put around: zero, or the least float or less; None for other numbers."""
    name = pad.input[2] if len(pad.input) > 2 else ""
    value = float(array_of(weights[name]).item()) if name else 0.0
    return value if value == 0 or value <= _LEAST else None


def _padding(pad: onnx.NodeProto, weights: _Weights) -> dict[int, tuple[int, int]] | None:
    """How much is put before and after each axis; None where that is no number, or images and
    channels are padded too."""
    if not g.is_standard(pad, "Pad") or g.attribute(pad, "mode", "constant") != "constant":
        return None
    given = [*pad.input[1:], "", "", ""][:3]
    if any(name and name not in weights for name in given) or not given[0]:
        return None
    if given[1] and weights[given[1]].data_type not in _FLOATS:
        return None
    amounts = [int(n) for n in array_of(weights[given[0]])]
    half = len(amounts) // 2
    axes = [int(n) for n in array_of(weights[given[2]])] if given[2] else list(range(half))
    if len(axes) != half or min(axes, default=0) < 0 or min(amounts, default=0) < 0:
        return None
    sides = dict(zip(axes, zip(amounts[:half], amounts[half:], strict=True), strict=True))
    return None if any(sides.get(0, ())) or any(sides.get(1, ())) else sides


def _is_not_negative(node: onnx.NodeProto | None, weights: _Weights) -> bool:
    if node is None:
        return False
    if g.is_standard(node, "Clip"):
        least = weights.get(node.input[1]) if len(node.input) > 1 else None
        return least is not None and float(array_of(least).min()) >= 0
    return g.is_standard(node, *_NOT_NEGATIVE)


def _with_padding(
    node: onnx.NodeProto,
    name: str,
    around: Mapping[int, tuple[int, int]],
    weights: _Weights,
) -> list[int] | None:
    """The node's pads with these besides; None where it cannot take them in."""
    window = _window(node, weights)
    if not window or list(node.input).count(name) != 1 or node.input[0] != name:
        return None
    own = g.attribute(node, "pads", [0] * 2 * len(window))
    if g.attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    sides = [around.get(axis + 2, (0, 0)) for axis in range(len(window))]
    added = [before for before, _ in sides] + [after for _, after in sides]
    total = [a + b for a, b in zip(own, added, strict=True)]
    if node.op_type == "Conv":
        return total
    reaches = any(t >= size for t, size in zip(total, window * 2, strict=True))
    if g.attribute(node, "ceil_mode", 0) or reaches:
        return None
    if node.op_type == "MaxPool":
        return total if len(node.output) == 1 else None
    counted = g.attribute(node, "count_include_pad", 0) == 1 or not any(own)
    return total if counted else None


def _window(node: onnx.NodeProto, weights: _Weights) -> list[int]:
    """How far a convolution or pool reaches along each spatial axis; nothing for other nodes."""
    if g.is_standard(node, "Conv") and node.input[1] in weights:
        kernel = [int(size) for size in weights[node.input[1]].dims[2:]]
    elif g.is_standard(node, "MaxPool", "AveragePool"):
        kernel = g.attribute(node, "kernel_shape", [0])
    else:
        return []
    dilations = g.attribute(node, "dilations", [1] * len(kernel))
    return [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]


def plain_gemms(graph: onnx.GraphProto) -> None:
    """Gemms of constant weights get an alpha and a beta of 1, which their weights and bias are
    multiplied by, and a Transpose in place of transA."""
    weights = g.initializers(graph)
    names, labels = g.Names(g.tensor_names(graph)), g.Names(g.node_names(graph))
    kept = []
    for node in graph.node:
        if g.is_standard(node, "Gemm") and not set(node.input[1:]) - {"", *weights}:
            factors = [g.attribute(node, name, 1.0) for name in ("alpha", "beta")]
            for i, factor in zip((1, 2), factors, strict=True):
                name = node.input[i] if len(node.input) > i else ""
                if name and factor != 1:
                    value = array_of(weights[name])
                    node.input[i] = names.new(f"{node.output[0]}_{'weight' if i == 1 else 'bias'}")
                    g.set_initializer(graph, node.input[i], (value * factor).astype(value.dtype))
            turned = g.attribute(node, "transA", 0)
            own = [a for a in node.attribute if a.name not in ("alpha", "beta", "transA")]
            del node.attribute[:]
            node.attribute.extend(own)
            if turned:
                source, made = node.input[0], names.new(f"{node.input[0]}_turned")
                label = labels.new(f"{node.name or made}_Transpose")
                kept.append(
                    helper.make_node("Transpose", [source], [made], name=label, perm=[1, 0])
                )
                node.input[0] = made
        kept.append(node)
    g.set_nodes(graph, kept)


def fold_into_normalizations(graph: onnx.GraphProto) -> None:
    """What multiplies or shifts a LayerNormalization's last axis becomes part of its constants."""
    weights, names = g.initializers(graph), g.Names(g.tensor_names(graph))
    made_by, read_by = g.producers(graph), g.consumers(graph)
    outputs = {v.name for v in graph.output}
    kept = []
    for node in graph.node:
        kept.append(node)
        name = next((n for n in node.input if n in made_by), "")
        maker = made_by.get(name)
        if maker is None or len(read_by[name]) > 1 or name in outputs or len(maker.output) > 1:
            continue
        affine = _of_last_axis(node, name, maker, weights)
        if affine is None:
            continue
        scale = _value(weights[maker.input[1]])
        given = len(maker.input) > 2 and maker.input[2] != ""
        shift = _value(weights[maker.input[2]]) if given else np.zeros_like(scale)
        made = [names.new(f"{node.output[0]}_{what}") for what in ("scale", "shift")]
        values = scale * affine.factor, shift * affine.factor + affine.offset
        for new, value in zip(made, values, strict=True):
            g.set_initializer(graph, new, np.asarray(value, np.float32))
        del maker.input[1:]
        maker.input.extend(made)
        maker.output[0] = node.output[0]
        made_by[node.output[0]] = maker
        weights = g.initializers(graph)
        kept.pop()
    g.set_nodes(graph, kept)


def _of_last_axis(
    node: onnx.NodeProto, name: str, maker: onnx.NodeProto, weights: _Weights
) -> ChannelAffine | None:
    """What the node does to each number of the LayerNormalization's last axis."""
    if not g.is_standard(maker, "LayerNormalization") or g.attribute(maker, "axis", -1) != -1:
        return None
    scale = weights.get(maker.input[1])
    known = all(n in weights for n in maker.input[1:] if n)
    if scale is None or not known or scale.data_type != TensorProto.FLOAT or len(node.input) != 2:
        return None
    other = weights.get(node.input[1 if node.input[0] == name else 0])
    size = scale.dims[-1]
    if other is None or list(other.dims) not in ([], [1], [size]):
        return None
    return _of_constant(node, node.input[0] == name, other)


def fold_factors_ahead(graph: onnx.GraphProto) -> None:
    """A product with a number that layers with weights alone read becomes part of their weights."""
    weights, names = g.initializers(graph), g.Names(g.tensor_names(graph))
    read_by = g.consumers(graph)
    outputs = {v.name for v in graph.output}
    gone = set[str]()
    for node in reversed(graph.node):
        data = next((n for n in node.input if n not in weights), "")
        readers = read_by.get(node.output[0], [])
        factor = _number(node, data, weights)
        if factor is None or not readers or node.output[0] in outputs:
            continue
        if not all(_takes_factor(reader, node.output[0], weights) for reader in readers):
            continue
        for reader in readers:
            weight = weights[reader.input[1]]
            reader.input[0] = data
            reader.input[1] = names.new(f"{reader.output[0]}_weight")
            dtype = helper.tensor_dtype_to_np_dtype(weight.data_type)
            g.set_initializer(graph, reader.input[1], (_value(weight) * factor).astype(dtype))
        weights = g.initializers(graph)
        read_by[data] = [*(r for r in read_by[data] if r is not node), *readers]
        gone.add(node.output[0])
    g.set_nodes(graph, [n for n in graph.node if not gone.intersection(n.output)])


def _number(node: onnx.NodeProto, data: str, weights: _Weights) -> float | None:
    """What the node multiplies the tensor by, where that is one finite number."""
    if not g.is_standard(node, "Mul", "Div") or len(node.input) != 2 or not data:
        return None
    other = weights.get(node.input[1 if node.input[0] == data else 0])
    if other is None or list(other.dims) not in ([], [1]) or other.data_type not in _FLOATS:
        return None
    affine = _of_constant(node, node.input[0] == data, other)
    factor = None if affine is None else float(affine.factor.item())
    return factor if factor is not None and np.isfinite(factor) else None


def _takes_factor(node: onnx.NodeProto, name: str, weights: _Weights) -> bool:
    if not g.is_standard(node, "Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    weight = weights.get(node.input[1])
    return (
        weight is not None
        and weight.data_type in _FLOATS
        and node.input[0] == name
        and list(node.input).count(name) == 1
    )


@dataclass(frozen=True)
class _Branch:
    """A convolution of two dimensions, or what one does: ``weight`` [out, in / groups, h, w]."""

    source: str
    weight: _Doubles
    bias: _Doubles
    pads: list[int]
    strides: list[int]
    dilations: list[int]
    groups: int

    @property
    def outer(self) -> tuple[object, ...]:
        """What two must share to be one."""
        return self.source, tuple(self.strides), len(self.weight)


def fold_branches(proto: onnx.ModelProto) -> None:
    """Convolutions of one tensor, and its BatchNormalization, that are added become one.

    RepVGG, MobileOne and their kin are trained so, and exported so by who forgets to join them.
    """
    graph = proto.graph
    shapes = g.tensor_shapes(proto)
    weights, names = g.initializers(graph), g.Names(g.tensor_names(graph))
    made_by, read_by = g.producers(graph), g.consumers(graph)
    outputs = {v.name for v in graph.output}
    for node in graph.node:
        alone = all(len(read_by.get(n, [])) == 1 and n not in outputs for n in node.input)
        makers = [made_by[n] for n in node.input if n in made_by]
        if not g.is_standard(node, "Add") or len(makers) != 2 or not alone:
            continue
        found = [_branch(maker, weights, shapes) for maker in makers]
        joined = _joined(found[0], found[1]) if found[0] and found[1] else None
        if joined is None or not any(g.is_standard(maker, "Conv") for maker in makers):
            continue
        conv = max((m for m in makers if m.op_type == "Conv"), key=lambda m: _size(m, weights))
        dtype = helper.tensor_dtype_to_np_dtype(weights[conv.input[1]].data_type)
        reads = [joined.source]
        for what, value in (("weight", joined.weight), ("bias", joined.bias)):
            reads.append(names.new(f"{node.output[0]}_{what}"))
            g.set_initializer(graph, reads[-1], value.astype(dtype))
        made = helper.make_node(
            "Conv", reads, node.output, name=conv.name or node.name,
            kernel_shape=joined.weight.shape[2:], pads=joined.pads, strides=joined.strides,
            dilations=joined.dilations, group=joined.groups,
        )  # fmt: skip
        node.CopyFrom(made)
        made_by[node.output[0]] = node
        weights = g.initializers(graph)
    g.prune(graph)


def _size(conv: onnx.NodeProto, weights: _Weights) -> int:
    return int(np.prod(weights[conv.input[1]].dims))


def _branch(
    node: onnx.NodeProto, weights: _Weights, shapes: Mapping[str, tuple[g.Dim, ...]]
) -> _Branch | None:
    ones = [1, 1]
    if g.is_standard(node, "BatchNormalization") and len(shapes.get(node.input[0], ())) == 4:
        affine = _normalization(node, weights)
        if affine is None:
            return None
        scale = affine.factor.reshape(-1, 1, 1, 1)
        return _Branch(node.input[0], scale, affine.offset, [0] * 4, ones, ones, len(scale))
    if not g.is_standard(node, "Conv") or _kernel(node, weights) is None:
        return None
    kernel = _value(weights[node.input[1]])
    if kernel.ndim != 4 or g.attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None
    biased = len(node.input) > 2 and node.input[2] != ""
    return _Branch(
        node.input[0],
        kernel,
        _value(weights[node.input[2]]) if biased else np.zeros(len(kernel)),
        g.attribute(node, "pads", [0] * 4),
        g.attribute(node, "strides", ones),
        g.attribute(node, "dilations", ones),
        g.attribute(node, "group", 1),
    )


def _joined(first: _Branch, second: _Branch) -> _Branch | None:
    """One that gives the sum of both; None where that would be a larger one than either."""
    large, small = first, second
    if (second.weight.shape[2:], -second.groups) > (first.weight.shape[2:], -first.groups):
        large, small = second, first
    dotted = small.weight.shape[2:] == (1, 1)
    if large.outer != small.outer or small.groups % large.groups:
        return None
    if small.dilations != large.dilations and not dotted:
        return None
    sides = []
    for axis in range(2):
        reach = large.weight.shape[axis + 2]
        before = large.pads[axis] - small.pads[axis]
        after = large.pads[axis + 2] - small.pads[axis + 2]
        start, rest = divmod(before, large.dilations[axis])
        end = start + small.weight.shape[axis + 2]
        spans = (
            (reach - 1) * large.dilations[axis],
            (small.weight.shape[axis + 2] - 1) * small.dilations[axis],
        )
        if rest or start < 0 or end > reach or spans[0] - spans[1] != before + after:
            return None
        sides.append((start, reach - end))
    dense = _regrouped(small.weight, small.groups, large.groups)
    weight = large.weight + np.pad(dense, ((0, 0), (0, 0), *sides))
    return replace(large, weight=weight, bias=large.bias + small.bias)


def _regrouped(weight: _Doubles, groups: int, fewer: int) -> _Doubles:
    """The weights of a grouped convolution as those of one with fewer groups, zeros between."""
    if groups == fewer:
        return weight
    each, inner = groups // fewer, weight.shape[1]
    made = np.zeros((len(weight), inner * each, *weight.shape[2:]))
    rows = len(weight) // groups
    for group in range(groups):
        place = group % each * inner
        own = slice(group * rows, (group + 1) * rows)
        made[own, place : place + inner] = weight[own]
    return made
