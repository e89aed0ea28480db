"""The static share of MACs in int8, against what ONNX Runtime really runs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from quantlab.inspect.counts import count_macs, node_macs
from quantlab.inspect.int8_share import NOT_QUANTIZED, int8_share
from quantlab.model.model import InputSpec, Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.testing import tiny_classifier


class Images:
    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        yield np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)


PLAIN: dict[str, Any] = {
    "equalize": False,
    "bias_correction": False,
    "rounding": "nearest",
    "range_search": False,
}


WEIGHT = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}


def executed(path: Path, spec: InputSpec, folder: Path) -> float:
    """The share by the graph that ONNX Runtime really runs and its profile of a run: another way
    to count."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.intra_op_num_threads = True, 1
    options.profile_file_prefix = str(folder / "profile")
    options.optimized_model_filepath = str(folder / "executed.onnx")
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED  # one that pads no channels
    options.graph_optimization_level = level
    run = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    image = (3, spec.height, spec.width) if spec.layout == "NCHW" else (spec.height, spec.width, 3)
    run.run(None, {spec.name: np.zeros((spec.batch or 1, *image), spec.dtype)})
    events = json.loads(Path(run.end_profiling()).read_text())
    made = {
        event["name"].removesuffix("_kernel_time"): event["args"]["output_type_shape"]
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    }
    graph = onnx.load(folder / "executed.onnx").graph
    dims = {t.name: tuple(t.dims) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in dims:
            dims[node.output[0]] = dims[node.input[0]]
    macs = {True: 0, False: 0}
    for node in graph.node:
        op = node.op_type
        if not any(kind in op for kind in ("Conv", "MatMul", "Gemm")):
            continue
        weight = dims[node.input[WEIGHT.get(op, 1)]]
        out = math.prod(next(iter(made[node.name][0].values())))
        rows = next((a.i for a in node.attribute if a.name == "transB"), 0)
        inner = math.prod(weight[1:]) if "Conv" in op or rows else weight[0]
        integer = op.startswith(("QLinear", "QGemm")) or "Integer" in op or "DynamicQuant" in op
        macs[integer] += out * inner
    return macs[True] / sum(macs.values())


def share(path: Path, excluded: dict[str, str] | None = None) -> Any:
    model = Model.load(path)
    proto = model.proto()
    return int8_share(proto.graph, node_macs(proto, model.input), excluded)


def quantized(folder: Path, **fields: Any) -> Path:
    engine = fields.get("engine", "quantlab")
    recipe = Recipe(**{**(PLAIN if engine == "quantlab" else {}), **fields})
    model = Model.load(tiny_classifier(folder / "net.onnx"))
    made = get_engine(engine).quantize(model, recipe, Images())
    onnx.save(made, folder / "int8.onnx")
    return folder / "int8.onnx"


RECIPES: list[dict[str, Any]] = [
    {},
    {"format": "qoperator"},
    {"fp32_output": False},
    {"activations": "u16"},
    {"engine": "ort"},
    {"engine": "ort", "format": "qoperator"},
]


@pytest.mark.parametrize("fields", RECIPES, ids=str)
def test_the_count_is_what_onnx_runtime_runs(fields: dict[str, Any], tmp_path: Path) -> None:
    path = quantized(tmp_path, **fields)
    found = share(path)
    assert found.int8 == pytest.approx(executed(path, Model.load(path).input, tmp_path), abs=1e-9)
    assert found.count == count_macs(Model.load(path).proto(), Model.load(path).input)
    assert found.int8 + sum(x.share for x in found.fp32) == pytest.approx(1)


def test_dynamic_quantization_counts(tmp_path: Path) -> None:
    plain, path = tiny_classifier(tmp_path / "net.onnx"), tmp_path / "dynamic.onnx"
    quantize_dynamic(plain, path, weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul"])
    found = share(path)
    assert found.int8 == pytest.approx(executed(path, Model.load(path).input, tmp_path), abs=1e-9)


def test_sixteen_bits_are_no_int8(tmp_path: Path) -> None:
    found = share(quantized(tmp_path, activations="u16"))
    assert found.int8 == 0
    assert found.fp32[0].reason == "no int8 kernel for these types"


def test_a_plain_model_has_none(tmp_path: Path) -> None:
    found = share(tiny_classifier(tmp_path / "net.onnx"))
    assert found.int8 == 0
    assert {x.reason for x in found.fp32} == {NOT_QUANTIZED}


def test_why_a_node_was_left_out(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "net.onnx"))
    second = [n.name for n in model.proto().graph.node if n.op_type == "Conv"][1]
    found = share(quantized(tmp_path, exclude=[second]), {second: "excluded by the recipe"})
    (left,) = [x for x in found.fp32 if x.op_type == "Conv"]
    assert (left.nodes, left.reason) == (1, "excluded by the recipe")
    assert left.share == pytest.approx(1 - found.int8)


def _attention(folder: Path) -> Path:
    """Two matrices of activations multiplied, and a Sigmoid and an Erf, between quantizers."""
    value = helper.make_tensor_value_info
    scale, zero = np.float32(0.1), np.uint8(128)
    weights = [
        numpy_helper.from_array(scale, "s"),
        numpy_helper.from_array(zero, "z"),
        numpy_helper.from_array(np.array([0, 48]), "flat"),
        numpy_helper.from_array(np.ones((48, 5), np.float32), "w"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Sigmoid", ["e"], ["g"]),
        helper.make_node("MatMul", ["e", "g"], ["m"]),
        helper.make_node("Reshape", ["m", "flat"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [value("x", TensorProto.FLOAT, [1, 3, 4, 4])],
        [value("y", TensorProto.FLOAT, [1, 5])],
        weights,
    )
    path = folder / "attention.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def test_the_engines_reasons(tmp_path: Path) -> None:
    found = share(_attention(tmp_path))
    assert found.int8 == 0
    assert found.count == 3 * 4 * 4 * 4 + 48 * 5
    assert {(x.op_type, x.nodes, x.reason) for x in found.fp32} == {
        ("MatMul", 1, "no constant weights"),
        ("MatMul", 1, "gives the model's output"),
        ("Erf", 1, "no int8 kernel"),
        ("Sigmoid", 1, "not quantized by the engine"),
    }
    shares = [x.share for x in found.fp32]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv2-12.onnx",
        "mobilenetv2-12-int8.onnx",
        "shufflenet-v2-12-int8.onnx",
    ],
)
def test_real_models(name: str, data_root: Path, tmp_path: Path) -> None:
    path = data_root / "models" / name
    found = share(path)
    assert found.int8 == pytest.approx(executed(path, Model.load(path).input, tmp_path), abs=1e-3)
