"""Every rule of every target: a file that keeps to it, and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import conv, floats, network, node, quantize
from onnx import helper, numpy_helper

from quantlab.targets import TARGETS
from quantlab.targets.target import TargetRule

C = 8
POINT = {"hw": floats(C, C, 1, 1, seed=3), "kw": floats(C, C, 1, 1, seed=4)}
RESIDUAL = [node("Conv", "a hw", "i_c"), node("Add", "i_c a", "m")]
PRODUCT = [node("Conv", "a hw", "i_c"), node("Mul", "i_c a", "m")]
HARD_SWISH = [node("Conv", "a hw", "i_c"), node("HardSwish", "i_c", "m")]
SILU = [node("Conv", "a hw", "i_c"), node("Sigmoid", "i_c", "i_s"), node("Mul", "i_c i_s", "m")]
JOIN = [
    node("Conv", "a hw", "i_c"),
    node("Concat", "a i_c", "i_k", axis=1),
    node("Conv", "i_k jw", "m"),
]
AVERAGE = [node("AveragePool", "a", "m", kernel_shape=[3, 3], pads=[1] * 4)]
MAXIMUM = [node("MaxPool", "a", "m", kernel_shape=[2, 2])]
Middle = list[onnx.NodeProto] | None
Change = Callable[[onnx.ModelProto], None]


@dataclass
class Made:
    """A network's int8 file by a recipe, then changed."""

    middle: Middle
    recipe: dict[str, Any]
    change: Change = lambda proto: None

    def __call__(self, folder: Path) -> onnx.ModelProto:
        more = {**POINT, "jw": floats(C, 2 * C, 1, 1)}
        proto = quantize(network(folder, self.middle, more), **self.recipe)
        self.change(proto)
        return proto


def made(middle: Middle = None, change: Change = lambda proto: None, **recipe: Any) -> Made:
    return Made(middle, recipe, change)


def stored(proto: onnx.ModelProto, name: str) -> onnx.TensorProto:
    return next(t for t in proto.graph.initializer if t.name == name)


