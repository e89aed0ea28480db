from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image

from quantlab.errors import QuantizeError
from quantlab.model import graph as g
from quantlab.model.model import main_opset
from quantlab.quantize.prepare import prepare

RNG = np.random.default_rng(0)
BATCH_NORM_OPSET = 15
"""Below it onnx's reference evaluator normalises with the batch's own statistics."""
IMAGES = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)


def floats(*shape: int) -> NDArray[np.float32]:
    return np.asarray(RNG.standard_normal(shape) + 0.1, np.float32)


def model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, NDArray[np.generic]],
    *,
    opset: int = 13,
    ir_version: int = 8,
    batch: int | str | None = 1,
    output: list[int | str] | None = None,
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])]
    if ir_version < 4:
        inputs += [
            helper.make_tensor_value_info(
                k, helper.np_dtype_to_tensor_dtype(v.dtype), list(v.shape)
            )
            for k, v in weights.items()
        ]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, output)]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def batch_norm_weights() -> dict[str, NDArray[np.generic]]:
    return {
        "W": floats(4, 3, 3, 3),
        "scale": floats(4),
        "shift": floats(4),
        "mean": floats(4),
        "var": np.abs(floats(4)) + np.float32(0.01),
    }


def node(op: str, reads: str, makes: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, reads.split(), makes.split(), **attributes)


