"""The QDQ writer: fp32 operators between QuantizeLinear and DequantizeLinear.

ONNX Runtime fuses each such group into one integer kernel when it loads the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper

from quantlab.model import graph as g
from quantlab.model.large import tensor_of
from quantlab.quantize.engine.grid import Affine
from quantlab.quantize.engine.net import Layer
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.operators import operators

INT16_OPSET = 21
"""QuantizeLinear and DequantizeLinear know 16-bit and 4-bit integers from here on."""
_PASSED = (*operators("moves"), "Relu", "Clip")
"""ONNX Runtime moves quantizers past these."""


@dataclass
class Parts:
    """Nodes and weights of a graph under construction."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def constant(self, name: str, value: g.Array) -> str:
        """Adds the weight and returns its name."""
        self.weights[name] = tensor_of(np.asarray(value), name)
        return name

    def node(self, op: str, reads: list[str], makes: list[str], name: str, **more: Any) -> None:
        """Adds a node."""
        self.nodes.append(helper.make_node(op, reads, makes, name=name, **more))


def write_qdq(plan: QuantizationPlan) -> onnx.ModelProto:
    """The whole quantized model. Equal plans give equal bytes."""
    parts = Parts()
    outputs = {v.name for v in plan.net.proto.graph.output}
    for name in (v.name for v in plan.net.proto.graph.input):
        if name in plan.tensors:
            add_quantize(parts, plan, name, name)
            add_dequantize(parts, plan, name)
    for layer in plan.net.layers:
        add_layer(parts, plan, layer)
        for name in layer.outputs:
            if name in plan.tensors:
                add_quantize(parts, plan, name, raw(plan, name))
                target = name if name in outputs else dequantized(plan, name)
                add_dequantize(parts, plan, name, target)
                if name in outputs:
                    parts.node(
                        "Identity",
                        [name],
                        [dequantized(plan, name)],
                        plan.net.names.node(name, "copy"),
                    )
    return assembled(plan, parts)


def assembled(plan: QuantizationPlan, parts: Parts) -> onnx.ModelProto:
    """The prepared model with these nodes and weights in place of its own."""
    proto = g.without_initializers(plan.net.proto)
    del proto.graph.value_info[:]
    read = {name for node in parts.nodes for name in g.node_reads(node)}
    read.update(v.name for v in proto.graph.output)
    proto.graph.initializer.extend(t for t in plan.net.proto.graph.initializer if t.name in read)
    proto.graph.initializer.extend(parts.weights.values())
    g.set_nodes(proto.graph, parts.nodes)
    g.prune(proto.graph)
    g.name_nodes(proto.graph)
    return proto


def raw(plan: QuantizationPlan, name: str) -> str:
    """The name of a tensor before its quantizer."""
    return plan.net.names.tensor(name, "fp32")


def integers(plan: QuantizationPlan, name: str) -> str:
    """The name of a tensor as integers."""
    return plan.net.names.tensor(name, "quantized")


def dequantized(plan: QuantizationPlan, name: str) -> str:
    """The name of a tensor after its quantizer."""
    return plan.net.names.tensor(name, "dequantized")


def add_quantize(parts: Parts, plan: QuantizationPlan, name: str, source: str) -> None:
    """``source`` → the tensor's integers."""
    reads = [source, *written_quantizer(parts, plan, name)]
    parts.node(
        "QuantizeLinear", reads, [integers(plan, name)], plan.net.names.node(name, "QuantizeLinear")
    )


def add_dequantize(parts: Parts, plan: QuantizationPlan, name: str, target: str = "") -> None:
    """The tensor's integers → real numbers."""
    reads = [integers(plan, name), *quantizer(parts, plan, name)]
    makes = [target or dequantized(plan, name)]
    parts.node("DequantizeLinear", reads, makes, plan.net.names.node(name, "DequantizeLinear"))


def quantizer(parts: Parts, plan: QuantizationPlan, name: str) -> list[str]:
    """The names of the scale and zero point with which the tensor's integers are read."""
    return _constants(parts, plan, name, "", plan.tensors[name])


def written_quantizer(parts: Parts, plan: QuantizationPlan, name: str) -> list[str]:
    """Those with which its integers are made: others only for a HardSigmoid."""
    maker = plan.net.producers.get(name)
    other = plan.requantizer(maker) if maker is not None and maker.quantized else None
    if other is None:
        return quantizer(parts, plan, name)
    return _constants(parts, plan, name, "requantized/", other)


def _constants(
    parts: Parts, plan: QuantizationPlan, name: str, prefix: str, by: Affine
) -> list[str]:
    names = plan.net.names
    return [
        parts.constant(names.tensor(name, f"{prefix}scale"), np.array(by.scale, np.float32)),
        parts.constant(names.tensor(name, f"{prefix}zero"), np.array(by.zero, plan.grid.dtype)),
    ]


