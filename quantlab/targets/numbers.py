"""Rules about integers: types, zero points, scales and weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from quantlab.targets.target import Found, TargetRule

if TYPE_CHECKING:
    from quantlab.targets.graph import Encoding, QuantizedGraph, TensorRole

PAIR = 128
"""255 times so much is the most that 16 bits hold."""


def _name(encoding: Encoding) -> str:
    return encoding.node.name or encoding.tensor


def activation_types(*types: str) -> TargetRule:
    """Activations are of one of these types."""
    return _types("activation", types)


def weight_types(*types: str) -> TargetRule:
    """Weights are of one of these types."""
    return _types("weight", types)


def _types(role: TensorRole, types: tuple[str, ...]) -> TargetRule:
    def find(graph: QuantizedGraph) -> Iterator[Found]:
        for found in graph.of_role(role):
            if found.dtype not in types:
                yield _name(found), f"{found.tensor} is {found.dtype}, not {' or '.join(types)}"

    return TargetRule(f"{role}-types", f"quantize with {role}s: {types[0]}", find)


def _asymmetric_activations(graph: QuantizedGraph) -> Iterator[Found]:
    for found in graph.of_role("activation"):
        if found.zero.any():
            first = found.zero[found.zero != 0][0]
            yield _name(found), f"the zero point of {found.tensor} is {first}, not 0"


symmetric_activations = TargetRule(
    "symmetric-activations", "quantize with symmetric: true", _asymmetric_activations
)


def _asymmetric_weights(graph: QuantizedGraph) -> Iterator[Found]:
    for found in graph.of_role("weight"):
        if found.dtype.startswith("s") and found.zero.any():
            yield _name(found), f"the zero points of {found.tensor} are not all 0"


symmetric_weights = TargetRule(
    "symmetric-weights", "quantize weights around zero: signed, zero point 0", _asymmetric_weights
)


def _beyond_127(graph: QuantizedGraph) -> Iterator[Found]:
    for found in graph.of_role("weight"):
        integers = graph.integers(found) if found.dtype == "s8" else None
        if integers is not None and integers.size and integers.min() < -127:
            yield _name(found), f"{found.tensor} holds −128"


weights_within_127 = TargetRule(
    "weights-within-127", "round weights to −127 to 127, which is half a step at most", _beyond_127
)


def _channel_activations(graph: QuantizedGraph) -> Iterator[Found]:
    for found in graph.of_role("activation"):
        if len(found.scale) > 1:
            yield _name(found), f"the activation {found.tensor} has {len(found.scale)} scales"


activations_per_tensor = TargetRule(
    "activations-per-tensor", "give an activation one scale and zero point", _channel_activations
)


def _other_axis(graph: QuantizedGraph) -> Iterator[Found]:
    for layer in graph.layers:
        if layer.weight is None or len(layer.weight.scale) == 1:
            continue
        turned = any(a.name == "transB" and a.i for a in layer.node.attribute)
        wanted = {"Conv": 0, "Gemm": 0 if turned else 1}.get(layer.node.op_type)
        if wanted is not None and layer.weight.axis not in (wanted, wanted - graph.rank(layer)):
            yield (
                layer.node.name,
                f"the scales of {layer.weight.tensor} lie along axis {layer.weight.axis}, not "
                f"along that of the outputs, {wanted}",
            )


per_output_channel = TargetRule(
    "per-output-channel", "give each output channel of a weight its scale", _other_axis
)


def _per_tensor(graph: QuantizedGraph) -> Iterator[Found]:
    for layer in graph.layers:
        weight = layer.weight
        if layer.is_conv and weight is not None and len(weight.scale) == 1:
            integers = graph.array(weight.tensor)
            if integers is None or integers.shape[0] > 1:
                yield layer.node.name, f"{weight.tensor} has one scale for all channels"


channel_weights = TargetRule("channel-weights", "quantize with per_channel: true", _per_tensor)


def _other_bias(graph: QuantizedGraph) -> Iterator[Found]:
    from numpy import allclose

    for layer in graph.layers:
        data, weight = graph.comes_from(layer.data), layer.weight
        if not layer.bias or data is None or weight is None:
            continue
        bias, name = graph.read_from(layer.bias), layer.node.name
        if bias is None:
            yield name, f"its bias {layer.bias} is in floats"
        elif bias.dtype != "s32" or bias.zero.any():
            yield name, f"its bias is {bias.dtype} with {bias.words}"
        else:
            sizes = {len(q.scale) for q in (bias, data, weight)} - {1}
            wanted = data.scale * weight.scale if len(sizes) < 2 else bias.scale * 0
            if not allclose(bias.scale, wanted, rtol=1e-4, atol=0):
                yield name, "the scale of its bias is not its input's times its weights'"


integer_bias = TargetRule(
    "integer-bias",
    "quantize with bias: int32, which is what the integer kernel adds it as",
    _other_bias,
)


def _integer_bias(graph: QuantizedGraph) -> Iterator[Found]:
    for found in graph.encodings:
        if found.node.op_type == "DequantizeLinear" and found.dtype == "s32":
            yield _name(found), f"{found.tensor} is int32, which no DequantizeLinear takes here"


float_bias = TargetRule("float-bias", "quantize with bias: fp32", _integer_bias)


def pair_sums(*, across_positions: bool) -> TargetRule:
    """No two neighbouring products of u8 and s8 can add up to more than 16 bits hold.

    Neighbours are input channels of one kernel position, then (``across_positions``) of the next.
    """

    def find(graph: QuantizedGraph) -> Iterator[Found]:
        for name, rows, channels in graph.weight_rows():
            parts = rows if across_positions else rows.reshape(-1, channels)
            even = parts[:, : parts.shape[1] // 2 * 2].reshape(-1, 2)
            high, low = even.clip(min=0).sum(1), even.clip(max=0).sum(1)
            count = int(((high > PAIR) | (low < -PAIR)).sum())
            if count:
                yield name, f"{count:,} of {len(even):,} pairs of weights can go over 16 bits"

    return TargetRule("pair-sums", "quantize with portable: true", find)


def output_encodings(encodings: dict[str, dict[str, tuple[float, int]]]) -> TargetRule:
    """The outputs of some operators have a scale and zero point that the target fixes: by the type
    of the integers, then by operator."""

    def find(graph: QuantizedGraph) -> Iterator[Found]:
        for node in graph.nodes:
            after = [graph.quantized_at_once(name) for name in node.output[:1]]
            for found in (q for q in after if q is not None):
                wanted = encodings.get(found.dtype, {}).get(node.op_type)
                if wanted is not None and (found.scale[0], found.zero[0]) != wanted:
                    yield (
                        node.name,
                        f"its output has {found.words}, not scale {wanted[0]:.6g}, zero point "
                        f"{wanted[1]}",
                    )

    return TargetRule("output-encodings", "quantize with operators: standard", find)
