from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.compare.comparison import OtherCpus
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.inspect.portability import (
    LayerSaturation,
    Portability,
    check_portability,
)
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe


def layer(name: str, at_risk: int, saturated: int) -> LayerSaturation:
    return LayerSaturation(
        name=name,
        op_type="QLinearConv",
        weight_pairs=100,
        at_risk=at_risk,
        pair_sums=1000 if at_risk else 0,
        saturated=saturated,
    )


def found(*layers: LayerSaturation, **figures: float) -> Portability:
    return Portability(name="m", images=4, layers=layers, **figures)


def test_the_outcome_is_that_of_the_worst_layer() -> None:
    safe, quiet = layer("a", 0, 0), layer("b", 3, 0)
    bad, worse = layer("c", 5, 10), layer("d", 5, 40)
    unknown = layer("e", 5, 0).model_copy(update={"dynamic": True})
    assert found().outcome.state == "no pairs"
    assert found(safe).outcome.state == "impossible"
    assert found(safe, quiet).outcome.state == "not seen"
    assert found(quiet, unknown, safe).outcome.state == "not emulated"
    outcome = found(safe, bad, unknown, worse, agreement=0.75, kl=0.5, sqnr_db=9.0).outcome
    assert outcome == OtherCpus(
        state="saturates",
        layers=4,
        at_risk=3,
        saturating=2,
        images=4,
        share=50 / 3000,
        agreement=0.75,
        kl=0.5,
        sqnr_db=9.0,
    )


def test_layers_by_state_worst_first() -> None:
    result = found(layer("a", 0, 0), layer("c", 5, 10), layer("d", 5, 40), layer("b", 1, 0))
    assert [x.name for x in result.in_state("saturates")] == ["d", "c"]
    assert [x.name for x in result.in_state("not seen")] == ["b"]
    assert [x.name for x in result.in_state("impossible")] == ["a"]
    assert result.share == pytest.approx(50 / 3000)


def test_qdq_and_qoperator_files_are_one(twins: Any) -> None:
    results = []
    for form in ("qdq", "qoperator"):
        pair = twins("ort", form)
        results.append(check_portability(pair.int8, [pair.images]))
    qdq, qoperator = results
    assert qdq.images == qoperator.images == 8
    counts = [[(x.pair_sums, x.saturated, x.sqnr_db) for x in r.layers] for r in results]
    assert counts[0] == counts[1]
    assert (qdq.kl, qdq.agreement) == (qoperator.kl, qoperator.agreement)
    assert [x.name for x in qdq.layers] == ["stem", "pointwise"], "depthwise sums in 32 bits"
    assert [x.name for x in qoperator.layers] == ["stem_quant", "pointwise_quant"]
    positions, stem_pairs, pointwise_pairs = 16 * 16, 14, 8
    assert [x.pair_sums for x in qdq.layers] == [
        8 * positions * 16 * pairs for pairs in (stem_pairs, pointwise_pairs)
    ]
    assert all(x.saturated for x in qdq.layers)


def test_batches_do_not_matter(twins: Any) -> None:
    pair = twins("ort", "qdq")
    whole = check_portability(pair.int8, [pair.images])
    pieces = check_portability(pair.int8, np.split(pair.images, 4))
    assert pieces == whole


@pytest.mark.parametrize("form", ["qdq", "qoperator"])
@pytest.mark.parametrize("engine", ["ort", "quantlab"])
@pytest.mark.parametrize("field", ["portable", "reduce_range"])
def test_weights_that_cannot_overflow_need_no_images(
    twins: Any, engine: str, form: str, field: str
) -> None:
    pair = twins(engine, form, **{"portable": False, field: True})
    result = check_portability(pair.int8, (1 / 0 for _ in "x"))  # type: ignore[misc]
    assert result.layers
    assert {x.state for x in result.layers} == {"impossible"}
    assert (result.images, result.kl) == (0, None)


def test_one_scale_for_a_whole_tensor_keeps_the_bound_too(twins: Any) -> None:
    pair = twins("quantlab", "qdq", per_channel=False)
    assert not any(x.at_risk for x in check_portability(pair.int8, [pair.images]).layers)