def add_layer(parts: Parts, plan: QuantizationPlan, layer: Layer) -> None:
    """The layer in fp32 on dequantized inputs and weights; makes ``raw`` of quantized outputs.

    A quantized layer's activation is left to its output's quantizer, unless that is symmetric.
    """
    clips = layer.quantized and layer.output in plan.tensors and not plan.grid.symmetric
    tail = None if clips else layer.activation
    main = _renamed(layer.node, plan)
    for i, value in layer.constants.items():
        main.input[i] = parts.constant(plan.net.names.tensor(layer.output, f"constant/{i}"), value)
    ends = [raw(plan, n) if n in plan.tensors else n for n in layer.outputs]
    before = plan.net.names.tensor(layer.output, "before") if layer.outputs else ""
    if layer.output in plan.weights:
        _use_quantized_weights(parts, plan, layer, main)
    if layer.quantized and plan.requantizer(layer) is not None:
        main.CopyFrom(_plus_nothing(parts, plan, layer, main))
    if layer.kind == "Concat" and layer.quantized and plan.net.shared_scales:
        _join_alike(parts, plan, layer, main)
    if layer.activation is not None or len(layer.outputs) == 1:
        main.output[0] = ends[0] if tail is None else before
    else:
        names = dict(zip(layer.outputs, ends, strict=True))
        for i, name in enumerate(main.output):
            main.output[i] = names.get(name, name)
    parts.nodes.append(main)
    if tail is not None:
        after = onnx.NodeProto.FromString(tail.SerializeToString())
        after.input[0], after.output[0] = main.output[0], ends[0]
        parts.nodes.append(after)
    if not layer.quantized and _would_be_quantized(plan, layer):
        _keep_fp32(parts, plan, parts.nodes[-1], layer.output)


def _plus_nothing(
    parts: Parts, plan: QuantizationPlan, layer: Layer, main: onnx.NodeProto
) -> onnx.NodeProto:
    """An Add of zero: of the integer kernels with two quantizers the fastest."""
    names, name = plan.net.names, layer.output
    nothing = names.tensor(name, "requantized/nothing")
    label = names.node(name, "requantized/DequantizeLinear")
    parts.node("DequantizeLinear", nothing_triple(parts, plan, layer), [nothing], label)
    return helper.make_node("Add", [main.input[0], nothing], main.output, name=main.name)


def _join_alike(parts: Parts, plan: QuantizationPlan, layer: Layer, main: onnx.NodeProto) -> None:
    """What a Concat reads with another scale than it makes is quantized anew before it."""
    names, target = plan.net.names, quantizer(parts, plan, layer.output)
    made = {name for node in parts.nodes for name in node.output}
    for i, name in enumerate(layer.node.input):
        if plan.tensors[name] == plan.tensors[layer.output]:
            continue
        whole, floats = (
            names.beside(name, layer.output, part) for part in ("integers", "dequantized")
        )
        if floats not in made:
            made.add(floats)
            parts.node("QuantizeLinear", [main.input[i], *target], [whole], whole)
            parts.node("DequantizeLinear", [whole, *target], [floats], floats)
        main.input[i] = floats


def nothing_triple(parts: Parts, plan: QuantizationPlan, layer: Layer) -> list[str]:
    """Zero as an integer, with scale and zero point; of four dimensions where the layer reads a
    convolution, so that ONNX Runtime can change the layout of both."""
    source = layer.inputs[0]
    maker = plan.net.producers.get(source)
    rank = maker.weight.ndim if maker is not None and maker.weight is not None else 0
    value = np.full([1] * rank, plan.tensors[source].zero, plan.grid.dtype)
    stored = plan.net.names.tensor(layer.output, "requantized/integer")
    return [parts.constant(stored, value), *quantizer(parts, plan, source)]


def _would_be_quantized(plan: QuantizationPlan, layer: Layer) -> bool:
    """Whether ONNX Runtime would quantize a layer that is left in fp32: one with weights between
    two quantizers, and a MaxPool before one, which it runs on integers a hundred times slower
    where no int8 convolution is before it."""
    if layer.kind == "MaxPool":
        return layer.output in plan.tensors
    between = layer.row.rounds_weights and _meets_quantizer(plan, layer.output)
    return between and _reads_quantized(plan, layer)


def _meets_quantizer(plan: QuantizationPlan, name: str) -> bool:
    """Whether the tensor is quantized, at once or after having been moved about or clipped."""
    movers = (r for r in plan.net.consumers.get(name, []) if g.is_standard(r.node, *_PASSED))
    return name in plan.tensors or any(
        _meets_quantizer(plan, made) for mover in movers for made in mover.outputs
    )


