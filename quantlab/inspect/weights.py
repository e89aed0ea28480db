"""Compare quantized weights with the originals, and recover the scales of equalized channels.

Cross-layer equalization multiplies a tensor's channels by factors and divides the weights that read
them; the network computes the same, but its tensors and weights can be compared with the original's
only once those factors are known. They are found from the weights, layer after layer: a layer's are
the original's, divided by the factors of its input and multiplied by those of its output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.inspect.matching import Pair
from quantlab.inspect.noise import Noise
from quantlab.model import graph as g
from quantlab.model.large import array_of
from quantlab.model.operands import Operand, operands

Floats = NDArray[np.float32]
_COLUMNS = ("QLinearMatMul", "MatMulIntegerToFloat")
ONE: Floats = np.ones(1, np.float32)


@dataclass(frozen=True, eq=False)
class WeightReport:
    """By fp32 tensor, for the layer that makes it.

    ``gains`` [channels] of every tensor of a file that equalized them, else empty; ``sqnr_db`` of
    the weights of every layer that has quantized ones (None: no error).
    """

    gains: dict[str, Floats]
    sqnr_db: dict[str, float | None]


def compare_weights(
    fp32: onnx.GraphProto,
    int8: onnx.GraphProto,
    pairs: Sequence[Pair],
    sources: Mapping[str, Sequence[str]],
) -> WeightReport:
    """``sources`` are the nearest matched tensors that each one is computed from.

    A file equalized channels when, for some layer, the factors take away nine tenths of the energy
    of the difference between its weights and the original's.
    """
    weights = dict(_matched_weights(fp32, int8, pairs))
    gains: dict[str, Floats] = {}
    plain, scaled = dict[str, Noise](), dict[str, Noise]()
    for pair in pairs:
        name, before = pair.tensor, [gains[source] for source in sources[pair.tensor]]
        if name not in weights:
            gains[name] = _handed_on(before)
            continue
        exact, other, groups = weights[name]
        expected = exact / _by_weight(before[0] if len(before) == 1 else ONE, exact, groups)
        gains[name] = _factors(expected, other)
        plain[name], scaled[name] = Noise(), Noise()
        plain[name].add(exact, other)
        scaled[name].add(expected * gains[name].reshape(-1, *[1] * (exact.ndim - 1)), other)
    equalized = any(10 * scaled[name].noise < plain[name].noise for name in plain)
    noises = scaled if equalized else plain
    return WeightReport(
        gains=gains if equalized else {}, sqnr_db={name: n.db for name, n in noises.items()}
    )


def _handed_on(sources: Sequence[Floats]) -> Floats:
    """The factors of what has no weights: those of all its inputs, if they agree in number."""
    sizes = {source.size for source in sources}
    return sources[0] if len(sizes) == 1 else ONE


def _by_weight(gains: Floats, weight: Floats, groups: int) -> Floats:
    """The input's factors as each weight [out, in/groups, …] meets them."""
    out, inner = weight.shape[:2]
    if gains.size == 1 or (inner * groups) % gains.size:
        return ONE
    each = np.repeat(gains, inner * groups // gains.size).reshape(groups, 1, inner)
    full = np.broadcast_to(each, (groups, out // groups, inner)).reshape(out, inner)
    return full.reshape(out, inner, *[1] * (weight.ndim - 2))


def _factors(expected: Floats, other: Floats) -> Floats:
    """The factor of each output channel that brings ``expected`` nearest to ``other``."""
    axes = tuple(range(1, expected.ndim))
    power = np.square(expected, dtype=np.float64).sum(axis=axes)
    shared = np.multiply(expected, other, dtype=np.float64).sum(axis=axes)
    found = (power > 0) & (shared > 0)
    return np.where(found, shared / np.where(found, power, 1), 1).astype(np.float32)


def _matched_weights(
    fp32: onnx.GraphProto, int8: onnx.GraphProto, pairs: Sequence[Pair]
) -> Iterator[tuple[str, tuple[Floats, Floats, int]]]:
    """By tensor: original and dequantized weights [out, in/groups, …], and the groups."""
    nodes = {node.name: node for node in fp32.node}
    originals, stored = g.initializers(fp32), g.initializers(int8)
    made_by, ends = g.producers(int8), {pair.other for pair in pairs}
    for pair in pairs:
        node = nodes.get(pair.node)
        name = node.input[1] if node is not None and len(node.input) > 1 else ""
        if node is None or name not in originals or len(originals[name].dims) < 2:
            continue
        exact = array_of(originals[name]).astype(np.float32)
        exact = exact.T if _inputs_first(node) else exact
        above = _weights_above(pair.other, made_by, ends, stored)
        others = [_aligned(exact, dequantized(maker, one, stored)) for maker, one in above]
        fitting = [other for other in others if other is not None]
        if fitting:
            yield pair.tensor, (exact, fitting[0], g.attribute(node, "group", 1))


def _inputs_first(node: onnx.NodeProto) -> bool:
    return node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not g.attribute(node, "transB", 0)
    )


def _weights_above(
    name: str,
    made_by: Mapping[str, onnx.NodeProto],
    ends: set[str],
    stored: Mapping[str, onnx.TensorProto],
) -> Iterator[tuple[onnx.NodeProto, Operand]]:
    """The quantized weights used between this tensor and the next matched ones above it."""
    queue, seen = [name], {name}
    while queue:
        node = made_by.get(queue.pop())
        if node is None:
            continue
        for operand in operands(node):
            if operand.tensor in stored and len(stored[operand.tensor].dims) > 1:
                yield node, operand
        new = [n for n in node.input if n and n not in seen and n not in ends]
        seen.update(new)
        queue += new


def dequantized(
    node: onnx.NodeProto, operand: Operand, stored: Mapping[str, onnx.TensorProto]
) -> Floats:
    """The real numbers of a weight, with scales along the axis that the node says."""
    values = array_of(stored[operand.tensor]).astype(np.float32)
    axis = _axis(node) % values.ndim
    shape = [-1 if i == axis else 1 for i in range(values.ndim)]

    def along(name: str, default: float) -> Floats:
        given = array_of(stored[name]) if name in stored else np.array(default)
        flat = given.astype(np.float32).reshape(-1)
        return flat.reshape(shape) if flat.size > 1 else flat

    return (values - along(operand.zero_point, 0)) * along(operand.scale, 1)


def _axis(node: onnx.NodeProto) -> int:
    if node.op_type == "DequantizeLinear":
        return g.attribute(node, "axis", 1)
    by_columns = node.op_type in _COLUMNS or (
        node.op_type == "QGemm" and not g.attribute(node, "transB", 0)
    )
    return -1 if by_columns else 0


def _aligned(exact: Floats, other: Floats) -> Floats | None:
    """The other's weights as the original's are stored, straight or transposed, if they fit."""
    found = [other.reshape(exact.shape)] if _same_but_ones(exact, other) else []
    if other.ndim == 2 and exact.ndim == 2 and other.T.shape == exact.shape:
        found.append(other.T)
    return max(found, key=lambda one: float((one * exact).sum()), default=None)


def _same_but_ones(exact: Floats, other: Floats) -> bool:
    return [n for n in exact.shape if n > 1] == [n for n in other.shape if n > 1]