def test_the_bound_is_what_keeps_it_from_overflowing(twins: Any) -> None:
    pair = twins("quantlab", "qdq", portable=False)
    assert any(x.at_risk for x in check_portability(pair.int8, [pair.images]).layers)


def test_unsigned_weights_and_fp32_models_have_no_pairs(twins: Any) -> None:
    pair = twins("ort", "qdq")
    assert check_portability(pair.fp32, [pair.images]).layers == ()
    proto = pair.int8.proto()
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8:
            values = onnx.numpy_helper.to_array(tensor).astype(np.int16) + 128
            tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.uint8), tensor.name))
    assert check_portability(pair.saved(proto).int8, [pair.images]).layers == ()


def test_a_fixed_batch(twins: Any) -> None:
    pair = twins("ort", "qdq")
    proto = pair.int8.proto()
    for value in (proto.graph.input[0], proto.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    del proto.graph.value_info[:]
    fixed = check_portability(pair.saved(proto).int8, [pair.images])
    assert fixed.layers == check_portability(pair.int8, [pair.images]).layers


def images(root: Path, model: Model, count: int, cache: Path) -> CalibrationImages:
    dataset = open_dataset(root / "imagenet/calib1000")
    dataset = dataset.subset(np.arange(0, 1000, 1000 // count)[:count])
    crops = load_crops(dataset, get_pipeline("torchvision", size=224), cache_dir=cache)
    return CalibrationImages(crops, model.input)


@pytest.mark.data
def test_the_zoos_int8_mobilenetv2_saturates(data_root: Path, tmp_path: Path) -> None:
    """Published 68.30, seen at 64.35 on another CPU: saturation is why."""
    model = Model.load(data_root / "models/mobilenetv2-12-int8.onnx")
    result = check_portability(model, images(data_root, model, 4, tmp_path))
    assert len(result.layers) == 36, "35 convolutions that are not depthwise, and the classifier"
    bad = result.in_state("saturates")
    assert len(bad) > 10
    assert bad[0].name == "Conv_0_quant"
    assert result.kl is not None
    assert result.kl > 0.05
    assert result.outcome.state == "saturates"


@pytest.mark.data
def test_nothing_saturates_in_a_portable_file(data_root: Path, tmp_path: Path) -> None:
    model = Model.load(data_root / "models/mobilenetv2-12.onnx")
    recipe = Recipe(placement="widest", range_search=False)
    calibration = images(data_root, model, 4, tmp_path)
    proto = get_engine("quantlab").quantize(model, recipe, calibration)
    path = tmp_path / "portable.onnx"
    onnx.save(proto, path)
    result = check_portability(Model.load(path), [])
    assert len(result.layers) == 36
    assert {x.state for x in result.layers} == {"impossible"}


@pytest.mark.parametrize("portable", [True, False])
def test_products_with_dynamic_ranges_are_judged_by_their_weights(
    tmp_path: Path, portable: bool
) -> None:
    """ONNX Runtime fuses DynamicQuantizeLinear and MatMulInteger into one operator."""
    rng = np.random.default_rng(0)
    weight = rng.choice(np.array([-127, 127] if not portable else [-64, 64], np.int8), (16, 4))
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["f"]),
        onnx.helper.make_node("DynamicQuantizeLinear", ["f"], ["q", "s", "z"]),
        onnx.helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"], name="product"),
        onnx.helper.make_node("Cast", ["i"], ["c"], to=1),
        onnx.helper.make_node("Mul", ["s", "ws"], ["k"]),
        onnx.helper.make_node("Mul", ["c", "k"], ["y"]),
    ]
    given = onnx.helper.make_tensor_value_info("x", 1, ["N", 1, 4, 4])
    made = onnx.helper.make_tensor_value_info("y", 1, ["N", 4])
    tensors = {"w": weight, "ws": np.full(4, 0.01, np.float32)}
    weights = [onnx.numpy_helper.from_array(v, k) for k, v in tensors.items()]
    graph = onnx.helper.make_graph(nodes, "g", [given], [made], weights)
    opsets = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "dynamic.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    result = check_portability(Model.load(path), [])
    (only,) = result.layers
    assert only.state == ("impossible" if portable else "not emulated")
    assert result.outcome.state == only.state
