"""``fused_activations``: what only a function of single values reads is not rounded before it."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner


def model(activation: list[onnx.NodeProto], opset: int = 17) -> onnx.ModelProto:
    """conv, then the activation from ``a`` to ``b``, then conv and a pooled classifier."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "w2": (8, 8, 1, 1), "wg": (8, 10)}
    weights = [
        onnx.numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    numbers = {"three": 3.0, "six": 6.0, "zero": 0.0}
    weights += [onnx.numpy_helper.from_array(np.float32(v), k) for k, v in numbers.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first"),
        *activation,
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "wg"], ["y"], name="head"),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "g", [given], [made], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


HARD_SWISH = [helper.make_node("HardSwish", ["a"], ["b"], name="act")]
DECOMPOSED = [
    helper.make_node("Add", ["a", "three"], ["a3"], name="add"),
    helper.make_node("Clip", ["a3", "zero", "six"], ["a6"], name="clip"),
    helper.make_node("Mul", ["a", "a6"], ["am"], name="mul"),
    helper.make_node("Div", ["am", "six"], ["b"], name="div"),
]
SILU = [
    helper.make_node("Sigmoid", ["a"], ["s"], name="gate"),
    helper.make_node("Mul", ["a", "s"], ["b"], name="act"),
]
ELU = [helper.make_node("Elu", ["a"], ["b"], name="act")]
ACTIVATIONS = {"hardswish": HARD_SWISH, "decomposed": DECOMPOSED, "silu": SILU, "elu": ELU}


class Images(list[Any]):
    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        super().__init__([rng.normal(0, 1, (4, 3, 16, 16)).astype(np.float32) for _ in range(4)])


def quantized(proto: onnx.ModelProto, **fields: Any) -> onnx.ModelProto:
    made: onnx.ModelProto = get_engine("quantlab").quantize(
        Model.of(proto), Recipe(placement="widest", **fields), Images()
    )
    return made


def readers(proto: onnx.ModelProto, name: str) -> set[str]:
    return {node.op_type for node in proto.graph.node if name in node.input}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_convolution_before_gives_floats(name: str) -> None:
    proto = model(ACTIVATIONS[name])
    fused = quantized(proto, fused_activations=True, operators="standard")
    (first,) = [node for node in fused.graph.node if node.name == "first"]
    assert "QuantizeLinear" not in readers(fused, first.output[0])
    (second,) = [node for node in fused.graph.node if node.name == "second"]
    made_by = {name: node.op_type for node in fused.graph.node for name in node.output}
    assert {made_by[name] for name in second.input[:2]} == {"DequantizeLinear"}
    assert not any(node.domain for node in fused.graph.node)


@pytest.mark.parametrize("name", ["hardswish", "decomposed"])
def test_a_hard_swish_is_one_operator(name: str) -> None:
    fused = quantized(model(ACTIVATIONS[name]), fused_activations=True, operators="standard")
    assert [n.op_type for n in fused.graph.node].count("HardSwish") == 1
    assert not {"HardSigmoid", "Clip", "Div"} & {n.op_type for n in fused.graph.node}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_answers_are_near(name: str, runtime: Any) -> None:
    proto = model(ACTIVATIONS[name])
    images = np.concatenate(Images())
    answers = []
    for each in (proto, quantized(proto, fused_activations=True, operators="standard")):
        with Runner(each, runtime=runtime, threads=1) as run:
            answers.append(run(images))
    noise = np.square(answers[0] - answers[1]).mean() / np.square(answers[0]).mean()
    assert noise < 1e-2


def test_what_something_else_reads_too_is_rounded() -> None:
    proto = model([*HARD_SWISH, helper.make_node("Sigmoid", ["a"], ["aside"], name="gate")])
    proto.graph.node[-4].input[0] = "sum"
    proto.graph.node.insert(3, helper.make_node("Conv", ["a", "w2"], ["d"], name="other"))
    proto.graph.node.insert(4, helper.make_node("Add", ["b", "d"], ["sum"], name="both"))
    del proto.graph.node[2]
    fused = quantized(proto, fused_activations=True, operators="standard")
    (first,) = [node for node in fused.graph.node if node.name == "first"]
    assert readers(fused, first.output[0]) == {"QuantizeLinear"}


def test_it_goes_with_qdq() -> None:
    with pytest.raises(ValueError, match="fused_activations"):
        Recipe(format="qoperator", fused_activations=True)
