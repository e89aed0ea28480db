from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from quantlab.errors import ModelError
from quantlab.inspect.kernels import executed_graph
from quantlab.inspect.steps import Steps
from quantlab.runtime.runner import Runner


def diamond() -> onnx.ModelProto:
    """y = relu(x + 1) + (x + 1) · 2, its nodes out of order."""
    nodes = [
        helper.make_node("Add", ["b", "c"], ["y"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Mul", ["a", "two"], ["c"]),
        helper.make_node("Add", ["x", "one"], ["a"]),
    ]
    floats = [helper.make_tensor("one", 1, [], [1.0]), helper.make_tensor("two", 1, [], [2.0])]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None]) for n in "xy"]
    graph = helper.make_graph(nodes, "diamond", ends[:1], ends[1:], floats)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


X = np.array([-3, 0, 2], np.float32)


@pytest.mark.parametrize("changed", [[], ["a"], ["b", "c"], ["a", "b", "c", "y"]])
def test_unchanged_it_is_the_graph(changed: list[str]) -> None:
    assert np.array_equal(Steps(diamond(), changed)(X, {}), np.maximum(X + 1, 0) + (X + 1) * 2)


def test_a_change_reaches_all_later_nodes() -> None:
    steps = Steps(diamond(), ["a", "c"])
    seen: list[Any] = []

    def change(given: Any, made: Any) -> Any:
        seen.append((given, made))
        return made * 10

    assert np.array_equal(steps(X, {"a": change}), np.maximum(10 * (X + 1), 0) + 20 * (X + 1))
    assert np.array_equal(seen[0][0], X)
    assert np.array_equal(seen[0][1], X + 1)
    assert np.array_equal(steps(X, {"c": lambda _, made: made * 0}), np.maximum(X + 1, 0))


def test_a_cycle_is_said() -> None:
    proto = diamond()
    proto.graph.node[3].input[1] = "y"
    with pytest.raises(ModelError, match="cycle"):
        Steps(proto, [])


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_a_quantized_model(twins: Any, form: str) -> None:
    pair = twins("ort", form)
    proto = executed_graph(pair.int8.path, optimization="extended")
    convs = [n.output[0] for n in proto.graph.node if n.op_type == "QLinearConv"]
    with Runner(pair.int8, optimization="extended") as run:
        expected = run(pair.images)
    assert convs
    assert np.allclose(Steps(proto, convs)(pair.images, {}), expected, atol=1e-5)
