"""Models that compute in float16 are prepared in float32."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quantlab.quantize.prepare import prepare

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)


def half_model(*, mixed: bool) -> onnx.ModelProto:
    """Two convolutions in float16, with a Softplus in float32 between them where it is mixed."""
    between = [
        helper.make_node("Cast", ["c"], ["c32"], to=TensorProto.FLOAT),
        helper.make_node("Softplus", ["c32"], ["s32"]),
        helper.make_node("Cast", ["s32"], ["s"], to=TensorProto.FLOAT16),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["x16", "W"], ["c"]),
        *(between if mixed else [helper.make_node("Softplus", ["c"], ["s"])]),
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float16([2]))),
        helper.make_node("Mul", ["s", "k"], ["m"]),
        helper.make_node("Conv", ["m", "V"], ["d"]),
        helper.make_node("Cast", ["d"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"W": RNG.standard_normal((4, 3, 3, 3)), "V": RNG.standard_normal((5, 4, 3, 3))}
    tensors = [numpy_helper.from_array(v.astype(np.float16), k) for k, v in weights.items()]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5, 4, 4])
    graph = helper.make_graph(nodes, "half", [given], [made], tensors)
    inner = helper.make_tensor_value_info("c", TensorProto.FLOAT16, ["N", 4, 6, 6])
    graph.value_info.append(inner)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("mixed", [False, True])
def test_it_answers_as_in_float16(mixed: bool) -> None:
    before = half_model(mixed=mixed)
    after = prepare(before)
    types = {t.data_type for t in after.graph.initializer}
    types |= {v.type.tensor_type.elem_type for v in after.graph.value_info}
    assert types == {TensorProto.FLOAT}
    assert Counter(n.op_type for n in after.graph.node) == {"Conv": 2, "Softplus": 1, "Mul": 1}
    expected, found = (ReferenceEvaluator(p).run(None, {"x": IMAGES})[0] for p in (before, after))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.05)


def test_integers_that_become_numbers_stay_so() -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["x16"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["x16", "W"], ["c"]),
        helper.make_node("Cast", ["c"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Cast", ["whole"], ["back"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["back"], ["y"], to=TensorProto.FLOAT),
    ]
    kernel = numpy_helper.from_array(np.float16(RNG.standard_normal((4, 3, 3, 3)) * 9), "W")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4, 6, 6])
    graph = helper.make_graph(nodes, "whole", [given], [made], [kernel])
    before = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    after = prepare(before)
    assert [n.op_type for n in after.graph.node] == ["Conv", "Cast", "Cast"]
    expected, found = (ReferenceEvaluator(p).run(None, {"x": IMAGES})[0] for p in (before, after))
    np.testing.assert_allclose(found, expected, atol=1)


def test_an_output_in_float16_becomes_one_in_float32() -> None:
    before = half_model(mixed=False)
    before.graph.node[-1].output[0] = "unused"
    before.graph.output[0].name = "d"
    before.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    after = prepare(before)
    assert after.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    expected, found = (ReferenceEvaluator(p).run(None, {"x": IMAGES})[0] for p in (before, after))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.05)
    ort.InferenceSession(after.SerializeToString())
