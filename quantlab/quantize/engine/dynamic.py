"""The writer of files with dynamic activation ranges: products on integers, the rest in fp32.

What a product reads is quantized as it comes, by the least and the greatest value of the batch
(DynamicQuantizeLinear), so that no range is too narrow or too wide for an image. ONNX Runtime fuses
each product into one DynamicQuantizeMatMul. The range is the whole batch's: an image's answers
depend a little on what it is in a batch with.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx

from quantlab.model import graph as g
from quantlab.quantize.engine.net import Layer
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.engine.qdq import Parts, add_layer, assembled


def write_dynamic(plan: QuantizationPlan) -> onnx.ModelProto:
    """The whole quantized model. The plan's ranges are those that the weights were fitted with;
    the file holds none."""
    parts, ranged = Parts(), set[str]()
    floats = replace(plan, tensors={})
    for layer in plan.net.layers:
        if not layer.quantized:
            add_layer(parts, floats, layer)
            continue
        if layer.inputs[0] not in ranged:
            _add_quantizer(parts, plan, layer.inputs[0])
            ranged.add(layer.inputs[0])
        _add_product(parts, plan, layer)
    return assembled(plan, parts)


def _quantized(plan: QuantizationPlan, name: str) -> list[str]:
    """The names of a tensor's integers, scale and zero point."""
    return [plan.net.names.tensor(name, part) for part in ("quantized", "scale", "zero")]


def _add_quantizer(parts: Parts, plan: QuantizationPlan, name: str) -> None:
    label = plan.net.names.node(name, "DynamicQuantizeLinear")
    parts.node("DynamicQuantizeLinear", [name], _quantized(plan, name), label)


def _add_product(parts: Parts, plan: QuantizationPlan, layer: Layer) -> None:
    """(integers × integers) · (scale · scales) + bias, in the order that ONNX Runtime fuses."""
    name, names, rounded = layer.output, plan.net.names, plan.weights[layer.output]
    values, scale, zero = _quantized(plan, layer.inputs[0])

    def constant(part: str, value: g.Array) -> str:
        return parts.constant(names.tensor(name, part), value)

    def made(op: str, reads: list[str], part: str, node: str, **more: int) -> str:
        parts.node(op, reads, [names.tensor(name, part)], names.node(name, node), **more)
        return names.tensor(name, part)

    reads = [values, constant("weight", np.ascontiguousarray(plan.stored_weight(name).T)), zero]
    if plan.weight_zero:
        reads.append(constant("weight/zero", np.array(plan.weight_zero, plan.weight_dtype)))
    sums = names.tensor(name, "product/sums")
    parts.node("MatMulInteger", reads, [sums], layer.name)
    floats = made("Cast", [sums], "product/floats", "product/Cast", to=onnx.TensorProto.FLOAT)
    both = [scale, constant("weight/scale", rounded.scales)]
    factor = made("Mul", both, "product/scale", "product/scale/Mul")
    product = made("Mul", [floats, factor], "product", "product/Mul")
    end = name if layer.activation is None else names.tensor(name, "before")
    bias = constant("bias", rounded.bias.astype(np.float32))
    parts.node("Add", [product, bias], [end], names.node(name, "product/Add"))
    if layer.activation is not None:
        after = onnx.NodeProto.FromString(layer.activation.SerializeToString())
        after.input[0], after.output[0] = end, name
        parts.nodes.append(after)