def flat_tail(*nodes: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [*nodes, node("GlobalAveragePool", "a", "pool"), node("Flatten", "pool", "y")]


def run(proto: onnx.ModelProto, images: NDArray[np.float32] = IMAGES) -> NDArray[np.float32]:
    return np.asarray(ReferenceEvaluator(proto).run(None, {"x": images})[0])


def ops(proto: onnx.ModelProto) -> dict[str, int]:
    return dict(Counter(n.op_type for n in proto.graph.node))


def test_batch_norm_is_folded_and_the_answers_stay() -> None:
    nodes = flat_tail(
        node("Conv", "x W", "c", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "c scale shift mean var", "a", epsilon=0.002),
    )
    before = model(nodes, batch_norm_weights(), opset=BATCH_NORM_OPSET)
    after = prepare(before)
    assert ops(after) == {"Conv": 1, "GlobalAveragePool": 1, "Flatten": 1}
    np.testing.assert_allclose(run(after), run(before), atol=1e-5)


def test_a_shared_weight_is_folded_once_for_each_reader() -> None:
    weights = batch_norm_weights() | {"bias": floats(4)}
    nodes = flat_tail(
        node("Conv", "x W bias", "c"),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("Conv", "x W", "d"),
        node("Add", "n d", "a"),
    )
    before = model(nodes, weights, opset=BATCH_NORM_OPSET)
    after = prepare(before)
    assert "BatchNormalization" not in ops(after)
    np.testing.assert_allclose(run(after), run(before), atol=1e-5)


def test_batch_norm_stays_where_another_node_reads_the_conv() -> None:
    nodes = flat_tail(
        node("Conv", "x W", "c"),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("Add", "n c", "a"),
    )
    before = model(nodes, batch_norm_weights(), opset=BATCH_NORM_OPSET)
    after = prepare(before)
    assert ops(after)["BatchNormalization"] == 1
    np.testing.assert_allclose(run(after), run(before), atol=1e-5)


@pytest.mark.parametrize(("opset", "ir_version"), [(7, 3), (9, 4), (10, 6)])
def test_old_opsets_are_upgraded(opset: int, ir_version: int) -> None:
    nodes = flat_tail(
        node("Conv", "x W", "c"),
        node("BatchNormalization", "c scale shift mean var", "n"),
        node("Clip", "n", "k", min=0.0, max=6.0),
        node("Dropout", "k", "a mask", ratio=0.5),
    )
    before = model(nodes, batch_norm_weights(), opset=opset, ir_version=ir_version)
    after = prepare(before)
    assert main_opset(after) == 13
    assert after.ir_version >= 8
    assert [v.name for v in after.graph.input] == ["x"]
    assert ops(after) == {"Conv": 1, "Clip": 1, "GlobalAveragePool": 1, "Flatten": 1}
    session = ort.InferenceSession(after.SerializeToString())
    old = ort.InferenceSession(before.SerializeToString())
    np.testing.assert_allclose(
        session.run(None, {"x": IMAGES})[0], old.run(None, {"x": IMAGES})[0], atol=1e-5
    )


def test_clip_bounds_of_shape_1_become_scalars() -> None:
    weights = {"low": np.zeros(1, np.float32), "high": np.full(1, 6, np.float32)}
    before = model(flat_tail(node("Clip", "x low high", "a")), weights, opset=12)
    after = prepare(before)
    assert [list(t.dims) for t in after.graph.initializer] == [[], []]
    assert main_opset(after) == 13


def test_constant_nodes_and_what_follows_from_them_are_computed() -> None:
    three = numpy_helper.from_array(np.float32(3))
    nodes = flat_tail(
        node("Constant", "", "three", value=three),
        node("Mul", "three two", "six"),
        node("Mul", "x six", "a"),
    )
    before = model(nodes, {"two": np.float32(2) * np.ones((), np.float32)})
    after = prepare(before)
    assert ops(after) == {"Mul": 1, "GlobalAveragePool": 1, "Flatten": 1}
    assert [numpy_helper.to_array(t) for t in after.graph.initializer] == [6.0]
    np.testing.assert_allclose(run(after), run(before))


RESHAPE_TAILS = {
    "exported x.shape[0], -1": [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n axes", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "pool target", "y"),
    ],
    "sliced shape": [
        node("Shape", "pool", "s"),
        node("Slice", "s starts ends", "n1"),
        node("Concat", "n1 rest", "target", axis=0),
        node("Reshape", "pool target", "y"),
    ],
    "0, -1": [node("Reshape", "pool keep", "y")],
    "-1, size": [node("Reshape", "pool size", "y")],
}
SHAPES: dict[str, NDArray[np.generic]] = {
    "zero": np.array(0),
    "axes": np.array([0]),
    "rest": np.array([-1]),
    "keep": np.array([0, -1]),
    "size": np.array([-1, 3]),
    "starts": np.array([0]),
    "ends": np.array([1]),
}


@pytest.mark.parametrize("tail", RESHAPE_TAILS)
@pytest.mark.parametrize("batch", [1, "N", None])
def test_reshapes_that_flatten_become_flatten(tail: str, batch: int | str | None) -> None:
    nodes = [node("GlobalAveragePool", "x", "pool"), *RESHAPE_TAILS[tail]]
    before = model(nodes, SHAPES, batch=batch)
    after = prepare(before)
    assert ops(after) == {"GlobalAveragePool": 1, "Flatten": 1}
    np.testing.assert_array_equal(run(after), run(before))


def test_a_reshape_that_mixes_the_batch_stays() -> None:
    weights = {"target": np.array([-1, 3, 32])}
    after = prepare(model([node("Reshape", "x target", "y")], weights, batch="N"))
    assert ops(after) == {"Reshape": 1}


def test_a_shape_chain_to_more_dimensions_becomes_a_constant_target() -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s first", "n", axis=0),
        node("Concat", "n rest", "target", axis=0),
        node("Reshape", "x target", "y"),
    ]
    weights = {"first": np.array([0]), "rest": np.array([3, 4, 16])}
    before = model(nodes, weights, batch="N")
    after = prepare(before)
    assert ops(after) == {"Reshape": 1}
    np.testing.assert_array_equal(run(after), run(before))


def matmul_model(nodes: list[onnx.NodeProto], bias: NDArray[np.float32]) -> onnx.ModelProto:
    weights = {"W": floats(192, 5), "b": bias, "shape": np.array([-1, 192])}
    return model(nodes, weights, batch="N")


MATMUL = helper.make_node("MatMul", ["f", "W"], ["m"], name="classifier")
FLATS = {
    "Flatten": node("Flatten", "x", "f"),
    "Reshape": node("Reshape", "x shape", "f"),
}


