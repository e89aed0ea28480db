"""The QOperator writer: the integer kernels themselves, as ONNX Runtime's fusion would make them.

Layers that stay in fp32 are written as in the QDQ file, with conversions around them.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from quantlab.errors import QuantizeError
from quantlab.quantize.engine.net import Layer
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.engine.qdq import (
    Parts,
    add_dequantize,
    add_layer,
    add_quantize,
    assembled,
    dequantized,
    integers,
    nothing_triple,
    quantizer,
    raw,
    written_quantizer,
)
from quantlab.quantize.operators import CONTRIB, import_contrib


def write_qoperator(plan: QuantizationPlan) -> onnx.ModelProto:
    """The whole quantized model. Raises QuantizeError unless the types are 8-bit ones."""
    if not plan.integer_bias:
        raise QuantizeError("format: qoperator knows 8-bit types only.", "Use format: qdq.")
    parts = Parts()
    if plan.net.input in plan.tensors:
        add_quantize(parts, plan, plan.net.input, plan.net.input)
    for layer in plan.net.layers:
        if layer.quantized:
            _add_integer_layer(parts, plan, layer)
        else:
            _add_float_layer(parts, plan, layer)
    for value in plan.net.proto.graph.output:
        if value.name in plan.tensors:
            add_dequantize(parts, plan, value.name, value.name)
    proto = assembled(plan, parts)
    if any(node.domain == CONTRIB for node in proto.graph.node):
        import_contrib(proto)
    return proto


def _add_float_layer(parts: Parts, plan: QuantizationPlan, layer: Layer) -> None:
    made = {name for node in parts.nodes for name in node.output}
    for name in dict.fromkeys(layer.inputs):
        if name in plan.tensors and dequantized(plan, name) not in made:
            add_dequantize(parts, plan, name)
    add_layer(parts, plan, layer)
    for name in layer.outputs:
        if name in plan.tensors:
            add_quantize(parts, plan, name, raw(plan, name))


def _add_integer_layer(parts: Parts, plan: QuantizationPlan, layer: Layer) -> None:
    if layer.moves:
        node = onnx.NodeProto.FromString(layer.node.SerializeToString())
        node.input[0] = integers(plan, layer.inputs[0])
        for i, name in enumerate(layer.outputs):
            node.output[i] = integers(plan, name)
        parts.nodes.append(node)
    elif layer.weight is not None:
        _add_weighted(parts, plan, layer)
    else:
        _add_combining(parts, plan, layer)


def _triple(parts: Parts, plan: QuantizationPlan, name: str) -> list[str]:
    return [integers(plan, name), *quantizer(parts, plan, name)]


def _add_weighted(parts: Parts, plan: QuantizationPlan, layer: Layer) -> None:
    name, names = layer.output, plan.net.names
    stored, scales = plan.stored_weight(name), plan.weights[name].scales
    conv = layer.kind == "Conv"
    stored = stored if conv else np.ascontiguousarray(stored.T)
    zeros = np.full(len(scales), plan.weight_zero).astype(plan.weight_dtype)
    weight = [
        parts.constant(names.tensor(name, "weight"), stored),
        parts.constant(names.tensor(name, "weight/scale"), scales),
        parts.constant(names.tensor(name, "weight/zero"), zeros),
    ]
    bias = parts.constant(names.tensor(name, "bias"), plan.stored_bias(name))
    source = _triple(parts, plan, layer.inputs[0])
    target = [] if layer.float_output else quantizer(parts, plan, layer.output)
    makes = [layer.output if layer.float_output else integers(plan, layer.output)]
    reads = [*source, *weight, *target, bias] if conv else [*source, *weight, bias, *target]
    if conv:
        parts.node("QLinearConv", reads, makes, layer.name)
        parts.nodes[-1].attribute.extend(layer.node.attribute)
    else:
        parts.node("QGemm", reads, makes, layer.name, domain=CONTRIB)


def _add_combining(parts: Parts, plan: QuantizationPlan, layer: Layer) -> None:
    if layer.float_output:
        _add_product(parts, plan, layer)
        return
    sources = [part for name in layer.inputs for part in _triple(parts, plan, name)]
    requantized = plan.requantizer(layer) is not None
    if requantized:  # an Add of zero
        sources += nothing_triple(parts, plan, layer)
    target = written_quantizer(parts, plan, layer.output)
    reads = [*target, *sources] if layer.kind == "Concat" else [*sources, *target]
    operator, domain = layer.row.integer or layer.kind, layer.row.domain
    parts.node(operator, reads, [integers(plan, layer.output)], layer.name, domain=domain)
    if not requantized:
        parts.nodes[-1].attribute.extend(layer.node.attribute)
    if layer.kind == "GlobalAveragePool":
        parts.nodes[-1].attribute.append(helper.make_attribute("channels_last", 0))


def _add_product(parts: Parts, plan: QuantizationPlan, layer: Layer) -> None:
    """A MatMul of two quantized tensors that gives floats."""
    sides = (_triple(parts, plan, name) for name in layer.inputs)
    reads = [name for three in zip(*sides, strict=True) for name in three]
    parts.node("MatMulIntegerToFloat", reads, [layer.output], layer.name, domain=CONTRIB)
