"""Names of what is added to a graph: whatever the user's are, the answers are the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantlab.data.preprocess import get_pipeline
from quantlab.evaluate.fold import fold_preprocess
from quantlab.inspect.layers import debug_layers
from quantlab.model import graph as g
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.quantize.engine.names import MadeNames
from quantlab.quantize.prepare import prepare
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

SIZE = 16


class Batches(list[Any]):
    def __len__(self) -> int:
        return sum(map(len, self))


IMAGES = Batches([np.random.default_rng(1).standard_normal((8, 3, SIZE, SIZE)).astype(np.float32)])


def floats(*shape: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) / 3


def everything(path: Path, opset: int = 13) -> Path:
    """A classifier that makes quantlab add whatever it may add to one."""
    bounds = ["low", "high"] if opset >= 11 else []
    clip = {} if opset >= 11 else {"min": 0.0, "max": 6.0}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1] * 4),
        helper.make_node("BatchNormalization", ["c1", *"gbmv"], ["n1"], name="norm"),
        helper.make_node("Clip", ["n1", *bounds], ["r1"], name="clip", **clip),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["s"], name="sum"),
        helper.make_node("Sigmoid", ["s"], ["sig"], name="gate"),
        helper.make_node("Mul", ["s", "sig"], ["silu"], name="silu"),
        helper.make_node("Conv", ["silu", "w2"], ["c3"], name="conv3", pads=[1] * 4),
        helper.make_node("Relu", ["c3"], ["r3"], name="relu3"),
        helper.make_node("Mul", ["r3", "half"], ["h3"], name="halved"),
        helper.make_node("Shape", ["h3"], ["shape"], name="shape"),
        helper.make_node("Gather", ["shape", "zero"], ["n"], name="first", axis=0),
        helper.make_node("GlobalAveragePool", ["h3"], ["p"], name="pool"),
        helper.make_node("Conv", ["p", "fc"], ["logits"], name="classifier"),
        helper.make_node("Flatten", ["logits"], ["y"], name="flat"),
    ]
    weights: dict[str, Any] = {
        "w1": floats(8, 3, 3, 3, seed=0), "w2": floats(8, 8, 3, 3, seed=2), "g": np.ones(8),
        "b": floats(8, seed=3), "m": floats(8, seed=4), "v": np.ones(8) / 2, "half": np.array(0.5),
        "fc": floats(10, 8, 1, 1, seed=5),
    }  # fmt: skip
    weights = {k: np.asarray(v, np.float32) for k, v in weights.items()}
    weights["zero"] = np.array(0)
    if bounds:
        weights |= {"low": np.zeros(1, np.float32), "high": np.full(1, 6, np.float32)}
    graph = helper.make_graph(
        nodes,
        "everything",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 10])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def renamed(source: Path, path: Path, names: Mapping[str, str], nodes: Mapping[str, str]) -> Path:
    """The same network with other names."""
    proto = onnx.load(source)
    for tensor in proto.graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in proto.graph.node:
        node.name = nodes.get(node.name, node.name)
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    onnx.save(proto, path)
    return path


def quantized(path: Path, **recipe: Any) -> onnx.ModelProto:
    return get_engine(recipe.get("engine", "quantlab")).quantize(
        Model.load(path), Recipe(**recipe), IMAGES
    )


def answers(model: onnx.ModelProto | Path) -> Any:
    with Runner(model, threads=1) as run:
        return run(IMAGES[0])


RECIPES: list[dict[str, Any]] = [
    {},
    {"format": "qoperator"},
    {"exclude": ("conv2",)},
    {"activations": "s16"},
    {"engine": "ort"},
]


@pytest.mark.parametrize("opset", [10, 13])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_names_of_the_users_change_no_answer(
    tmp_path: Path, recipe: dict[str, Any], opset: int
) -> None:
    """Every name that quantlab gives to this network is given to one of its weights, inner tensors
    and nodes, a few at a time, until all have been."""
    path = everything(tmp_path / "own.onnx", opset)
    source = onnx.load(path).graph
    first = quantized(path, **recipe)
    expected = answers(first)
    steps = [prepare(onnx.load(path)).graph, first.graph]
    made = sorted(set().union(*map(g.tensor_names, steps)) - g.tensor_names(source))
    made_nodes = sorted(set().union(*map(g.node_names, steps)) - g.node_names(source))
    assert len(made) > 20
    own = sorted(g.tensor_names(source) - {"x", "y", ""})
    own_nodes = sorted({node.name for node in source.node} - set(recipe.get("exclude", ())))
    for i in range(0, len(made), len(own)):
        names = dict(zip(own, made[i : i + len(own)], strict=False))
        nodes = dict(zip(own_nodes, made_nodes[i : i + len(own_nodes)], strict=False))
        other = renamed(path, tmp_path / "other.onnx", names, nodes)
        assert np.array_equal(answers(path), answers(other)), "only names differ"
        assert np.array_equal(answers(quantized(other, **recipe)), expected), (names, nodes)


def test_parts_of_different_tensors_have_different_names() -> None:
    """``a/weight``'s scale and the scale of ``a``'s weight would have one name."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="quantlab/a/copy"),
        helper.make_node("Relu", ["a"], ["a/weight"], name="n"),
        helper.make_node("Relu", ["a/weight"], ["quantlab/a/fp32"], name="m"),
    ]
    names = MadeNames(helper.make_graph(nodes, "g", [], []))
    assert names.tensor("a", "weight/scale") != names.tensor("a/weight", "scale")
    assert names.tensor("a", "fp32") == "quantlab/a/fp32_2"
    assert names.node("a", "copy") == "quantlab/a/copy_2"
    assert names.tensor("a", "quantized") == "quantlab/a/quantized"