@pytest.mark.parametrize("flat", FLATS)
@pytest.mark.parametrize("add", ["m b", "b m"])
@pytest.mark.parametrize("shape", [(5,), (1, 5), (1,), ()])
def test_a_matmul_and_its_bias_become_a_gemm_of_its_name(
    flat: str, add: str, shape: tuple[int, ...]
) -> None:
    before = matmul_model([FLATS[flat], MATMUL, node("Add", add, "y")], floats(*shape))
    after = prepare(before)
    assert ops(after) == {"Flatten": 1, "Gemm": 1}
    assert after.graph.node[1].name == "classifier"
    np.testing.assert_allclose(run(after), run(before), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("tail", "bias"),
    [
        ([node("Add", "m b", "y")], floats(1, 1, 5)),
        ([node("Add", "m b", "y")], floats(2, 5)),
        ([node("Add", "m m", "y")], floats(5)),
        ([node("Add", "m b", "a"), node("Mul", "a m", "y")], floats(5)),
        ([node("Relu", "m", "y")], floats(5)),
    ],
    ids=["more dimensions", "a matrix", "itself", "two readers", "no Add"],
)
def test_a_matmul_without_a_bias_of_its_own_becomes_a_gemm_alone(
    tail: list[onnx.NodeProto], bias: NDArray[np.float32]
) -> None:
    before = matmul_model([FLATS["Flatten"], MATMUL, *tail], bias)
    before.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    after = prepare(before)
    assert ops(after) == {"Flatten": 1, "Gemm": 1} | Counter(n.op_type for n in tail)
    assert len(next(n for n in after.graph.node if n.op_type == "Gemm").input) == 2
    np.testing.assert_allclose(run(after), run(before), rtol=1e-5, atol=1e-5)


def test_other_matmuls_stay() -> None:
    nodes = [node("MatMul", "x W", "m"), node("MatMul", "m x", "y")]
    assert ops(prepare(model(nodes, {"W": floats(8, 8)}))) == {"MatMul": 2}


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(
    ("op", "kernel", "strides"),
    [
        *((op, (3, 3), (2, 2)) for op in ("Conv", "MaxPool", "AveragePool")),
        *((op, (2, 4), (1, 3)) for op in ("Conv", "MaxPool", "AveragePool")),
        ("Conv", (1, 1), (2, 3)),
    ],
    ids=str,
)
def test_automatic_padding_becomes_numbers(
    mode: str, op: str, kernel: tuple[int, int], strides: tuple[int, int]
) -> None:
    own = {} if op == "Conv" else {"kernel_shape": kernel}
    reads = "x W" if op == "Conv" else "x"
    nodes = [node(op, reads, "y", auto_pad=mode, strides=strides, **own)]
    before = model(nodes, {"W": floats(4, 3, *kernel)} if op == "Conv" else {}, batch="N")
    after = prepare(before)
    names = {a.name for a in after.graph.node[0].attribute}
    assert "pads" in names
    assert "auto_pad" not in names
    answers = [
        ort.InferenceSession(p.SerializeToString()).run(None, {"x": IMAGES})[0]
        for p in (before, after)
    ]
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "stride", "resolved"),
    [
        ("SAME_UPPER", 2, False),
        ("SAME_UPPER", 1, True),
        ("SAME_LOWER", 1, True),
        ("VALID", 2, True),
    ],
)
def test_automatic_padding_of_unknown_sizes_stays_where_it_depends_on_them(
    mode: str, stride: int, resolved: bool
) -> None:
    conv = node("Conv", "x W", "y", auto_pad=mode, strides=[stride] * 2)
    before = model([conv], {"W": floats(4, 3, 4, 3)})
    before.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    after = prepare(before)
    names = {a.name for a in after.graph.node[0].attribute}
    assert names == {"strides"} | ({"pads"} if resolved else {"auto_pad"})
    np.testing.assert_allclose(run(after), run(before), rtol=1e-5, atol=1e-5)


