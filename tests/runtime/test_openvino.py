"""What OpenVINO cannot convert is said with its node, in two lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from quantlab.errors import ModelError
from quantlab.model.model import Model
from quantlab.runtime.openvino import OpenVinoSession, ir_of
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier


def graph(*nodes: onnx.NodeProto, **weights: np.ndarray) -> bytes:
    """A model from x [N, 4] to y of these nodes."""
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4])
    made = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    domains = [
        helper.make_opsetid(d, v) for d, v in (("", 17), ("my.ops", 1), ("com.microsoft", 1))
    ]
    content = helper.make_graph([*nodes], "g", [given], [made], stored)
    return bytes(helper.make_model(content, opset_imports=domains).SerializeToString())


node = helper.make_node
CASES = {
    "custom": (
        graph(node("Relu", ["x"], ["a"]), node("Mine", ["a"], ["y"], "its", domain="my.ops")),
        "it has no conversion for the operator Mine of the node its: OpenVINO does not know the "
        "operator.",
    ),
    "nameless": (
        graph(node("Mine", ["x"], ["y"], domain="my.ops")),
        "it has no conversion for the operator Mine of the node y: OpenVINO does not know the "
        "operator.",
    ),
    "ranks": (
        graph(node("Conv", ["x", "w"], ["y"], "first"), w=np.zeros((2, 3, 1, 1), np.float32)),
        "the node first (Conv): Data batch and filters rank do not match",
    ),
    "sizes": (
        graph(node("Add", ["x", "b"], ["y"], "plus"), b=np.zeros(3, np.float32)),
        "the node plus (Add): Argument shapes are inconsistent.",
    ),
    "inputs": (
        graph(node("QLinearSigmoid", ["x"], ["y"], "act", domain="com.microsoft")),
        "the node act (QLinearSigmoid): QLinearSigmoid expected at least 5 inputs, got: 1.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_node_and_the_reason_are_named(
    case: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content, said = CASES[case]
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ModelError, match="OpenVINO cannot load") as caught:
            OpenVinoSession(source, threads=1)
        assert said in caught.value.problem
        assert "\n" not in caught.value.problem
        assert "src/" not in caught.value.problem
    with pytest.raises(ModelError, match="OpenVINO cannot convert") as caught:
        ir_of(content)
    assert said in caught.value.problem
    assert capfd.readouterr() == ("", "")


@pytest.mark.data
@pytest.mark.parametrize("name", ["mobilenetv2-12-int8", "shufflenet-v2-12-int8"])
def test_per_channel_qlinear_convolutions_are_named_with_a_way_out(
    name: str, data_root: Path
) -> None:
    model = Model.load(data_root / "models" / f"{name}.onnx")
    with pytest.raises(ModelError) as caught:
        Runner(model, runtime="openvino")
    assert str(model.path) in caught.value.problem
    said = "Conv_0_quant (QLinearConv): The number of dequantization scale elements"
    assert said in caught.value.problem
    assert "format: QDQ" in caught.value.remedy


def test_other_openvino_ir_than_it_reads(tmp_path: Path) -> None:
    path = Model.load(tiny_classifier(tmp_path / "m.onnx")).save(tmp_path / "m.xml")
    path.write_text(path.read_text().replace('type="ReduceMean"', 'type="Mine"'))
    with pytest.raises(ModelError, match="OpenVINO cannot load") as caught:
        Runner(path)
    assert "Mine" in caught.value.problem
    assert "\n" not in caught.value.problem
