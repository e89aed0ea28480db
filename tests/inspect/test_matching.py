from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.inspect.matching import Quantizer, match, plain_name
from quantlab.quantize.prepare import prepare

WRITERS = [("ort", "qdq"), ("ort", "qoperator"), ("quantlab", "qdq"), ("quantlab", "qoperator")]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("317", "317"),
        ("317_quantized", "317"),
        ("317_QuantizeLinear_Output", "317"),
        ("317_DequantizeLinear_Output", "317"),
        ("quantlab/a/b/fp32", "a/b"),
        ("quantlab/a/b/quantized", "a/b"),
        ("quantlab/a/weight", "quantlab/a/weight"),
        ("my_quantized_net", "my_quantized_net"),
    ],
)
def test_names(name: str, plain: str) -> None:
    assert plain_name(name) == plain


@pytest.mark.parametrize(("engine", "form"), WRITERS)
def test_every_tensor_of_every_writer(twins: Any, engine: str, form: str) -> None:
    pair = twins(engine, form)
    found = match(prepare(pair.fp32.proto()).graph, pair.int8.proto().graph)
    assert found.unmatched == ()
    layers = [(p.tensor, p.node) for p in found.pairs if p.op_type != "Flatten"]
    assert layers == [
        ("input", ""),
        ("stem_act", "stem"),
        ("depthwise_act", "depthwise"),
        ("pointwise", "pointwise"),
        ("residual", "residual"),
        ("pool", "pool"),
        ("output", "output"),
    ]
    assert [p.tensor for p in found.pairs if p.quantizer is None] == ["output"]


def test_a_missing_counterpart_is_named(twins: Any) -> None:
    pair = twins("ort", "qdq")
    proto = pair.int8.proto()
    for node in proto.graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = name.replace("pointwise_", "other_").replace("residual", "sum")
                names[i] = "other" if names[i] == "pointwise" else names[i]
    found = match(prepare(pair.fp32.proto()).graph, proto.graph)
    assert found.unmatched == ("pointwise", "residual")


def test_an_excluded_layer_is_matched_by_its_quantized_output(twins: Any) -> None:
    pair = twins("quantlab", "qdq", exclude=("pointwise",))
    found = match(prepare(pair.fp32.proto()).graph, pair.int8.proto().graph)
    assert "pointwise" in {p.tensor for p in found.pairs}


def test_quantizing_is_what_onnx_does() -> None:
    quantizer = Quantizer(0.1, 128, "uint8")
    values = np.array([-20, -12.85, -0.05, 0.05, 0.15, 3, 99], np.float32)
    node = onnx.helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"])
    from onnx.reference import ReferenceEvaluator

    feeds = {"x": values, "s": np.array(0.1, np.float32), "z": np.array(128, np.uint8)}
    (expected,) = ReferenceEvaluator(node).run(None, feeds)  # type: ignore[arg-type]
    assert np.array_equal(quantizer.quantized(values), expected)
    assert np.allclose(quantizer.real(expected)[1:-1], values[1:-1], atol=0.0501)
