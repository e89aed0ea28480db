"""unfuse: the files that ONNX Runtime's optimizer writes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import QuantizeError
from quantlab.inspect.inspection import inspect_model
from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.quantize.prepare import prepare
from quantlab.quantize.unfuse import unfuse
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner
from quantlab.runtime.session import create_session
from quantlab.testing import tiny_classifier


class Batches(list[Any]):
    def __len__(self) -> int:
        return sum(map(len, self))


def drawn(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


WEIGHTS = {
    "w": drawn(4, 3, 3, 3), "b": drawn(4, seed=1), "z": drawn(1, 4, 8, 8, seed=2),
    "v2": drawn(8, seed=6), "qkv": drawn(8, 24, seed=7), "qkvb": drawn(24, seed=8),
    "v3": drawn(24, seed=9), "u": drawn(1, 24, 8, seed=10),
    "m": drawn(8, 5, seed=3), "mt": drawn(5, 8, seed=4), "c": drawn(5, seed=5), "v": drawn(8),
}  # fmt: skip
CASES: dict[str, tuple[str, list[str], dict[str, Any]]] = {
    "relu": ("FusedConv", ["x", "w", "b"], {"activation": "Relu"}),
    "sum": ("FusedConv", ["x", "w", "b", "z"], {"activation": "Relu"}),
    "no bias": ("FusedConv", ["x", "w", "", "z"], {"activation": "Tanh"}),
    "clip": ("FusedConv", ["x", "w"], {"activation": "Clip", "activation_params": [-0.5, 2.0]}),
    "leaky": ("FusedConv", ["x", "w"], {"activation": "LeakyRelu", "activation_params": [0.3]}),
    "hard": (
        "FusedConv", ["x", "w"], {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}
    ),
    "gemm": ("FusedGemm", ["r", "m", "c"], {"activation": "Relu", "alpha": 0.5, "beta": 2.0}),
    "gemm leaky": (
        "FusedGemm", ["r", "mt", "c"],
        {"activation": "LeakyRelu", "activation_alpha": 0.2, "transB": 1},
    ),
    "matmul": ("FusedMatMul", ["r", "m"], {"alpha": 0.25}),
    "matmul transposed": ("FusedMatMul", ["r", "mt"], {"transB": 1, "alpha": 1.0}),
    "silu": ("QuickGelu", ["x"], {"alpha": 1.0}),
    "quick": ("QuickGelu", ["x"], {"alpha": 1.702}),
    "gelu": ("Gelu", ["x"], {}),
    "biased": ("BiasGelu", ["r", "v"], {}),
    "fast": ("FastGelu", ["r", "v"], {}),
    "skip": ("SkipLayerNormalization", ["t", "u", "v", "v2"], {"epsilon": 1e-2}),
    "skip and bias": ("SkipLayerNormalization", ["t", "u", "v", "", "v2"], {}),
    "normalized": ("LayerNormalization", ["t", "v", "v2"], {"epsilon": 1e-2}),
    "root mean square": ("SimplifiedLayerNormalization", ["t", "v"], {}),
    "skip root mean square": ("SkipSimplifiedLayerNormalization", ["t", "u", "v", "v2"], {}),
    "attention": ("Attention", ["t", "qkv", "qkvb"], {"num_heads": 2}),
    "attention scaled": ("Attention", ["t", "qkv", "qkvb"], {"num_heads": 4, "scale": 0.7}),
    "heads": ("MultiHeadAttention", ["t", "u", "u", "v3"], {"num_heads": 2}),
    "heads scaled": ("MultiHeadAttention", ["t", "u", "t"], {"num_heads": 4, "scale": 0.3}),
}  # fmt: skip


def fused(op: str, reads: list[str], attributes: dict[str, Any], opset: int) -> onnx.ModelProto:
    if op == "FusedConv":
        attributes = {"pads": [1] * 4, **attributes}
    own = "" if op in ("LayerNormalization", "SimplifiedLayerNormalization") else "com.microsoft"
    nodes = [
        helper.make_node("Reshape", ["x", "rows"], ["r"]),
        helper.make_node("Reshape", ["x", "tokens"], ["t"]),
        helper.make_node(op, reads, ["y"], name="it", domain=own, **attributes),
    ]
    sizes = {"rows": np.array([-1, 8], np.int64), "tokens": np.array([0, -1, 8], np.int64)}
    values = {**WEIGHTS, **sizes}
    graph = helper.make_graph(
        nodes,
        "fused",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in values.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("opset", [9, 13])
@pytest.mark.parametrize("case", CASES)
def test_what_is_taken_apart_computes_the_same(case: str, opset: int) -> None:
    proto = fused(*CASES[case], opset)
    apart = onnx.ModelProto()
    apart.CopyFrom(proto)
    unfuse(apart)
    assert all(node.domain == "" for node in apart.graph.node)
    assert "it" in [node.name for node in apart.graph.node]
    x = drawn(1, 3, 8, 8, seed=9)
    expected, found = (
        create_session(p.SerializeToString(), threads=1).run(None, {"x": x})[0]
        for p in (proto, apart)
    )
    assert found == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("attributes", [{"transB": 1}, {"transA": 1, "alpha": 2.0}], ids=str)
def test_products_of_turned_tensors(attributes: dict[str, Any]) -> None:
    proto = fused("FusedMatMul", ["t", "u"], attributes, 13)
    apart = prepare(proto)
    assert "FusedMatMul" not in [n.op_type for n in apart.graph.node]
    x = drawn(1, 3, 8, 8, seed=9)
    expected, found = (
        create_session(p.SerializeToString(), threads=1).run(None, {"x": x})[0]
        for p in (proto, apart)
    )
    assert found == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize(
    ("op", "reads", "attributes"),
    [
        ("FusedMatMul", ["t", "u"], {"transBatchA": 1}),
        ("FusedConv", ["x", "w"], {"activation": "Swish"}),
        ("Attention", ["t", "qkv", "qkvb", "mask"], {"num_heads": 2}),
        ("MultiHeadAttention", ["t"], {"num_heads": 2}),
        ("NhwcFusedConv", ["x", "w"], {}),
        ("LayerNormalization", ["t", "v"], {"axis": 2}),
    ],
    ids=lambda v: str(v)[:20],
)
def test_other_forms_are_refused_by_name(
    op: str, reads: list[str], attributes: dict[str, Any]
) -> None:
    with pytest.raises(QuantizeError, match=f"node it: .* this {op} of several") as caught:
        prepare(fused(op, reads, attributes, 13))
    assert "level basic" in caught.value.remedy


def test_operators_that_hold_no_weights_stay() -> None:
    proto = fused("Inverse", ["x"], {}, 13)
    unfuse(proto)
    assert [n.op_type for n in proto.graph.node][-1] == "Inverse"


def test_the_sum_beside_a_normalization_has_its_name() -> None:
    proto = fused("SkipLayerNormalization", ["t", "u", "v"], {}, 17)
    proto.graph.node[-1].output.extend(["", "", "total"])
    proto.graph.output.append(helper.make_tensor_value_info("total", TensorProto.FLOAT, None))
    apart = prepare(proto)
    assert [n.op_type for n in apart.graph.node][-2:] == ["Add", "LayerNormalization"]
    x = drawn(1, 3, 8, 8, seed=9)
    answers = [
        create_session(p.SerializeToString(), threads=1).run(None, {"x": x}) for p in (proto, apart)
    ]
    for expected, found in zip(*answers, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


def optimized(path: Path, level: str) -> Path:
    """What ONNX Runtime writes."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    target = path.with_name(f"{level}.onnx")
    options.optimized_model_filepath, options.log_severity_level = str(target), 4
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return target


