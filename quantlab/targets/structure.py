"""Rules about the graph: which operators, and where its quantizers are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from quantlab.targets.operators import KEEPING, TABLE
from quantlab.targets.target import Found, TargetRule

if TYPE_CHECKING:
    import onnx

    from quantlab.targets.graph import Encoding, QuantizedGraph

STANDARD = ("", "ai.onnx")


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _integer_operators(graph: QuantizedGraph) -> Iterator[Found]:
    for node in graph.nodes:
        integer = node.op_type.startswith(("QLinear", "QGemm", "DynamicQuantize"))
        if integer or "Integer" in node.op_type:
            yield _name(node), f"{node.op_type} is an operator on integers"


qdq_format = TargetRule(
    "qdq-format",
    "quantize with format: qdq and static ranges, so that operators on floats stand between "
    "QuantizeLinear and DequantizeLinear",
    _integer_operators,
)


def _own_operators(graph: QuantizedGraph) -> Iterator[Found]:
    for node in graph.nodes:
        if node.domain not in STANDARD:
            yield _name(node), f"{node.domain}.{node.op_type} is no standard operator"


standard_operators = TargetRule(
    "standard-operators", "quantize with operators: standard", _own_operators
)


def _different_pairs(graph: QuantizedGraph) -> Iterator[Found]:
    written = {q.tensor: q for q in graph.encodings if q.node.op_type == "QuantizeLinear"}
    for found in graph.encodings:
        maker = written.get(found.tensor)
        reads = found.node.op_type == "DequantizeLinear"
        if reads and maker is not None and not found.same_as(maker):
            yield (
                _name(found.node),
                f"{found.tensor} is written with {maker.words} and read with {found.words}",
            )


one_encoding = TargetRule(
    "one-encoding", "quantize with operators: standard: one scale a tensor", _different_pairs
)


def _half_quantized(graph: QuantizedGraph) -> Iterator[Found]:
    for layer in graph.layers:
        data, weight = graph.comes_from(layer.data), layer.weight
        between = data is not None and any(map(graph.goes_to, layer.node.output))
        if weight is None and between:
            yield _name(layer.node), "it stands between two quantizers with weights in floats"
        if weight is not None and data is None:
            yield _name(layer.node), "its weights are quantized, but its input is in floats"


whole_layers = TargetRule(
    "whole-layers",
    "quantize both input and weights of a layer, or leave it out with exclude",
    _half_quantized,
)


def _float_layers(graph: QuantizedGraph) -> Iterator[Found]:
    for layer in graph.layers:
        if layer.weight is None:
            yield _name(layer.node), f"{layer.node.op_type} multiplies in floats"


every_layer = TargetRule(
    "every-layer", "quantize with placement: widest and nothing under exclude", _float_layers
)


def _float_outputs(graph: QuantizedGraph) -> Iterator[Found]:
    for layer in graph.layers:
        quantized = layer.weight is not None and graph.comes_from(layer.data) is not None
        made = layer.node.output[0]
        if quantized and layer.is_conv and made not in graph.outputs and not graph.goes_to(made):
            yield _name(layer.node), "its output is not quantized"


quantized_outputs = TargetRule(
    "quantized-outputs",
    "quantize the output of a convolution, without which no integer kernel runs it",
    _float_outputs,
)


def _gaps(graph: QuantizedGraph) -> Iterator[Found]:
    """Operators between integers that are not quantized themselves: their inputs are, and what
    another such operator makes of their output is."""
    for node in graph.nodes:
        if node.op_type not in TABLE or node.domain not in STANDARD or not graph.data_inputs(node):
            continue
        reads = [graph.read_from(name) for name in graph.data_inputs(node)]
        whole = all(q is not None for q in reads)
        if whole and not any(map(graph.goes_to, node.output)) and _meets_more(graph, node):
            yield _name(node), f"{node.op_type} runs in floats between two quantizers"


def _meets_more(graph: QuantizedGraph, node: onnx.NodeProto) -> bool:
    readers = [r for name in node.output for r in graph.read_by.get(name, [])]
    return any(
        reader.op_type in TABLE
        and (any(map(graph.goes_to, reader.output)) or _meets_more(graph, reader))
        for reader in readers
    )


no_gaps = TargetRule("no-gaps", "quantize with placement: widest", _gaps)


def _residuals(graph: QuantizedGraph) -> Iterator[tuple[onnx.NodeProto, list[str]]]:
    """Sums of two activations for a quantized reader."""
    for node in graph.nodes:
        reads = graph.data_inputs(node) if node.op_type == "Add" else []
        if len(set(reads)) == 2 and graph.goes_to(node.output[0]):
            yield node, reads


def _float_residuals(graph: QuantizedGraph) -> Iterator[Found]:
    for node, reads in _residuals(graph):
        if not any(graph.comes_from(name) for name in reads):
            yield _name(node), "neither of its inputs is quantized"


residual_inputs = TargetRule(
    "residual-inputs",
    "put QuantizeLinear and DequantizeLinear before the input of a sum that comes past layers",
    _float_residuals,
)


def _split_sums(graph: QuantizedGraph) -> Iterator[Found]:
    for node, reads in _residuals(graph):
        encodings = [graph.read_from(name) for name in reads]
        layers = [q for q in encodings if q is not None and _of_layer_alone(graph, q)]
        if all(encodings) and layers:
            yield _name(node), f"{layers[0].tensor} is rounded before it is added"


def _of_layer_alone(graph: QuantizedGraph, encoding: Encoding) -> bool:
    """Whether the integers are a layer's own output, for one reader."""
    written = graph.made_by.get(encoding.tensor)
    maker = graph.made_by.get(written.input[0]) if written is not None else None
    layers = {id(layer.node) for layer in graph.layers}
    single = all(
        len(graph.read_by.get(name, [])) == 1 for name in (encoding.tensor, encoding.node.output[0])
    )
    return maker is not None and id(maker) in layers and maker.op_type == "Conv" and single


fused_sums = TargetRule(
    "fused-sums",
    "quantize with fused_sums: true: the convolution before a sum is then computed with it",
    _split_sums,
)


def _changed_scales(graph: QuantizedGraph, operators: tuple[str, ...]) -> Iterator[Found]:
    for node in graph.nodes:
        if node.op_type not in operators or node.domain not in STANDARD:
            continue
        reads = [q for n in graph.data_inputs(node) if (q := graph.read_from(n)) is not None]
        made = [q for n in node.output if (q := graph.quantized_at_once(n)) is not None]
        for before in reads:
            for after in made:
                if not before.same_as(after):
                    yield (
                        _name(node),
                        f"{node.op_type} reads {before.words} and makes {after.words}",
                    )


same_scale_moves = TargetRule(
    "same-scale-moves",
    "give what only moves or selects numbers its input's scale and zero point",
    lambda graph: _changed_scales(graph, (*KEEPING, "Resize")),
)
same_scale_joins = TargetRule(
    "same-scale-joins",
    "quantize with shared_scales: true",
    lambda graph: _changed_scales(graph, ("Concat", "AveragePool")),
)