def _reads_quantized(plan: QuantizationPlan, layer: Layer) -> bool:
    """Whether what the layer reads is quantized, or was before it was moved about or clipped."""
    if any(name in plan.tensors for name in layer.inputs):
        return True
    makers = (plan.net.producers.get(name) for name in layer.inputs)
    movers = (m for m in makers if m is not None and g.is_standard(m.node, *_PASSED))
    return any(_reads_quantized(plan, mover) for mover in movers)


def _keep_fp32(parts: Parts, plan: QuantizationPlan, node: onnx.NodeProto, name: str) -> None:
    """A Max with the least float between the node and its output's quantizer.

    ONNX Runtime quantizes fp32 weights by itself, to the nearest, wherever it finds a convolution
    between two quantizers, and it moves quantizers up; a layer left in fp32 is to stay as it is.
    """
    names = plan.net.names
    least = parts.constant(names.least, np.array(np.finfo(np.float32).min))
    kept = names.tensor(name, "fp32/kept")
    parts.node("Max", [kept, least], [node.output[0]], names.node(name, "fp32/Max"))
    node.output[0] = kept


def _renamed(node: onnx.NodeProto, plan: QuantizationPlan) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    reads = (name for name in g.node_reads(node) if name in plan.tensors)
    g.rename_node_reads(copy, {name: dequantized(plan, name) for name in reads})
    return copy


def _use_quantized_weights(
    parts: Parts, plan: QuantizationPlan, layer: Layer, main: onnx.NodeProto
) -> None:
    name, names = layer.output, plan.net.names
    weight = names.tensor(name, "weight")
    stored, scales = plan.stored_weight(name), plan.weights[name].scales
    zeros = np.full(len(scales), plan.weight_zero).astype(plan.weight_dtype)
    _add_constant(parts, plan, name, "weight", (stored, scales, zeros))
    del main.input[1:]
    main.input.extend([weight, _bias(parts, plan, name)])
    if main.op_type == "Gemm":
        attributes = [a for a in main.attribute if a.name != "transB"]
        del main.attribute[:]
        main.attribute.extend([*attributes, helper.make_attribute("transB", 1)])


def _bias(parts: Parts, plan: QuantizationPlan, name: str) -> str:
    names = plan.net.names
    bias = names.tensor(name, "bias")
    if not plan.integer_bias:
        return parts.constant(bias, plan.weights[name].bias.astype(np.float32))
    stored = plan.stored_bias(name)
    values = (stored, plan.bias_scales(name), np.zeros_like(stored))
    _add_constant(parts, plan, name, "bias", values)
    return bias


def _add_constant(
    parts: Parts, plan: QuantizationPlan, name: str, part: str, values: Sequence[g.Array]
) -> None:
    """Integers with scales and zero points along their first axis, or one of each, dequantized."""
    names, (stored, scales, zeros) = plan.net.names, values
    if plan.per_tensor:
        scales, zeros = scales[0], zeros[0]
    each = zip(("quantized", "scale", "zero"), (stored, scales, zeros), strict=True)
    reads = [parts.constant(names.tensor(name, f"{part}/{what}"), value) for what, value in each]
    label, axis = (
        names.node(name, f"{part}/DequantizeLinear"),
        {} if plan.per_tensor else {"axis": 0},
    )
    parts.node("DequantizeLinear", reads, [names.tensor(name, part)], label, **axis)


def one_layer(
    plan: QuantizationPlan, layer: Layer, types: Mapping[str, np.dtype[np.generic]]
) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A model of this layer alone, and the name of its input (value) for each tensor it reads.

    Quantized tensors go in and come out as integers; ``types`` are those of what goes in.
    """
    parts = Parts()
    feeds = {n: integers(plan, n) if n in plan.tensors else n for n in layer.inputs}
    given = [
        helper.make_tensor_value_info(f, helper.np_dtype_to_tensor_dtype(types[n]), None)
        for n, f in feeds.items()
    ]
    for name in feeds:
        if name in plan.tensors:
            add_dequantize(parts, plan, name)
    add_layer(parts, plan, layer)
    made = []
    for name in layer.outputs:
        if name in plan.tensors:
            add_quantize(parts, plan, name, raw(plan, name))
        made.append(
            onnx.ValueInfoProto(name=integers(plan, name) if name in plan.tensors else name)
        )
    needed = {name for node in parts.nodes for name in g.node_reads(node)}
    weights = [t for t in plan.net.proto.graph.initializer if t.name in needed - set(parts.weights)]
    graph = helper.make_graph(
        parts.nodes, layer.name, given, made, [*weights, *parts.weights.values()]
    )
    source = plan.net.proto
    proto = helper.make_model(graph, opset_imports=source.opset_import)
    proto.ir_version = source.ir_version
    return proto, feeds