def rewrite(proto: onnx.ModelProto, name: str, by: Callable[[Any], Any]) -> None:
    tensor = stored(proto, name)
    array = np.asarray(by(numpy_helper.to_array(tensor).copy()))
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def nodes_of(proto: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    return [n for n in proto.graph.node if n.op_type == op_type]


def dequantizer(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(n for n in nodes_of(proto, "DequantizeLinear") if n.output[0] == name)


def weight_of(proto: onnx.ModelProto, op_type: str = "Conv") -> onnx.NodeProto:
    """The DequantizeLinear of the weights of the first node of that operator."""
    return dequantizer(proto, nodes_of(proto, op_type)[0].input[1])


def weights_off_zero(proto: onnx.ModelProto) -> None:
    rewrite(proto, weight_of(proto).input[2], lambda zeros: zeros + np.int8(3))


def weights_of_minus_128(proto: onnx.ModelProto) -> None:
    rewrite(
        proto, weight_of(proto).input[0], lambda w: np.where(w == w.min(), -128, w).astype("i1")
    )


def weights_that_saturate(proto: onnx.ModelProto) -> None:
    rewrite(proto, weight_of(proto).input[0], lambda w: np.full_like(w, 100))


def weights_unsigned(proto: onnx.ModelProto) -> None:
    read = weight_of(proto)
    rewrite(proto, read.input[0], lambda w: (w.astype(np.int16) + 128).astype(np.uint8))
    rewrite(proto, read.input[2], lambda z: np.full(z.shape, 128, np.uint8))


def scales_along_inputs(proto: onnx.ModelProto) -> None:
    second = dequantizer(proto, nodes_of(proto, "Conv")[1].input[1])  # 8 inputs, 8 outputs
    second.attribute[0].i = 1


def axis_from_the_end(proto: onnx.ModelProto) -> None:
    weight_of(proto).attribute[0].i = -4


def scales_of_an_activation(proto: onnx.ModelProto) -> None:
    written = nodes_of(proto, "QuantizeLinear")[1]
    rewrite(proto, written.input[1], lambda scale: np.full(C, scale, np.float32))
    rewrite(proto, written.input[2], lambda zero: np.full(C, zero))


def one_scale(proto: onnx.ModelProto) -> None:
    for name in weight_of(proto).input[1:3]:
        rewrite(proto, name, lambda values: values[0])


def bias_with_another_scale(proto: onnx.ModelProto) -> None:
    bias = dequantizer(proto, nodes_of(proto, "Conv")[0].input[2])
    rewrite(proto, bias.input[1], lambda scale: scale * np.float32(1.5))


def weights_in_floats(proto: onnx.ModelProto) -> None:
    first = nodes_of(proto, "Conv")[0]
    proto.graph.initializer.append(numpy_helper.from_array(floats(C, 3, 3, 3), "floats"))
    first.input[1] = "floats"


def input_in_floats(proto: onnx.ModelProto) -> None:
    nodes_of(proto, "Conv")[0].input[0] = "x"


def output_in_floats(proto: onnx.ModelProto) -> None:
    """The last convolution feeds the pool as it is."""
    last = nodes_of(proto, "Conv")[-1]
    [after] = [n for n in nodes_of(proto, "QuantizeLinear") if n.input[0] == last.output[0]]
    after.input[0] = "x"
    nodes_of(proto, "GlobalAveragePool")[0].input[0] = last.output[0]


def sum_in_floats(proto: onnx.ModelProto) -> None:
    """Both inputs of the sum as they are before their quantizers."""
    made_by = {n.output[0]: n for n in proto.graph.node}
    total = nodes_of(proto, "Add")[0]
    for i, name in enumerate(total.input):
        if made_by[name].op_type == "DequantizeLinear":
            total.input[i] = made_by[made_by[name].input[0]].input[0]


def product_in_floats(proto: onnx.ModelProto) -> None:
    """A second product behind the first, without quantizers between."""
    product = nodes_of(proto, "Mul")[0]
    more = helper.make_node("Mul", [product.input[0], "between"], [product.output[0]], name="again")
    product.output[0] = "between"
    place = list(proto.graph.node).index(product) + 1
    proto.graph.node.insert(place, more)


def gate_of_one_over_255(proto: onnx.ModelProto) -> None:
    gate = nodes_of(proto, "Sigmoid")[0]
    after = next(n for n in nodes_of(proto, "QuantizeLinear") if n.input[0] == gate.output[0])
    rewrite(proto, after.input[1], lambda scale: np.float32(1 / 255))


def pool_with_a_scale_of_its_own(proto: onnx.ModelProto) -> None:
    pool = nodes_of(proto, "MaxPool")[0]
    after = next(n for n in nodes_of(proto, "QuantizeLinear") if n.input[0] == pool.output[0])
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "own"))
    after.input[1] = "own"


CASES: dict[str, tuple[str, Made, Made]] = {
    "qdq-format": ("tensorrt", made(target="tensorrt"), made(format="qoperator")),
    "standard-operators": ("widest", made(SILU, target="widest"), made(SILU, placement="widest")),
    "activation-types": ("x86", made(), made(activations="s8")),
    "weight-types": ("x86", made(), made(change=weights_unsigned)),
    "symmetric-activations": (
        "tensorrt", made(target="tensorrt"), made(activations="s8"),
    ),
    "symmetric-weights": ("x86", made(), made(change=weights_off_zero)),
    "weights-within-127": (
        "tflite", made(target="tflite"), made(change=weights_of_minus_128, target="tflite"),
    ),
    "activations-per-tensor": ("widest", made(), made(change=scales_of_an_activation)),
    "per-output-channel": ("widest", made(), made(change=scales_along_inputs)),
    "an axis counted from the end": ("widest", made(change=axis_from_the_end), made(
        change=scales_along_inputs
    )),
    "channel-weights": ("tensorrt", made(), made(change=one_scale)),
    "integer-bias": ("x86", made(), made(bias="fp32")),
    "a bias with another scale": ("tflite", made(), made(change=bias_with_another_scale)),
    "float-bias": ("tensorrt", made(bias="fp32"), made()),
    "pair-sums": ("x86", made(), made(change=weights_that_saturate)),
    "pair sums in OpenVINO": ("openvino", made(), made(change=weights_that_saturate)),
    "output-encodings": (
        "tflite", made(SILU, target="tflite"),
        made(SILU, gate_of_one_over_255, target="tflite"),
    ),
    "one-encoding": (
        "qnn", made(HARD_SWISH, target="qnn"), made(HARD_SWISH, placement="widest"),
    ),
    "whole-layers": ("x86", made(), made(change=weights_in_floats)),
    "whole layers whose input is in floats": ("tensorrt", made(), made(change=input_in_floats)),
    "every-layer": ("qnn", made(), made(exclude=("c2",))),
    "quantized-outputs": ("x86", made(), made(change=output_in_floats)),
    "no-gaps": ("widest", made(PRODUCT), made(PRODUCT, product_in_floats)),
    "residual-inputs": ("tensorrt", made(RESIDUAL), made(RESIDUAL, sum_in_floats)),
    "fused-sums": (
        "tensorrt", made(RESIDUAL, target="tensorrt"), made(RESIDUAL, activations="s8"),
    ),
    "same-scale-moves": ("x86", made(MAXIMUM), made(MAXIMUM, pool_with_a_scale_of_its_own)),
    "same-scale-joins": (
        "tflite", made(JOIN, target="tflite"), made(JOIN, activations="s8"),
    ),
    "same scales of averages": (
        "tflite", made(AVERAGE, target="tflite"), made(AVERAGE, activations="s8"),
    ),
}  # fmt: skip
OF_RULE = {
    "an axis counted from the end": "per-output-channel",
    "a bias with another scale": "integer-bias",
    "pair sums in OpenVINO": "pair-sums",
    "whole layers whose input is in floats": "whole-layers",
    "same scales of averages": "same-scale-joins",
}