def test_identities_go_and_output_names_stay() -> None:
    nodes = [node("Relu", "x", "a"), node("Identity", "a", "b"), node("Identity", "b", "y")]
    after = prepare(model(nodes, {}))
    assert ops(after) == {"Relu": 1}
    assert list(after.graph.node[0].output) == ["y"]


def test_nodes_get_unique_stable_names_and_keep_theirs() -> None:
    nodes = flat_tail(
        helper.make_node("Relu", ["x"], ["r"], name="mine"),
        helper.make_node("Relu", ["r"], ["s"], name="mine"),
        node("Relu", "s", "a"),
    )
    names = [n.name for n in prepare(model(nodes, {})).graph.node]
    assert names == ["mine", "mine_2", "Relu_a", "GlobalAveragePool_pool", "Flatten_y"]


def test_a_fixed_batch_stays_and_the_original_is_untouched() -> None:
    before = model(flat_tail(node("Identity", "x", "a")), {"unused": floats(3)}, opset=11)
    content = before.SerializeToString()
    after = prepare(before)
    assert before.SerializeToString() == content
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    assert not after.graph.initializer


def test_every_tensor_has_a_shape_and_the_bytes_repeat() -> None:
    nodes = flat_tail(node("Conv", "x W", "c"), node("Relu", "c", "a"))
    proto = model(nodes, {"W": floats(4, 3, 1, 1)}, batch="N")
    after = prepare(proto)
    assert {v.name for v in after.graph.value_info} == {"c", "a", "pool"}
    assert after.SerializeToString() == prepare(proto).SerializeToString()


def test_what_cannot_be_upgraded_is_one_clear_error() -> None:
    proto = model(flat_tail(node("Upsample", "x s", "a")), {"s": floats(4)}, opset=9)
    proto.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(QuantizeError, match="opset 9 cannot be upgraded to 13"):
        prepare(proto)


@pytest.mark.data
@pytest.mark.parametrize("name", ["mobilenetv2-12", "mobilenetv1-tf", "squeezenet1.1-caffe"])
def test_real_models_answer_the_same(data_root: Path, name: str) -> None:
    before = onnx.load(data_root / "models" / f"{name}.onnx")
    after = prepare(before)
    assert not {"Shape", "Gather", "Unsqueeze", "Reshape"} & set(ops(after))
    assert main_opset(after) >= 13
    side = before.graph.input[0].type.tensor_type.shape.dim[2].dim_value
    images = real_images(data_root, side)
    answers = [
        ort.InferenceSession(p.SerializeToString()).run(None, {p.graph.input[0].name: images})[0]
        for p in (before, after)
    ]
    np.testing.assert_allclose(answers[1], answers[0], atol=1e-4)
    assert after.SerializeToString() == prepare(before).SerializeToString()


def real_images(data_root: Path, side: int) -> NDArray[np.float32]:
    files = sorted((data_root / "imagenet" / "val1300" / "val").iterdir())[:4]
    pixels = [np.asarray(Image.open(f).convert("RGB").resize((side, side))) for f in files]
    images = (np.stack(pixels).astype(np.float32) - 117) / 58
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def test_the_sizes_behind_a_class_token_are_known() -> None:
    """As PyTorch writes ``token.expand(len(x), -1, -1)``, with −1 for sizes of the token's own."""
    nodes = [
        node("Reshape", "x rows", "r"),
        *(
            node("Shape", "r", "s"),
            node("Gather", "s zero", "n"),
            node("Unsqueeze", "n first", "u"),
        ),
        *(node("Concat", "u own own", "c", axis=0), node("Reshape", "c own", "d")),
        node("ConstantOfShape", "three", "ones", value=numpy_helper.from_array(np.array([1]))),
        *(
            node("Mul", "ones minus", "m"),
            node("Equal", "d m", "e"),
            node("Where", "e ones d", "w"),
        ),
        *(node("Expand", "token w", "t"), node("Concat", "t r", "k", axis=1)),
        *(node("Slice", "k first one axis", "l"), node("Flatten", "l", "f")),
        node("Gemm", "f fc", "y"),
    ]
    weights: dict[str, NDArray[np.generic]] = {
        "rows": np.array([0, 12, 16]), "zero": np.array(0), "first": np.array([0]),
        "own": np.array([-1]), "three": np.array([3]), "minus": np.array(-1),
        "one": np.array([1]), "axis": np.array([1]),
        "token": floats(1, 1, 16), "fc": floats(16, 4),
    }  # fmt: skip
    before = model(nodes, weights, batch="N")
    after = prepare(before)
    assert g.tensor_shapes(after)["k"][1:] == (13, 16)
    assert not {"Where", "Equal", "ConstantOfShape"} & set(ops(after))
    np.testing.assert_allclose(run(after), run(before), rtol=1e-5)


