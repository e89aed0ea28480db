from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime import quantization as ortq

from quantlab.errors import ModelError
from quantlab.inspect.counts import count_macs, count_parameters, node_macs
from quantlab.inspect.inspection import Inspection, inspect_model
from quantlab.inspect.int8_share import int8_share
from quantlab.model.model import InputSpec, Model
from quantlab.quantize.prepare import prepare
from quantlab.runtime.graphs import graph_session
from quantlab.testing.models import tiny_classifier

STEM, DEPTHWISE, POINTWISE, FC = 16 * 3 * 9, 16 * 9, 16 * 16, 16 * 10


class _OneBatch(ortq.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        batch = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
        self._feeds = iter([{"input": batch}])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


@pytest.fixture
def quantized(tmp_path: Path) -> Callable[..., Model]:
    def make(kind: str, **options: Any) -> Model:
        source, target = tmp_path / "prepared.onnx", tmp_path / f"{kind}.onnx"
        proto = onnx.load(tiny_classifier(tmp_path / "tiny.onnx", batch_norm=True))
        onnx.save(prepare(proto), source)
        ortq.quantize_static(
            source,
            target,
            _OneBatch(),
            quant_format=ortq.QuantFormat[kind],
            per_channel=True,
            activation_type=options.pop("activations", ortq.QuantType.QUInt8),
            weight_type=ortq.QuantType.QInt8,
            **options,
        )
        return Model.load(target)

    return make


def test_a_float_model(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "tiny.onnx"))
    found = inspect_model(model)
    assert found.parameters == STEM + DEPTHWISE + POINTWISE + FC + 3 * 16 + 10
    assert found.macs == 256 * (STEM + DEPTHWISE + POINTWISE) + FC
    assert (found.layout, found.output_kind, found.num_classes) == ("NCHW", "logits", 10)
    assert found.op_census == model.op_census
    assert found.quantized_tensors == ()
    assert not found.of_kind("int8")
    assert {k.reason for k in found.of_kind("fp32")} == {"the model is not quantized"}
    assert sum(found.executed_census.values()) == len(found.kernels)


def test_the_result_is_plain_json(tmp_path: Path) -> None:
    found = inspect_model(Model.load(tiny_classifier(tmp_path / "tiny.onnx")))
    data = json.loads(json.dumps(found.model_dump(mode="json")))
    assert Inspection.model_validate(data) == found


def test_batch_norm_counts_scale_and_shift_only(tmp_path: Path) -> None:
    proto = onnx.load(tiny_classifier(tmp_path / "tiny.onnx", batch_norm=True))
    weights = STEM + DEPTHWISE + POINTWISE + FC
    assert count_parameters(proto.graph) == weights + 3 * 32 + 10
    assert count_parameters(prepare(proto).graph) == weights + 3 * 16 + 10


@pytest.mark.parametrize("options", [{"batch": 4}, {"layout": "NHWC", "dtype": "uint8"}])
def test_macs_are_for_one_image_whatever_the_input(tmp_path: Path, options: Any) -> None:
    model = Model.load(tiny_classifier(tmp_path / "tiny.onnx", **options))
    assert count_macs(model.proto(), model.input) == 256 * (STEM + DEPTHWISE + POINTWISE) + FC


@pytest.mark.parametrize("kind", ["QDQ", "QOperator"])
def test_a_quantized_model_runs_in_int8_and_counts_the_same(
    quantized: Callable[..., Model], kind: str
) -> None:
    found = inspect_model(quantized(kind))
    assert found.is_quantized
    assert found.executed_census["QLinearConv"] == 3
    assert found.executed_census["QLinearAdd"] == 1
    assert found.parameters == STEM + DEPTHWISE + POINTWISE + FC + 3 * 16 + 10
    assert found.macs == 256 * (STEM + DEPTHWISE + POINTWISE) + FC
    assert not found.of_kind("fp32")
    assert len(found.of_kind("quantize")) == 2


@pytest.mark.parametrize("kind", ["QDQ", "QOperator"])
def test_scales_are_those_of_the_file(quantized: Callable[..., Model], kind: str) -> None:
    model = quantized(kind)
    tensors = inspect_model(model).quantized_tensors
    assert len({t.name for t in tensors}) == len(tensors)
    roles = Counter(t.role for t in tensors)
    assert roles["weight"] == 4
    weights = {t.name: numpy_helper.to_array(t) for t in model.proto().graph.initializer}
    for tensor in tensors:
        if tensor.role == "weight" and tensor.channels > 1:
            scale = weights[tensor.name.replace("_quantized", "_scale")]
            assert (tensor.scale_min, tensor.scale_max) == (scale.min(), scale.max())
            assert tensor.channels == scale.size
            assert (tensor.zero_point_min, tensor.zero_point_max, tensor.dtype) == (0, 0, "int8")
        elif tensor.role == "activation":
            assert (tensor.dtype, tensor.channels) == ("uint8", 1)


def test_an_excluded_node_is_fp32_and_says_why(quantized: Callable[..., Model]) -> None:
    found = inspect_model(quantized("QDQ", nodes_to_exclude=["stem"]))
    stem = found.of_kind("fp32")[0]
    assert stem.op_type == "Conv"
    assert "its input input is not quantized" in stem.reason
    assert "its weight is not quantized" in stem.reason