@pytest.mark.parametrize("parts", [{}, {"relu6": False}, {"opset": 10}, {"opset": 8}], ids=str)
def test_an_optimized_file_is_quantized_as_its_original(
    tmp_path: Path, parts: dict[str, Any]
) -> None:
    path = tiny_classifier(tmp_path / "m.onnx", **parts)
    models = [Model.load(path), Model.load(optimized(path, "EXTENDED"))]
    assert "FusedConv" in models[1].op_census
    macs = {inspect_model(model).macs for model in models}
    assert len(macs) == 1
    images = Batches([drawn(8, 3, 32, 32)])
    kernels = []
    for i, model in enumerate(models):
        target = tmp_path / f"int8-{i}.onnx"
        onnx.save(QuantlabEngine().quantize(model, Recipe(), images), target)
        found = inspect_model(Model.load(target))
        kernels.append(Counter(k.op_type for k in found.of_kind("int8")))
    assert kernels[0] == kernels[1]
    with Runner(models[0], threads=1) as whole, Runner(target, threads=1) as int8:
        difference = whole(images[0]) - int8(images[0])
        assert np.abs(difference).max() < 0.2 * np.abs(whole(images[0])).max()


def test_a_file_laid_out_for_one_cpu_is_refused(tmp_path: Path) -> None:
    model = Model.load(optimized(tiny_classifier(tmp_path / "m.onnx"), "ALL"))
    with pytest.raises(QuantizeError, match="laid the model out") as caught:
        prepare(model.proto())
    assert "original" in caught.value.remedy


def test_operators_in_subgraphs_keep_their_domain(tmp_path: Path) -> None:
    proto = fused("Gelu", ["x"], {}, 13)
    inner = proto.graph.node[-1]
    made = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    inner.output[0] = "inner"
    branch = helper.make_graph([inner], "branch", [], [made])
    choice = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    del proto.graph.node[:]
    proto.graph.node.append(choice)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    proto.graph.output[0].type.tensor_type.shape.CopyFrom(
        proto.graph.input[0].type.tensor_type.shape
    )
    kept = prepare(proto)
    assert "com.microsoft" in [o.domain for o in kept.opset_import]
    with Runner(kept, threads=1) as run:
        assert run(drawn(1, 3, 8, 8)).shape == (1, 192)