def test_weights_that_the_graph_computes_are_known() -> None:
    """Weight standardization, as in NFNet."""
    nodes = [
        node("Reshape", "W flat", "v"),
        *(node("ReduceMean", "v", "m", axes=[1]), node("Sub", "v m", "d")),
        *(node("Mul", "d d", "q"), node("ReduceMean", "q", "s", axes=[1])),
        *(node("Add", "s small", "a"), node("Sqrt", "a", "r"), node("Div", "d r", "n")),
        *(node("Reshape", "n back", "w"), node("Conv", "x w", "c")),
        *(node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "y")),
    ]
    weights: dict[str, NDArray[np.generic]] = {
        "W": floats(4, 3, 3, 3), "flat": np.array([4, -1]), "back": np.array([4, 3, 3, 3]),
        "small": np.float32([1e-5]),
    }  # fmt: skip
    before = model(nodes, weights)
    after = prepare(before)
    assert ops(after) == {"Conv": 1, "GlobalAveragePool": 1, "Flatten": 1}
    np.testing.assert_allclose(run(after), run(before), rtol=1e-4, atol=1e-5)


HUGE: dict[str, tuple[onnx.NodeProto, int]] = {
    "a product": (node("MatMul", "column row", "k"), 60_000),
    "a sum that is spread": (node("Add", "column row", "k"), 60_000),
    "a Pad": (node("Pad", "row pads", "k"), 3),
    "a Gather": (node("Gather", "row places", "k"), 60_000),
    "a Resize": (node("Resize", "row none scales", "k"), 3),
    "an Einsum of three": (node("Einsum", "row row row", "k", equation="ai,bi,ci->abc"), 3),
}


@pytest.mark.parametrize("name", HUGE)
def test_more_than_a_few_times_the_weights_is_not_computed(name: str) -> None:
    made, size = HUGE[name]
    weights: dict[str, NDArray[np.generic]] = {
        "column": np.ones((size, 1), np.float32), "row": np.ones((1, size), np.float32),
        "pads": np.array([0, 0, 10**6, 10**6]), "places": np.zeros((300, 300), np.int64),
        "none": np.zeros(0, np.float32), "scales": np.array([1e5, 1e5], np.float32),
    }  # fmt: skip
    nodes = [made, node("ReduceSum", "k", "t", keepdims=0), node("Add", "x t", "y")]
    after = prepare(model(nodes, weights))
    assert ops(after)["ReduceSum"] == 1


def test_many_results_are_bounded_together() -> None:
    """Each is as large as is allowed for all."""
    weights: dict[str, NDArray[np.generic]] = {
        "column": np.ones((4000, 1), np.float32), "row": np.ones((1, 4000), np.float32)
    }  # fmt: skip
    nodes = [node("MatMul", "column row", f"k{i}") for i in range(9)]
    nodes += [node("ReduceSum", f"k{i}", f"t{i}", keepdims=0) for i in range(9)]
    nodes.append(node("Sum", " ".join(["x", *(f"t{i}" for i in range(9))]), "y"))
    assert ops(prepare(model(nodes, weights)))["ReduceSum"] == 8


