"""The folded graph against the same layers with BatchNormalization, as ONNX Runtime has it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import FetchError
from quantlab.fetch.builders.convnet import BatchNorm, ConvNet, fold_batch_norm

EPSILON = 1e-3
State = dict[str, NDArray[np.float32]]


def random_state(seed: int = 0) -> State:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return rng.normal(size=shape).astype(np.float32)

    state = {"stem.weight": normal(6, 3, 3, 3), "deep.weight": normal(6, 1, 5, 5)}
    for norm in ("stem_norm", "deep_norm"):
        state |= {f"{norm}.{part}": normal(6) for part in ("weight", "bias", "running_mean")}
        state[f"{norm}.running_var"] = rng.uniform(0.1, 2, 6).astype(np.float32)
        state[f"{norm}.num_batches_tracked"] = np.array(3)
    return state | {"head.weight": normal(4, 6), "head.bias": normal(4)}


def folded(state: State) -> onnx.ModelProto:
    net = ConvNet(state, epsilon=EPSILON)
    x = net.conv("input", "stem", "stem_norm", (6, 3, 3, 3), stride=2, pads=(0, 1))
    y = net.conv(x, "deep", "deep_norm", (6, 1, 5, 5), pads=(2, 2), groups=6, relu6=False)
    net.classifier(net.add(x, y, "sum"), "head", 6, 4)
    return net.model("tiny", opset=13, size=8, classes=4)


def unfolded(state: State) -> onnx.ModelProto:
    """The same network written out with BatchNormalization."""
    norm = ("weight", "bias", "running_mean", "running_var")

    def batch_norm(x: str, name: str, y: str) -> onnx.NodeProto:
        inputs = [x, *(f"{name}.{part}" for part in norm)]
        return helper.make_node("BatchNormalization", inputs, [y], epsilon=EPSILON)

    nodes = [
        helper.make_node(
            "Conv", ["input", "stem.weight"], ["a"], pads=[0, 0, 1, 1], strides=[2, 2]
        ),
        batch_norm("a", "stem_norm", "b"),
        helper.make_node("Clip", ["b", "low", "high"], ["c"]),
        helper.make_node("Conv", ["c", "deep.weight"], ["d"], pads=[2, 2, 2, 2], group=6),
        batch_norm("d", "deep_norm", "e"),
        helper.make_node("Add", ["c", "e"], ["f"]),
        helper.make_node("ReduceMean", ["f"], ["g"], axes=[2, 3], keepdims=0),
        helper.make_node("Gemm", ["g", "head.weight", "head.bias"], ["output"], transB=1),
    ]
    weights = {k: v for k, v in state.items() if not k.endswith("tracked")}
    weights |= {"low": np.array(0, np.float32), "high": np.array(6, np.float32)}
    graph = helper.make_graph(
        nodes,
        "unfolded",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(a, n) for n, a in weights.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(proto: onnx.ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: NDArray[np.float32] = session.run(None, {"input": images})[0]
    return result


def test_folding_changes_nothing() -> None:
    state = random_state()
    images = np.random.default_rng(1).normal(size=(3, 3, 8, 8)).astype(np.float32)
    got, expected = run(folded(state), images), run(unfolded(state), images)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_folding_one_channel_by_hand() -> None:
    norm = BatchNorm(*(np.array([v], np.float32) for v in (6.0, 1.0, 5.0, 8.0)))
    weight, bias = fold_batch_norm(np.full((1, 1, 1, 1), 2, np.float32), norm, epsilon=1.0)
    assert weight.item() == 4.0
    assert bias.item() == -9.0
    assert weight.dtype == bias.dtype == np.float32


def test_the_graph_is_a_classifier_without_batch_norm() -> None:
    proto = folded(random_state())
    assert {n.op_type for n in proto.graph.node} == {
        "Conv", "Clip", "Add", "GlobalAveragePool", "Flatten", "Gemm"
    }  # fmt: skip
    assert all(node.name for node in proto.graph.node)
    assert [v.name for v in proto.graph.input] == ["input"]
    assert [v.name for v in proto.graph.output] == ["output"]


def test_the_same_weights_give_the_same_bytes() -> None:
    first, second = (folded(random_state()).SerializeToString(deterministic=True) for _ in "ab")
    assert first == second


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stem.weight": None}, "stem.weight is missing"),
        ({"stem.weight": np.zeros((6, 3, 3, 1), np.float32)}, "is float32 .*, expected float32"),
        ({"head.bias": np.zeros(4, np.float64)}, r"is float64 \[4\], expected float32 \[4\]"),
        ({"extra.weight": np.zeros(1, np.float32)}, "layers that tiny has not: extra.weight"),
    ],
)
def test_other_weights_are_refused(change: dict[str, object], reason: str) -> None:
    state = {k: v for k, v in {**random_state(), **change}.items() if v is not None}
    with pytest.raises(FetchError, match=reason):
        folded(state)  # type: ignore[arg-type]
