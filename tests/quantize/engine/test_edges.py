"""What real models and images hold besides the ordinary: each is one clear line, or just works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from nets import (
    BOTH,
    SIZE,
    Images,
    Weights,
    conv,
    executed,
    floats,
    network,
    node,
    ops,
    quantize,
    saved,
    sqnr,
)
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import QuantizeError
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner


def body(reads: str) -> onnx.GraphProto:
    """A Loop's body: its value times ``reads``, of the graph outside."""
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("v", "v2")]
    go = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go1", "go2")]
    step = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    nodes = [node("Identity", "go1", "go2"), node("Mul", f"v {reads}", "v2")]
    return helper.make_graph(nodes, "body", [step, go[0], value[0]], [go[1], value[1]])


def branch(op: str) -> onnx.GraphProto:
    made = helper.make_tensor_value_info(op, TensorProto.FLOAT, None)
    return helper.make_graph([node(op, "a", op)], op, [], [made])


TIMES = {"times": np.array(1), "go": np.array(True), "half": np.array(0.5, np.float32)}
EXOTIC: dict[str, tuple[list[onnx.NodeProto], Weights]] = {
    "Erf": ([node("Erf", "a", "m")], {}),
    "Einsum": ([node("Einsum", "a a", "m", equation="nchw,nchw->nchw")], {}),
    "Atan": ([node("Atan", "a", "m")], {}),
    "LRN": ([node("LRN", "a", "m", size=3)], {}),
    "Loop": ([node("Loop", "times go a", "m", body=body("half"))], TIMES),
    "Loop over a quantized tensor": ([node("Loop", "times go a", "m", body=body("a"))], TIMES),
    "Loop over a layer's inside": ([node("Loop", "times go a", "m", body=body("c1"))], TIMES),
    "If": (
        [
            node("ReduceMax", "a", "top", keepdims=0),
            node("Greater", "top zero", "positive"),
            node("If", "positive", "m", then_branch=branch("Relu"), else_branch=branch("Neg")),
        ],
        {"zero": np.array(0, np.float32)},
    ),
    "sizes computed at run time": (
        [
            node("Shape", "a", "outer", end=2),
            node("Shape", "a", "inner", start=2),
            node("Mul", "inner two", "doubled"),
            node("Concat", "outer doubled", "size", axis=0),
            helper.make_node("Resize", ["a", "", "", "size"], ["m"], name="m"),
        ],
        {"two": np.array(2)},
    ),
}


@BOTH
@pytest.mark.parametrize("name", EXOTIC)
def test_what_cannot_be_quantized_stays_fp32_and_runs(tmp_path: Path, name: str, form: str) -> None:
    free: tuple[int | str | None, ...] = ("N", 3, None, None)
    model = network(
        tmp_path, *EXOTIC[name], free if name.startswith("sizes") else free[:2] + (SIZE,) * 2
    )
    proto = quantize(model, format=form)
    assert EXOTIC[name][0][0].op_type in ops(proto)
    assert sum("QuantizeLinear" in op for op in ops(proto)) > 1
    assert sqnr(model, proto) > 25


def test_a_sequence_is_refused_in_one_line_and_plain_rounding_takes_it(tmp_path: Path) -> None:
    middle = [
        node("SplitToSequence", "a", "parts", axis=1),
        node("ConcatFromSequence", "parts", "m", axis=1),
    ]
    model = network(tmp_path, middle)
    with pytest.raises(QuantizeError, match="node parts makes a sequence") as caught:
        quantize(model)
    assert caught.value.remedy
    assert sqnr(model, quantize(model, rounding="nearest", bias_correction=False)) > 25