@pytest.mark.parametrize(
    ("size", "folded"), [([3], True), ([100, 100], False)], ids=["small", "large"]
)
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
def test_what_makes_a_lot_of_little_stays(op: str, size: list[int], folded: bool) -> None:
    value: NDArray[np.generic] = np.ones([1] * len(size), np.float32)
    made = node(op, "size" if op == "ConstantOfShape" else "one size", "k")
    nodes = [made, node("ReduceSum", "k", "t", keepdims=0), node("Add", "x t", "y")]
    after = prepare(model(nodes, {"one": value, "size": np.array(size)}))
    assert (op not in ops(after)) == folded


@pytest.mark.parametrize("taken", [True, False], ids=["then", "else"])
def test_a_branch_whose_condition_is_known_is_put_where_it_is_chosen(taken: bool) -> None:
    """Two Ifs of one condition, whose branches use the same names; shapes are known behind them."""

    def branch(op: str, data: str) -> onnx.GraphProto:
        nodes = [
            node("Constant", "", "c", value=numpy_helper.from_array(np.full(1, 2, np.float32))),
            node(op, f"{data} c", "t"),
            node("Add", "t own", "made"),
        ]
        own = [numpy_helper.from_array(floats(3, 1, 1), "own")]
        made = [helper.make_tensor_value_info("made", TensorProto.FLOAT, None)]
        return helper.make_graph(nodes, "branch", [], made, own)

    def choice(reads: str, data: str, makes: str) -> onnx.NodeProto:
        branches = {"then_branch": branch("Mul", data), "else_branch": branch("Sub", data)}
        return node("If", reads, makes, **branches)

    nodes = [node("Less", "one two", "less"), choice("less", "x", "z"), choice("less", "z", "y")]
    one, two = (np.full(1, value, np.float32) for value in ((1, 2) if taken else (2, 1)))
    before = model(nodes, {"one": one, "two": two}, output=[1, 3, 8, 8])
    after = prepare(before)
    assert ops(after) == {"Mul" if taken else "Sub": 2, "Add": 2}
    assert g.tensor_shapes(after)[after.graph.node[1].output[0]] == (1, 3, 8, 8)
    np.testing.assert_allclose(run(after), run(before), atol=1e-6)


def test_a_branch_that_the_image_decides_stays() -> None:
    def branch(op: str) -> onnx.GraphProto:
        made = [helper.make_tensor_value_info("made", TensorProto.FLOAT, None)]
        return helper.make_graph([node(op, "x", "made")], "branch", [], made)

    nodes = [
        node("ReduceMax", "x", "top", keepdims=0),
        node("Greater", "top two", "more"),
        node("If", "more", "y", then_branch=branch("Relu"), else_branch=branch("Abs")),
    ]
    assert ops(prepare(model(nodes, {"two": np.float32(2)})))["If"] == 1


@pytest.mark.parametrize("last", [-1, 2])
def test_a_split_into_a_sequence_of_known_parts_is_a_split(last: int) -> None:
    nodes = [
        node("SplitToSequence", "x sizes", "parts", axis=2),
        *(node("SequenceAt", f"parts {at}", at.upper()) for at in ("first", "last")),
        node("Concat", "FIRST LAST", "y", axis=2),
    ]
    places = {"first": np.array(0), "last": np.array(last)}
    before = model(nodes, {"sizes": np.array([1, 2, 5])} | places)
    after = prepare(before)
    assert ops(after) == {"Split": 1, "Concat": 1}
    np.testing.assert_array_equal(run(after), run(before))


def test_a_part_that_the_image_decides_stays_in_a_sequence() -> None:
    nodes = [
        node("SplitToSequence", "x sizes", "parts", axis=2),
        node("ReduceMax", "x", "top", keepdims=0),
        node("Greater", "top two", "more"),
        node("Cast", "more", "place", to=TensorProto.INT64),
        node("SequenceAt", "parts place", "y"),
    ]
    weights = {"sizes": np.array([4, 4]), "two": np.float32(2)}
    assert "SplitToSequence" in ops(prepare(model(nodes, weights)))
