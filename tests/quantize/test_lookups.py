"""A product of one-hot rows and a constant table becomes a Gather with the same answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.quantize.prepare import prepare
from quantlab.runtime.graphs import graph_session

ROWS, WIDTH = 7, 5
INDEX = np.random.default_rng(1).integers(-ROWS - 2, ROWS + 3, (3, 4, 2))
TABLE = np.random.default_rng(0).standard_normal((2, ROWS, WIDTH)).astype(np.float32)
SMALL, FIRST = TABLE[0, :2], np.arange(2).reshape(2, 1, 1, 1)
Tensors = dict[str, NDArray[Any]]


def node(op: str, reads: str, makes: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, reads.split(), makes.split(), **attributes)


def equal(reads: str = "wide count") -> list[onnx.NodeProto]:
    return [
        node("Unsqueeze", "x last", "wide"),
        node("Equal", reads, "found"),
        node("Cast", "found", "hot", to=TensorProto.INT64),
    ]


COUNTED = [node("Range", "zero rows one", "count")]
ONE_HOT = [node("OneHot", "x rows off_on", "hot", axis=-1)]
PRODUCT = [
    node("Transpose", "hot", "turned", perm=[0, 2, 1, 3]),
    node("Cast", "turned", "rows_of", to=TensorProto.FLOAT),
    node("MatMul", "rows_of table", "y"),
]


def model(nodes: list[onnx.NodeProto], changed: Tensors) -> onnx.ModelProto:
    weights: Tensors = {
        "last": np.array([-1]), "rows": np.array(ROWS), "zero": np.array(0), "one": np.array(1),
        "off_on": np.array([0, 1]), "table": TABLE, "minus": np.array([-1.0, 1.0], np.float32),
    }  # fmt: skip
    if not any("count" in n.output for n in nodes):
        weights["count"] = np.arange(ROWS)
    weights |= changed
    read = {name for n in nodes for name in n.input}
    tensors = [numpy_helper.from_array(v, k) for k, v in weights.items() if k in read]
    given = helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 4, 2])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "lookup", [given], [made], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("table", [TABLE, TABLE[:1], TABLE[0], TABLE[None]])
@pytest.mark.parametrize(
    "nodes",
    [equal(), equal("count wide"), [*COUNTED, *equal()], ONE_HOT],
    ids=["equal", "equal turned", "range", "one-hot"],
)
def test_lookup_is_a_gather(nodes: list[onnx.NodeProto], table: NDArray[np.float32]) -> None:
    proto = model([*nodes, *PRODUCT], {"table": table})
    made = prepare(proto)
    kinds = [n.op_type for n in made.graph.node]
    assert "MatMul" not in kinds
    assert kinds[-1] == "Gather"
    assert "OneHot" not in kinds
    expected, found = (
        graph_session(p, threads=1).run(None, {"x": INDEX})[0] for p in (proto, made)
    )
    assert (np.asarray(expected) == np.asarray(found)).all()
    assert np.asarray(found).shape == np.asarray(expected).shape


@pytest.mark.parametrize(
    ("nodes", "changed"),
    [
        (equal(), {"count": np.arange(ROWS)[::-1].copy()}),
        (equal(), {"last": np.array([0]), "count": FIRST, "table": SMALL}),
        (equal(), {"table": np.full_like(TABLE, np.inf)}),
        (ONE_HOT, {"off_on": np.array([1, 2])}),
        ([node("OneHot", "x rows off_on", "hot", axis=0)], {"rows": np.array(2), "table": SMALL}),
    ],
)
def test_other_products_stay(nodes: list[onnx.NodeProto], changed: Tensors) -> None:
    made = prepare(model([*nodes, *PRODUCT], changed))
    assert any(n.op_type == "MatMul" for n in made.graph.node)