def test_tokens_that_pad_a_window_stay_zero(tmp_path: Path) -> None:
    """Swin: where keys have no bias, padding is zero, and is divided by its own norm."""
    middle = [
        node("Transpose", "a", "t", perm=[0, 2, 3, 1]),
        node("Pad", "t pads", "window"),
        node("MatMul", "window pw", "keys"),
        node("ReduceL2", "keys last", "length"),
        node("Max", "length least", "limited"),
        node("Div", "keys limited", "directions"),
        node("Transpose", "directions", "m", perm=[0, 3, 1, 2]),
    ]
    weights: Weights = {
        "pads": np.array([0] * 5 + [SIZE, SIZE, 0]),
        "pw": floats(8, 8, seed=5),
        "last": np.array([-1]),
        "least": np.array(1e-12, np.float32),
    }
    model = network(tmp_path, middle, weights)
    corrected, plain = (
        sqnr(model, quantize(model, bias_correction=on, placement="widest"))
        for on in (True, False)
    )
    assert corrected > plain - 1


GEMM = [node("GlobalAveragePool", "a", "ga"), node("Flatten", "ga", "gf")]
SAME = node("Conv", "a k", "m", auto_pad="SAME_UPPER", strides=[2, 2])
LEFT: dict[str, tuple[list[onnx.NodeProto], Weights, tuple[int | str | None, ...]]] = {
    "Conv": ([SAME], {"k": floats(8, 8, 3, 3)}, ("N", 3, None, None)),
    "Conv and Relu": (
        [node("Conv", "a k", "k1", auto_pad="SAME_UPPER", strides=[2, 2]), node("Relu", "k1", "m")],
        {"k": floats(8, 8, 3, 3)},
        ("N", 3, None, None),
    ),
    "Conv and MaxPool": (
        [
            node("Conv", "a k", "k1", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("MaxPool", "k1", "m", kernel_shape=[2, 2]),
        ],
        {"k": floats(8, 8, 3, 3)},
        ("N", 3, None, None),
    ),
    "ConvTranspose": (
        [node("ConvTranspose", "a k", "m", dilations=[2, 2])],
        {"k": floats(8, 8, 3, 3)},
        ("N", 3, SIZE, SIZE),
    ),
    "Gemm": (
        [*GEMM, node("Gemm", "gf k gf", "gg", alpha=0.5), node("Reshape", "gg square", "m")],
        {"k": floats(8, 8), "square": np.array([0, 8, 1, 1])},
        ("N", 3, SIZE, SIZE),
    ),
}


@BOTH
@pytest.mark.parametrize("name", LEFT)
def test_layers_left_in_fp32_keep_their_weights(tmp_path: Path, name: str, form: str) -> None:
    model = network(tmp_path, *LEFT[name])
    proto = quantize(model, format=form, rounding="nearest")
    found = executed(proto, tmp_path)
    assert found["QLinearConv"] == 2
    assert found["QGemm"] == 1
    assert found[name.split()[0]] == 1
    assert sqnr(model, proto) > 25


@BOTH
def test_a_matmul_classifier_and_automatic_padding_are_quantized(tmp_path: Path, form: str) -> None:
    middle = [
        node("Conv", "a k", "c", auto_pad="SAME_LOWER", strides=[2, 2], kernel_shape=[4, 4]),
        node("MaxPool", "c", "m", auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3]),
    ]
    source = network(tmp_path, middle, {"k": floats(8, 8, 4, 4)}).proto()
    source.graph.node.pop()
    source.graph.initializer.append(numpy_helper.from_array(floats(8, 10), "mm"))
    source.graph.initializer.append(numpy_helper.from_array(floats(1, 10)[0], "mb"))
    source.graph.node.extend([node("MatMul", "f mm", "last"), node("Add", "last mb", "y")])
    onnx.save(source, tmp_path / "matmul.onnx")
    model = Model.load(tmp_path / "matmul.onnx")
    proto = quantize(model, format=form)
    found = executed(proto, tmp_path)
    assert found["QLinearConv"] == 3
    assert found["QGemm"] == 1
    assert not {"Conv", "Gemm", "MatMul", "Add", "DequantizeLinear"} & set(found)
    assert sqnr(model, proto) > 25
    kept = executed(quantize(model, format=form, exclude=("last",)), tmp_path)
    assert kept["QGemm"] == 0
    assert kept["Gemm"] + kept["FusedGemm"] == 1