def rule_of(name: str) -> TargetRule:
    target = TARGETS[CASES[name][0]]
    return next(rule for rule in target.rules if rule.name == OF_RULE.get(name, name))


@pytest.mark.parametrize("name", CASES)
def test_a_rule_finds_what_breaches_it_and_nothing_else(name: str, tmp_path: Path) -> None:
    rule = rule_of(name)
    _, keeps, breaches = CASES[name]
    for target, proto, expected in (
        (rule, keeps(tmp_path), False),
        (rule, breaches(tmp_path), True),
    ):
        assert bool(found_by(target, proto)) == expected


def found_by(rule: TargetRule, proto: onnx.ModelProto) -> list[Any]:
    from quantlab.targets.graph import QuantizedGraph

    found = list(rule.breaches(QuantizedGraph(proto)))
    assert all(b.rule == rule.name and b.node and b.problem and b.remedy for b in found)
    return found


def test_every_rule_has_a_case() -> None:
    rules = {rule.name for target in TARGETS.values() for rule in target.rules}
    assert rules == {OF_RULE.get(name, name) for name in CASES}


def scales_that_do_not_fit(proto: onnx.ModelProto) -> None:
    """As many scales as no tensor has channels, no scale at all, and fewer zero points."""
    convs = nodes_of(proto, "Conv")
    rewrite(proto, dequantizer(proto, convs[0].input[2]).input[1], lambda _: np.ones(5, np.float32))
    rewrite(proto, weight_of(proto).input[1], lambda _: np.ones(3, np.float32))
    rewrite(proto, nodes_of(proto, "QuantizeLinear")[0].input[1], lambda _: np.ones(0, np.float32))
    second = dequantizer(proto, convs[1].input[1])
    weight = stored(proto, second.input[0])
    floats_of = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), "floats")
    proto.graph.initializer.append(floats_of)
    made = helper.make_node(
        "QuantizeLinear", ["floats", "odd", *second.input[2:]], ["made"], name="made", axis=7
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(8, np.float32), "odd"))
    second.input[0], second.input[1] = "made", "odd"
    proto.graph.node.insert(0, made)


@pytest.mark.parametrize("target", TARGETS)
def test_a_file_whose_scales_do_not_fit_ends_no_rule(target: str, tmp_path: Path) -> None:
    broken = made(change=scales_that_do_not_fit)(tmp_path)
    assert isinstance(TARGETS[target].breaches(broken), tuple)


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_integers_are_read_in_both_formats(form: str, tmp_path: Path) -> None:
    """What portable: false makes, the rule of pair sums sees by QLinearConv as by Conv."""
    model = network(tmp_path, [conv("a w", "m")], {"w": np.full((C, C, 3, 3), 0.1, np.float32)})
    [rule] = [r for r in TARGETS["x86"].rules if r.name == "pair-sums"]
    assert found_by(rule, quantize(model, format=form, portable=False))
    assert not found_by(rule, quantize(model, format=form))