def test_names_in_subgraphs_are_taken() -> None:
    inner = helper.make_graph([helper.make_node("Relu", ["a"], ["b"], name="m")], "inner", [], [])
    node = helper.make_node("If", ["yes"], ["c"], name="n", then_branch=inner, else_branch=inner)
    graph = helper.make_graph([node], "outer", [], [])
    assert g.tensor_names(graph) == {"yes", "a", "b", "c"}
    assert g.node_names(graph) == {"n", "m"}
    names = g.Names(g.tensor_names(graph))
    assert [names.new("b"), names.new("b"), names.new("d")] == ["b_2", "b_3", "d"]


def test_folding_takes_free_names(tmp_path: Path) -> None:
    path = everything(tmp_path / "own.onnx")
    pipeline = get_pipeline("caffe", SIZE)
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)

    def folded(model: Path) -> Any:
        loaded = Model.load(model)
        proto = fold_preprocess(loaded.proto(), loaded.input, pipeline)
        made = sorted(g.tensor_names(proto.graph) - g.tensor_names(loaded.proto().graph))
        with Runner(proto, threads=1) as run:
            return made, run(pixels)

    made, expected = folded(path)
    own = sorted(g.initializers(onnx.load(path).graph))
    names = dict(zip(own, made, strict=False))
    other = folded(renamed(path, tmp_path / "other.onnx", names, {}))
    assert np.array_equal(other[1], expected)


def test_layers_are_found_under_any_name(tmp_path: Path) -> None:
    path = everything(tmp_path / "own.onnx")
    names = {"r1": "quantlab/c1/fp32", "s": "r3/exact", "c3": "s_quantized"}
    reports = []
    for i, fp32 in enumerate((path, renamed(path, tmp_path / "other.onnx", names, {}))):
        int8 = tmp_path / f"int8-{i}.onnx"
        onnx.save(quantized(fp32), int8)
        reports.append(debug_layers(Model.load(fp32), Model.load(int8), IMAGES))
    first, second = reports
    assert [x.node for x in first.layers] == [x.node for x in second.layers]
    for one, other in zip(first.layers, second.layers, strict=True):
        assert (one.accumulated, one.local) == (other.accumulated, other.local)