def test_onnx_runtime_undoes_the_exclusion_of_a_conv_between_quantizers(
    quantized: Callable[..., Model],
) -> None:
    """It quantizes the fp32 weight itself; inspect shows what runs, not what the file says."""
    model = quantized("QDQ", nodes_to_exclude=["depthwise"])
    assert sum(t.role == "weight" for t in inspect_model(model).quantized_tensors) == 3
    assert inspect_model(model).executed_census["QLinearConv"] == 3


def test_an_fp32_classifier_output_says_so(quantized: Callable[..., Model]) -> None:
    found = inspect_model(quantized("QDQ", nodes_to_exclude=["output"]))
    assert [k.op_type for k in found.of_kind("fp32")] == ["Gemm"]
    assert "its output output is the model's" in found.of_kind("fp32")[0].reason


def test_sixteen_bits_have_no_kernel(quantized: Callable[..., Model]) -> None:
    options = {"UseQDQContribOps": True}
    model = quantized("QDQ", activations=ortq.QuantType.QUInt16, extra_options=options)
    convs = [k for k in inspect_model(model).of_kind("fp32") if k.op_type == "Conv"]
    assert len(convs) == 3
    assert all("is uint16, and the kernels are 8-bit" in k.reason for k in convs)


def test_a_low_optimization_level_is_the_reason(quantized: Callable[..., Model]) -> None:
    found = inspect_model(quantized("QDQ"), optimization="disabled")
    reasons = {k.reason for k in found.of_kind("fp32") if k.op_type == "Conv"}
    assert reasons == {"optimization level disabled fuses no quantized node"}


def test_what_is_no_classifier_is_refused(tmp_path: Path) -> None:
    proto = onnx.load(tiny_classifier(tmp_path / "tiny.onnx"))
    proto.graph.output[0].name = "flat"
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 1
    onnx.save(proto, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="not an image classifier"):
        inspect_model(Model.load(tmp_path / "odd.onnx"))


LAYERS = {"stem": 256 * STEM, "depthwise": 256 * DEPTHWISE, "pointwise": 256 * POINTWISE, "fc": FC}


def share(proto: onnx.ModelProto, spec: InputSpec) -> float:
    return int8_share(proto.graph, node_macs(proto, spec)).int8


@pytest.mark.parametrize("kind", ["QDQ", "QOperator"])
def test_the_share_of_macs_in_int8(
    tmp_path: Path, quantized: Callable[..., Model], kind: str
) -> None:
    fp32 = Model.load(tiny_classifier(tmp_path / "tiny.onnx"))
    assert share(fp32.proto(), fp32.input) == 0
    assert share((whole := quantized(kind)).proto(), whole.input) == 1
    conv = next(n.name for n in prepare(fp32.proto()).graph.node if n.op_type == "Conv")
    part = quantized(kind, nodes_to_exclude=[conv])
    expected = 1 - LAYERS["stem"] / sum(LAYERS.values())
    assert share(part.proto(), part.input) == pytest.approx(expected)


def test_sixteen_bits_are_no_int8(quantized: Callable[..., Model]) -> None:
    model = quantized(
        "QDQ",
        activations=ortq.QuantType.QUInt16,
        extra_options={"UseQDQContribOps": True},
    )
    assert share(model.proto(), model.input) == 0


def test_only_one_factor_in_int8_is_no_int8(quantized: Callable[..., Model]) -> None:
    model = quantized("QDQ")
    proto = model.proto()
    made_by = {name: node for node in proto.graph.node for name in node.output}
    conv = next(n for n in proto.graph.node if n.op_type == "Conv")
    conv.input[0] = "input"
    assert made_by[conv.input[1]].op_type == "DequantizeLinear"
    expected = 1 - LAYERS["stem"] / sum(LAYERS.values())
    assert share(proto, model.input) == pytest.approx(expected)


REAL = {
    "mobilenetv2-12": (3_487_816, 300_774_272, 0),
    "mobilenetv2-12-int8": (3_487_816, 300_774_272, 52),
    "shufflenet-v2-12-int8": (2_270_514, 144_907_992, 56),
    "st-mobilenetv2-int8-nhwc-uint8": (3_494_952, 300_774_272, 36),
}


@pytest.mark.data
def test_how_others_count_mobilenet_v2(data_root: Path) -> None:
    """3.505 M parameters with batch norm, 327.65 M MACs with four for each value it makes."""
    model = Model.load(data_root / "models" / "mobilenetv2-12.onnx")
    proto = model.proto()
    biases = [t for t in proto.graph.initializer if len(t.dims) == 1 and t.dims[0] > 1]
    folded = sum(t.dims[0] for t in biases) - 1000
    assert count_parameters(proto.graph) + folded == 3_504_872
    made = {n.output[0] for n in proto.graph.node if n.op_type == "Conv"}
    for name in sorted(made):
        proto.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = graph_session(proto, threads=1, optimization="disabled")
    image = np.zeros((1, 3, 224, 224), np.float32)
    values = sum(v.size for v in session.run(sorted(made), {"input": image}))
    counted = count_macs(model.proto(), model.input) + 4 * values
    assert (values, counted) == (6_678_112, 327_486_720)
    assert counted == pytest.approx(327.65e6, rel=6e-4)


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_models(data_root: Path, name: str) -> None:
    model = Model.load(data_root / "models" / f"{name}.onnx")
    found = inspect_model(model)
    parameters, macs, convolutions = REAL[name]
    assert (found.parameters, found.macs) == (parameters, macs)
    assert found.executed_census.get("QLinearConv", 0) == convolutions
    assert bool(found.quantized_tensors) is model.is_quantized
    assert all(k.reason for k in found.of_kind("fp32"))
    model.check_unchanged()
