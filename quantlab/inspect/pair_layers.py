"""Read a node of an executed graph as a u8s8 layer: see ``quantlab.inspect.pairs``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.inspect.pairs import Bytes, Ints, Numbers, PairPlaces, Risks, exact_sums, excess
from quantlab.model import graph as g
from quantlab.model.large import Weights

_EXPLICIT = "NOTSET"


@dataclass(frozen=True)
class Window:
    """Where a convolution looks, [h, w] each; ``pads`` are above, left, below, right."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    auto_pad: str = _EXPLICIT

    def padding(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows above and below, columns left and right."""
        if self.auto_pad in (_EXPLICIT, "VALID"):
            return (self.pads[0], self.pads[2]), (self.pads[1], self.pads[3])
        pairs = []
        for size, k, s, d in zip(
            (height, width), self.kernel, self.strides, self.dilations, strict=True
        ):
            total = max(0, (math.ceil(size / s) - 1) * s + (k - 1) * d + 1 - size)
            small, large = total // 2, total - total // 2
            pairs.append((small, large) if self.auto_pad == "SAME_UPPER" else (large, small))
        return pairs[0], pairs[1]


@dataclass(frozen=True, eq=False)
class PairLayer:
    """One u8s8 layer. ``weight`` is int32 [groups, k, out/groups], k in the order of the pairs.

    Its answer is (Σ(x − x_zero)(w − w_zero) + bias) · factor, rounded to even, plus ``y_zero`` and
    cut to ``y_type``; a layer with ``y_type`` None gives that number as float32. ``w_zero``,
    ``bias`` and ``factor`` are [out]. ``window`` is None for products of matrices.
    """

    name: str
    op_type: str
    data: str
    output: str
    weight: Ints
    w_zero: Numbers
    x_zero: int
    bias: Numbers
    factor: NDArray[np.float32]
    y_zero: int
    y_type: str | None
    y_scale: float
    window: Window | None

    def rows(self, x: Bytes) -> Bytes:
        """What is multiplied with the weights: [groups, positions, k], of x [n, …]."""
        if self.window is None:
            return x.reshape(1, -1, x.shape[-1])
        return patches(x, self.window, self.x_zero, len(self.weight))

    def answers(self, sums: Numbers, taken: Numbers, group: int, outputs: PairPlaces) -> g.Array:
        """Single outputs [m] of one group, from their raw sums Σ x·w and the Σ x they belong to."""
        k, width = self.weight.shape[1:]
        channel = group * width + outputs
        columns = self.weight[group].sum(axis=0, dtype=np.float64)[outputs]
        zeros = self.w_zero[channel]
        centred = sums - self.x_zero * columns - zeros * taken + k * self.x_zero * zeros
        biased = np.asarray(centred + self.bias[channel], np.float32)
        real = np.asarray(biased * self.factor[channel], np.float32)
        if self.y_type is None:
            return real
        limits = np.iinfo(self.y_type)
        cut = np.clip(real, limits.min - self.y_zero, limits.max - self.y_zero)
        return np.asarray((np.rint(cut) + self.y_zero).astype(self.y_type))

    def real(self, answer: g.Array) -> Numbers:
        """The real numbers that an answer stands for."""
        numbers = np.asarray(answer, np.float64)
        return numbers if self.y_type is None else (numbers - self.y_zero) * self.y_scale

    def saturate(self, x: Bytes, answer: g.Array, risky: Sequence[Risks]) -> Saturated:
        """The layer's answer to x as saturation makes it, from the exact one."""
        rows, found = self.rows(x), answer.copy()
        flat = found.reshape(-1, found.shape[-1]) if self.window is None else _channels_last(found)
        width, count = self.weight.shape[2], 0
        for group, risks_here in enumerate(risky):
            lost, seen = excess(rows[group], risks_here, width)
            positions, outputs = np.nonzero(lost)
            sums, taken = exact_sums(rows[group], self.weight[group], positions, outputs)
            wrong = self.answers(sums - lost[positions, outputs], taken, group, outputs)
            flat[positions, group * width + outputs] = wrong
            count += seen
        if self.window is not None:
            n, channels, *size = answer.shape
            found = np.ascontiguousarray(flat.reshape(n, *size, channels).transpose(0, 3, 1, 2))
        return Saturated(found, answer.size * ((rows.shape[2] + 1) // 2), count)


@dataclass(frozen=True, eq=False)
class Saturated:
    """A layer's output with saturation, its number of pair sums, and how many saturated."""

    answer: g.Array
    pair_sums: int
    count: int


def _channels_last(answer: g.Array) -> g.Array:
    return answer.transpose(0, 2, 3, 1).reshape(-1, answer.shape[1])


def patches(x: Bytes, window: Window, zero: int, groups: int) -> Bytes:
    """Every position's inputs [groups, n · positions, k], channels running fastest within k."""
    pads = window.padding(*x.shape[2:])
    last = np.pad(x.transpose(0, 2, 3, 1), ((0, 0), *pads, (0, 0)), constant_values=zero)
    spans = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(last, spans, axis=(1, 2))
    (sh, sw), (dh, dw) = window.strides, window.dilations
    taken = views[:, ::sh, ::sw, :, ::dh, ::dw]
    n, height, width, channels = taken.shape[:4]
    size = math.prod(window.kernel)
    parts = taken.reshape(n * height * width, groups, channels // groups, size)
    return parts.transpose(1, 0, 3, 2).reshape(groups, n * height * width, -1)


@dataclass(frozen=True)
class _Inputs:
    """Positions among a node's inputs; None for what the operator does not have."""

    w: int = 3
    x_scale: int = 1
    x_zero: int = 2
    w_scale: int = 4
    w_zero: int = 5
    y_scale: int | None = None
    y_zero: int | None = None
    bias: int | None = None


_INPUTS = {
    "QLinearConv": _Inputs(y_scale=6, y_zero=7, bias=8),
    "QLinearMatMul": _Inputs(y_scale=6, y_zero=7),
    "QGemm": _Inputs(bias=6, y_scale=7, y_zero=8),
    "MatMulIntegerToFloat": _Inputs(w=1, x_scale=2, w_scale=3, x_zero=4),
}


def read_layer(
    node: onnx.NodeProto, constants: Mapping[str, g.Array], types: Mapping[str, int]
) -> PairLayer | None:
    """The node as a u8s8 layer that sums in pairs, or None for any other node."""
    places = _INPUTS.get(node.op_type)
    if places is None or types.get(node.input[0]) != onnx.TensorProto.UINT8:
        return None
    if not all(name in constants for name in node.input[1:] if name):
        return None
    stored = constants[node.input[places.w]]
    if stored.dtype != np.int8 or not _readable(node, stored):
        return None
    if node.op_type == "QLinearConv":
        return _layer(node, _conv_weight(node, stored), constants, places, _window(node, stored))
    weight = stored.T if g.attribute(node, "transB", 0) else stored
    return _layer(node, np.array(weight[None], np.int32), constants, places, None)


def _readable(node: onnx.NodeProto, stored: g.Array) -> bool:
    """Whether it is a convolution in two dimensions, not depthwise, or a plain matrix product."""
    if node.op_type == "QLinearConv":
        groups = g.attribute(node, "group", 1)
        return stored.ndim == 4 and not len(stored) == groups > stored.shape[1] == 1
    plain = not g.attribute(node, "transA", 0) and g.attribute(node, "alpha", 1.0) == 1.0
    no_bias = node.op_type != "MatMulIntegerToFloat" or not any(node.input[6:])
    return stored.ndim == 2 and plain and no_bias


def _conv_weight(node: onnx.NodeProto, stored: g.Array) -> Ints:
    groups = g.attribute(node, "group", 1)
    ordered = stored.transpose(2, 3, 1, 0).reshape(-1, groups, len(stored) // groups)
    return np.ascontiguousarray(ordered.transpose(1, 0, 2), np.int32)


def _window(node: onnx.NodeProto, stored: g.Array) -> Window:
    ones, zeros = [1, 1], [0, 0, 0, 0]
    strides, dilations = (g.attribute(node, key, ones) for key in ("strides", "dilations"))
    pads = g.attribute(node, "pads", zeros)
    return Window(
        kernel=(stored.shape[2], stored.shape[3]),
        strides=(strides[0], strides[1]),
        dilations=(dilations[0], dilations[1]),
        pads=(pads[0], pads[1], pads[2], pads[3]),
        auto_pad=g.attribute(node, "auto_pad", _EXPLICIT),
    )


def _layer(
    node: onnx.NodeProto,
    weight: Ints,
    constants: Mapping[str, g.Array],
    places: _Inputs,
    window: Window | None,
) -> PairLayer:
    out = weight.shape[0] * weight.shape[2]

    def value(place: int | None, default: float) -> g.Array:
        name = node.input[place] if place is not None and place < len(node.input) else ""
        return constants[name].reshape(-1) if name else np.array([default], np.float32)

    y_scale, y_zero = value(places.y_scale, 1), value(places.y_zero, 0)
    x_scale, w_scale = (value(i, 1).astype(np.float32) for i in (places.x_scale, places.w_scale))
    factor = x_scale * w_scale / y_scale.astype(np.float32)
    return PairLayer(
        name=node.name,
        op_type=node.op_type,
        data=node.input[0],
        output=node.output[0],
        weight=weight,
        w_zero=np.broadcast_to(value(places.w_zero, 0).astype(np.float64), out),
        x_zero=int(value(places.x_zero, 0)[0]),
        bias=np.broadcast_to(value(places.bias, 0).astype(np.float64), out),
        factor=np.broadcast_to(factor, out),
        y_zero=int(y_zero[0]),
        y_type=str(y_zero.dtype) if np.issubdtype(y_zero.dtype, np.integer) else None,
        y_scale=float(y_scale[0]),
        window=window,
    )


def without_saturation(graph: onnx.GraphProto, layers: Sequence[PairLayer]) -> None:
    """In place: these layers' weights as u8 around 128, which no CPU sums in 16 bits.

    The answers are those of a CPU with VNNI, wherever this runs.
    """
    constants = Weights(graph)
    wanted, names = {layer.output for layer in layers}, g.Names(g.tensor_names(graph))
    for node in graph.node:
        if node.output[0] not in wanted:
            continue
        places = _INPUTS[node.op_type]
        node.input.extend([""] * (places.w_zero + 1 - len(node.input)))
        zero = constants.get(node.input[places.w_zero], np.array(0, np.int8))
        for place, value in ((places.w, constants[node.input[places.w]]), (places.w_zero, zero)):
            node.input[place] = names.new(f"{node.output[0]}/unsigned/{place}")
            raised = (value.astype(np.int16) + 128).astype(np.uint8)
            g.set_initializer(graph, node.input[place], raised)
