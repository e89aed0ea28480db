"""Operators' output scales against what stands in the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantlab.inspect.output_scales import OperatorScale, list_operators
from quantlab.model.model import Model


def constants(graph: onnx.GraphProto) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in graph.initializer}


def rows_of(graph: onnx.GraphProto) -> dict[str, OperatorScale]:
    return {row.output: row for row in list_operators(graph)}


@pytest.mark.parametrize("engine", ["ort", "quantlab"])
def test_qoperator_files_carry_the_labels_in_their_nodes(twins: Any, engine: str) -> None:
    graph = twins(engine, "qoperator").int8.proto().graph
    rows, values = rows_of(graph), constants(graph)
    convs = [n for n in graph.node if n.op_type == "QLinearConv"]
    assert len(convs) == 3
    for node in convs:
        row = rows[node.output[0]]
        assert (row.name, row.operator, row.type) == (node.name, "QLinearConv", "uint8")
        assert row.Y_scale == float(values[node.input[6]])
        assert row.Y_zero_point == int(values[node.input[7]])


@pytest.mark.parametrize("engine", ["ort", "quantlab"])
def test_qdq_files_carry_them_in_the_quantizer_behind(twins: Any, engine: str) -> None:
    graph = twins(engine, "qdq").int8.proto().graph
    rows, values = rows_of(graph), constants(graph)
    operators = {n.output[0]: n for n in graph.node if "QuantizeLinear" not in n.op_type}
    assert "DequantizeLinear" not in {row.operator for row in rows.values()}
    labelled = 0
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in operators:
            row = rows[node.input[0]]
            assert row.operator == operators[node.input[0]].op_type
            assert row.Y_scale == float(values[node.input[1]])
            assert row.Y_zero_point == int(values[node.input[2]])
            labelled += 1
    assert labelled >= 4
    assert rows[next(n for n in graph.node if n.input[0] == "input").output[0]].Y_scale


def test_both_formats_label_alike(twins: Any) -> None:
    """ONNX Runtime's quantizer gives its two formats the same ranges."""
    found = [
        {
            row.Y_scale
            for row in list_operators(twins("ort", form).int8.proto().graph)
            if "Conv" in row.operator or row.operator == "Clip"
        }
        - {None}
        for form in ("qdq", "qoperator")
    ]
    assert len(found[0]) >= 3
    np.testing.assert_allclose(sorted(found[0] & found[1]), sorted(found[0]))  # type: ignore[type-var]


def test_what_moves_integers_keeps_their_scale_and_fp32_has_none() -> None:
    number = numpy_helper.from_array
    weights = [
        number(np.array(0.5, np.float32), "s"),
        number(np.array(3, np.uint8), "z"),
        number(np.array([1, -1]), "shape"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("MaxPool", ["q"], ["p"], name="pool", kernel_shape=[1, 1]),
        helper.make_node("Reshape", ["p", "shape"], ["r"], name="reshape"),
        helper.make_node("Shape", ["r"], ["dims"], name="dims"),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["d"], name="d"),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    rows = list_operators(helper.make_graph(nodes, "g", [x], [y], weights))
    assert [(r.name, r.type, r.Y_scale, r.Y_zero_point) for r in rows] == [
        ("q", "uint8", 0.5, 3),
        ("pool", "uint8", 0.5, 3),
        ("reshape", "uint8", 0.5, 3),
        ("y", None, None, None),
    ]


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "quantized", "all_"),
    [("mobilenetv2-12-int8", 67, 67), ("st-mobilenetv2-int8-nhwc-uint8", 105, 141)],
)
def test_real_models(data_root: Path, name: str, quantized: int, all_: int) -> None:
    rows = list_operators(Model.load(data_root / "models" / f"{name}.onnx").proto().graph)
    assert (sum(r.type is not None for r in rows), len(rows)) == (quantized, all_)
