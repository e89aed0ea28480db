"""plain: local functions where they are called, sizes positive or free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, TensorProto, helper

from quantlab.errors import ModelError
from quantlab.model import plain
from quantlab.model.graph import tensor_shapes
from quantlab.model.model import Model
from quantlab.quantize.prepare import prepare
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier

Nodes = Sequence[onnx.NodeProto]
OPSET = helper.make_opsetid("", 13)
OWN = helper.make_opsetid("own", 1)


def function(name: str, nodes: Nodes, domain: str = "own", **parts: Sequence[str]) -> FunctionProto:
    """x → y."""
    return helper.make_function(
        domain, name, ["x"], ["y"], list(nodes), [OPSET, OWN], parts.get("attributes", [])
    )


def call(name: str, reads: str = "x", makes: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(name, [reads], [makes], domain="own", **attributes)


def standard(op: str, reads: str = "x", makes: str = "y", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, [reads], [makes], **attributes)


def with_functions(path: Path, functions: Sequence[FunctionProto], relu: str = "Act") -> Path:
    """A tiny classifier whose ReLUs are calls."""
    proto = onnx.load(tiny_classifier(path, relu6=False))
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = relu, "own"
    proto.opset_import.append(OWN)
    proto.functions.extend(functions)
    onnx.save(proto, path)
    return path


def leaky() -> FunctionProto:
    """LeakyRelu with the attribute that the caller gives."""
    node = standard("LeakyRelu")
    node.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    return function("Leaky", [node], attributes=["slope"])


ACT = function("Act", [call("Leaky", "x", "t", slope=0.25), standard("Relu", "t", "y")])


def test_functions_are_put_where_they_are_called(tmp_path: Path) -> None:
    uncalled = function("Uncalled", [standard("Neg")])
    path = with_functions(tmp_path / "m.onnx", [ACT, leaky(), uncalled])
    model = Model.load(path)
    assert model.op_census["LeakyRelu"] == 2
    assert "Act" not in model.op_census
    proto = prepare(model.proto())
    assert not proto.functions
    assert [o.domain for o in proto.opset_import] == [""]
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with Runner(model, threads=1) as own, Runner(proto, threads=1) as prepared:
        assert own(images) == pytest.approx(prepared(images), abs=1e-5)


def test_a_softmax_in_a_function_is_seen(tmp_path: Path) -> None:
    proto = onnx.load(tiny_classifier(tmp_path / "m.onnx", softmax=True))
    proto.graph.node[-1].op_type, proto.graph.node[-1].domain = "Last", "own"
    del proto.graph.node[-1].attribute[:]
    proto.opset_import.append(OWN)
    proto.functions.append(function("Last", [standard("Softmax", axis=1)]))
    onnx.save(proto, tmp_path / "m.onnx")
    assert Model.load(tmp_path / "m.onnx").output_kind == "probabilities"


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_a_function_that_shadows_an_operator_is_not_taken(tmp_path: Path, domain: str) -> None:
    """As in ONNX Runtime."""
    name = "Relu" if domain == "" else "Gelu"
    proto = onnx.load(tiny_classifier(tmp_path / "m.onnx", relu6=False))
    for node in proto.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = name, domain
    if domain:
        proto.opset_import.append(helper.make_opsetid(domain, 1))
    proto.functions.append(function(name, [standard("Neg")], domain))
    onnx.save(proto, tmp_path / "m.onnx")
    model = Model.load(tmp_path / "m.onnx")
    assert "Neg" not in model.op_census
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with Runner(model, threads=1) as own, Runner(model.proto(), threads=1) as plainly:
        assert own(images) == pytest.approx(plainly(images), abs=1e-5)


@pytest.mark.parametrize(
    ("functions", "reason"),
    [
        ([function("Act", [call("Act")])], "calls itself"),
        ([function("Act", [call("B")]), function("B", [call("Act")])], "calls itself"),
        (
            [
                function("Act", [call("F0")]),
                *(function(f"F{i}", [call(f"F{i + 1}")]) for i in range(60)),
                function("F60", [standard("Relu")]),
            ],
            "deep",
        ),
        (
            [
                function("Act", [call("F0")]),
                *(
                    function(f"F{i}", [call(f"F{i + 1}", "x", "t"), call(f"F{i + 1}", "t", "y")])
                    for i in range(30)
                ),
                function("F30", [standard("Relu")]),
            ],
            "unfold to more than",
        ),
    ],
    ids=["itself", "in a circle", "deep", "bomb"],
)
def test_hostile_functions_are_refused(
    tmp_path: Path, functions: list[FunctionProto], reason: str
) -> None:
    path = with_functions(tmp_path / "m.onnx", functions)
    with pytest.raises(ModelError, match=reason) as caught:
        Model.load(path)
    assert str(path) in caught.value.problem
    assert caught.value.remedy


def test_nodes_in_functions_are_counted_as_often_as_they_are_called() -> None:
    double = function("Double", [standard("Neg", "x", "t"), standard("Relu", "t", "y")])
    twice = function("Twice", [call("Double", "x", "t"), call("Double", "t", "y")])
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    nodes = [call("Twice", "x", "a"), call("Twice", "a", "b"), standard("Relu", "b", "y")]
    graph = helper.make_graph(nodes, "g", [given], [made])
    proto = helper.make_model(graph, functions=[double, twice], opset_imports=[OPSET, OWN])
    assert plain.expanded_nodes(proto) == 9
    assert len(plain.inlined(proto).graph.node) == 9


@pytest.mark.parametrize("size", [-1, 0])
def test_sizes_that_are_not_positive_are_free(tmp_path: Path, size: int) -> None:
    path = tiny_classifier(tmp_path / "m.onnx")
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    for dim in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_value = size
    assert tensor_shapes(proto)["input"] == (None, 3, None, None)
    onnx.save(proto, path)
    model = Model.load(path)
    assert (model.inputs[0].shape, model.input.batch) == ((None, 3, None, None), None)
    dims = prepare(proto).graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [0, 3, 0, 0]
    assert len({d.dim_param for d in dims if d.dim_param}) == 3
    with Runner(model, threads=1) as run:
        assert run(np.zeros((2, 3, 32, 32), np.float32)).shape == (2, 10)
    assert Path(model.runnable) == path if size else model.runnable != path