@BOTH
@pytest.mark.parametrize(
    ("groups", "made"), [(2, 8), (4, 8), (4, 16), (8, 8), (8, 16), (2, 2)], ids=str
)
def test_grouped_convolutions(tmp_path: Path, groups: int, made: int, form: str) -> None:
    middle = [
        conv("a gw", "gc", group=groups),
        node("Relu", "gc", "gr"),
        node("Conv", "gr pw", "m"),
    ]
    more = {"gw": floats(made, 8 // groups, 3, 3, seed=3), "pw": floats(8, made, 1, 1, seed=4)}
    model = network(tmp_path, middle, more)
    assert sqnr(model, quantize(model, format=form)) > 25


@BOTH
@pytest.mark.parametrize("low", [0.0, -10.0], ids=["alive", "dead"])
def test_a_relu_beside_a_negative_tensor_is_kept(tmp_path: Path, low: float, form: str) -> None:
    middle = [
        *(node("Conv", "a dw db", "d"), node("Relu", "d", "dr"), node("Conv", "a lw", "l")),
        *(node("Concat", "dr l", "both", axis=1), node("Conv", "both pw", "m")),
    ]
    more = {
        "dw": floats(8, 8, 1, 1, seed=3),
        "db": np.full(8, low, np.float32),
        "lw": floats(8, 8, 1, 1, seed=4),
        "pw": floats(8, 16, 1, 1, seed=5),
    }
    model = network(tmp_path, middle, more)
    assert sqnr(model, quantize(model, format=form)) > 25


@BOTH
@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch(tmp_path: Path, batch: int, form: str) -> None:
    model = network(tmp_path, shape=(batch, 3, SIZE, SIZE))
    proto = quantize(model, Images(batch=batch), format=form)
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value == batch
    assert sqnr(model, proto) > 25


@pytest.mark.parametrize("shape", [(None, 3, SIZE, SIZE), (None, 3, None, None)])
def test_dynamic_shapes_without_symbols(tmp_path: Path, shape: tuple[int | None, ...]) -> None:
    model = network(tmp_path, shape=shape)
    assert sqnr(model, quantize(model)) > 25


@pytest.mark.parametrize("count", [1, 2, 3])
def test_very_few_images(tmp_path: Path, count: int) -> None:
    model = network(tmp_path)
    assert sqnr(model, quantize(model, Images(count))) > 15


@BOTH
@pytest.mark.parametrize("value", [0.0, 1e-20, 3.0])
def test_constant_images(tmp_path: Path, value: float, form: str) -> None:
    model, images = network(tmp_path), Images()
    images.array[:] = value
    proto = quantize(model, images, format=form)
    scales = [t for t in proto.graph.initializer if t.name.endswith("/scale")]
    assert all((numpy_helper.to_array(t) > 0).all() for t in scales)
    assert sqnr(model, proto, images.array[:4]) > 25


def zeroed(names: tuple[str, ...], channel: slice) -> Weights:
    plain = {"w1": floats(8, 3, 3, 3), "b1": np.zeros(8, np.float32)}
    plain |= {"w2": floats(8, 8, 3, 3, seed=1), "b2": np.zeros(8, np.float32)}
    made = {name: plain[name].copy() for name in names}
    for array in made.values():
        array[channel] = 0
    return made


DEAD: dict[str, Weights] = {
    "one channel": zeroed(("w1", "b1"), slice(2, 3)),
    "a layer's weights": zeroed(("w2",), slice(None)),
    "a layer behind a ReLU that never fires": {"b1": np.full(8, -1e3, np.float32)},
    "weights beside a large bias": zeroed(("w1",), slice(2, 3))
    | {"b1": np.where(np.arange(8) == 2, 1e5, 0).astype(np.float32)},
}


@BOTH
@pytest.mark.parametrize("name", DEAD)
def test_dead_channels(tmp_path: Path, name: str, form: str) -> None:
    model = network(tmp_path, more=DEAD[name])
    assert sqnr(model, quantize(model, format=form)) > 25


@BOTH
def test_a_layer_that_is_zero_everywhere_runs(tmp_path: Path, form: str) -> None:
    model = network(tmp_path, more=zeroed(("w2", "b2"), slice(None)))
    proto = quantize(model, format=form)
    with Runner(proto) as run:
        assert not run(Images().array).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("weight", "named"), [("w1", "c1"), ("b2", "c2"), ("fc", "y")])
def test_weights_that_are_not_finite_name_the_node(
    tmp_path: Path, weight: str, named: str, bad: float
) -> None:
    model = network(tmp_path)
    proto = model.proto()
    for tensor in proto.graph.initializer:
        if tensor.name == weight:
            array = numpy_helper.to_array(tensor).copy()
            array.flat[0] = bad
            tensor.CopyFrom(numpy_helper.from_array(array, weight))
    onnx.save(proto, tmp_path / "bad.onnx")
    with pytest.raises(QuantizeError, match=f"bad.onnx: the weights of node {named} hold NaN"):
        quantize(Model.load(tmp_path / "bad.onnx"))


@pytest.mark.parametrize("variance", [np.nan, 0.0, -1.0])
def test_batch_norm_that_divides_by_nothing_names_the_node(tmp_path: Path, variance: float) -> None:
    ones = np.ones(8, np.float32)
    middle = [conv("a gw", "g"), node("BatchNormalization", "g s b b v", "m", epsilon=0.0)]
    more = {"gw": floats(8, 8, 3, 3), "s": ones, "b": 0 * ones, "v": ones.copy()}
    more["v"][0] = variance
    with pytest.raises(QuantizeError, match="the weights of node g hold NaN or infinity"):
        quantize(network(tmp_path, middle, more))


@pytest.mark.parametrize("op", ["Log", "Sqrt"])
def test_activations_that_are_not_finite_name_the_tensor(tmp_path: Path, op: str) -> None:
    with pytest.raises(QuantizeError, match="tensor m: an activation is NaN or infinite"):
        quantize(network(tmp_path, [node(op, "c1", "m")]))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
@pytest.mark.parametrize("all_of_them", [True, False])
@pytest.mark.parametrize("equalize", [True, False])
def test_images_that_are_not_finite_name_a_tensor(
    tmp_path: Path, value: float, all_of_them: bool, equalize: bool
) -> None:
    middle = [node("Conv", "a lw", "l"), node("Add", "a l", "m")]
    model, images = network(tmp_path, middle, {"lw": floats(8, 8, 1, 1)}), Images()
    images.array[slice(None) if all_of_them else 5] = value
    with pytest.raises(QuantizeError, match=r"tensor \w+: an activation is NaN or infinite"):
        quantize(model, images, equalize=equalize)


@pytest.mark.parametrize(
    ("nodes", "weights"),
    [
        ([node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "y")], {}),
        (
            [
                *(node("ReduceMean", "x", "k", keepdims=0), node("Mul", "w k", "v")),
                *(node("Conv", "x v", "c"), node("GlobalAveragePool", "c", "p")),
                node("Flatten", "p", "y"),
            ],
            {"w": floats(10, 3, 3, 3)},
        ),
    ],
    ids=["no weights", "computed weights"],
)
def test_nothing_to_quantize_is_one_clear_line(
    tmp_path: Path, nodes: list[onnx.NodeProto], weights: Weights
) -> None:
    with pytest.raises(
        QuantizeError, match="nothing to quantize: no Conv, Gemm or MatMul"
    ) as caught:
        quantize(saved(tmp_path, nodes, weights))
    assert caught.value.remedy
