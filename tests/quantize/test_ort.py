"""The ONNX Runtime engine on tiny models."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import QuantizeError, QuantlabError
from quantlab.model.model import Model
from quantlab.quantize.ort import OrtEngine
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier


class Images:
    """Calibration images without files."""

    def __init__(self, count: int = 12, batch: int = 4, layout: str = "NCHW") -> None:
        shape = (3, 32, 32) if layout == "NCHW" else (32, 32, 3)
        rng = np.random.default_rng(1)
        self.array = rng.standard_normal((count, *shape)).astype(np.float32)
        self.batch = batch

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        for start in range(0, len(self.array), self.batch):
            yield self.array[start : start + self.batch]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


def quantize(model: Model, images: Images | None = None, **recipe: Any) -> onnx.ModelProto:
    return OrtEngine().quantize(model, Recipe(engine="ort", **recipe), images or Images())


def ops(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def error(model: Model, proto: onnx.ModelProto, images: NDArray[np.float32]) -> float:
    """The relative error of the answers."""
    with Runner(model) as fp32, Runner(proto) as int8:
        a, b = fp32(images), int8(images)
    return float(np.abs(a - b).mean() / np.abs(a).mean())


@pytest.mark.parametrize(
    "recipe",
    [
        {"ranges": "mean"},
        {"ranges": "minmax"},
        {"ranges": "entropy"},
        {"ranges": "percentile", "percentile": 99.9},
        {"format": "qoperator"},
        {"per_channel": False},
        {"portable": True},
        {"activations": "s8"},
        {"fp32_output": False},
    ],
)
def test_answers_stay_near(model: Model, recipe: dict[str, Any]) -> None:
    images = Images()
    assert error(model, quantize(model, **recipe), images.array) < 0.2


def test_the_two_formats(model: Model) -> None:
    assert {"QuantizeLinear", "DequantizeLinear"} <= set(ops(quantize(model)))
    assert "QLinearConv" in ops(quantize(model, format="qoperator"))


def test_the_classifiers_output_stays_fp32(model: Model) -> None:
    kept, lost = quantize(model), quantize(model, fp32_output=False)
    assert kept.graph.node[-1].op_type == "Gemm"
    assert not any("fc.w" in i and "quantized" in i for i in kept.graph.node[-1].input)
    assert any("fc.w_quantized" in t.name for t in lost.graph.initializer)


def test_weights_per_channel_and_seven_bits(model: Model) -> None:
    def weights(**recipe: Any) -> NDArray[np.int8]:
        tensors = {t.name: t for t in quantize(model, **recipe).graph.initializer}
        return np.asarray(onnx.numpy_helper.to_array(tensors["pointwise.w_quantized"]))

    assert np.abs(weights().astype(int)).max() > 64
    assert np.abs(weights(portable=True).astype(int)).max() <= 64
    assert (np.abs(weights().reshape(16, -1).astype(int)).max(axis=1) == 127).all()


def test_the_seed_of_the_images_decides_and_nothing_else(model: Model) -> None:
    first, again = (quantize(model).SerializeToString(deterministic=True) for _ in range(2))
    assert first == again


def test_images_are_fed_one_by_one_whatever_the_batch(model: Model) -> None:
    made = [quantize(model, Images(batch=b)).SerializeToString() for b in (1, 5)]
    assert made[0] == made[1]


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch(tmp_path: Path, batch: int) -> None:
    model = Model.load(tiny_classifier(tmp_path / "b.onnx", batch=batch))
    proto = quantize(model, Images(batch=batch))
    assert error(model, proto, Images().array) < 0.2


@pytest.mark.parametrize("parts", [{"opset": 7}, {"opset": 12, "batch_norm": True}])
def test_old_models_are_upgraded_in_a_copy(tmp_path: Path, parts: dict[str, Any]) -> None:
    model = Model.load(tiny_classifier(tmp_path / "old.onnx", **parts))
    proto = quantize(model)
    assert proto.opset_import[0].version >= 13
    assert "BatchNormalization" not in ops(proto)
    assert error(model, proto, Images().array) < 0.2
    model.check_unchanged()


def test_excluded_nodes_stay_as_they_are(model: Model) -> None:
    tensors = {t.name for t in quantize(model, exclude=("depthwise",)).graph.initializer}
    assert "depthwise.w" in tensors
    assert "pointwise.w" not in tensors


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ({"equalize": True}, "equalize"),
        ({"smooth": 0.5}, "smooth"),
        ({"rounding": "output-error"}, "rounding"),
        ({"ranges": "mse"}, "mse"),
        ({"weights": "s4"}, "s4"),
    ],
)
def test_what_it_cannot_do_is_named(model: Model, recipe: dict[str, Any], named: str) -> None:
    with pytest.raises(QuantlabError, match=named):
        quantize(model, **recipe)


def test_nothing_to_quantize(tmp_path: Path) -> None:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 2, 2])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 12])
    graph = helper.make_graph([helper.make_node("Flatten", ["x"], ["y"])], "g", [given], [made])
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "f.onnx")
    with pytest.raises(QuantizeError, match="nothing to quantize"):
        quantize(Model.load(tmp_path / "f.onnx"))


@pytest.mark.parametrize("ranges", ["percentile", "entropy"])
def test_histograms_that_do_not_fit_are_refused(
    model: Model, ranges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Little:
        available = 1 << 20

    monkeypatch.setattr("psutil.virtual_memory", Little)
    with pytest.raises(QuantizeError, match="keep every activation") as caught:
        quantize(model, ranges=ranges)
    assert caught.value.remedy
    quantize(model, ranges="mean")


def test_images_that_are_not_finite_are_refused(model: Model) -> None:
    images = Images()
    images.array[5, 0, 0, 0] = np.nan
    with pytest.raises(QuantizeError, match="a calibration image is NaN or infinite"):
        quantize(model, images)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_name_the_node(
    model: Model, tmp_path: Path, bad: float
) -> None:
    proto = model.proto()
    tensor = next(t for t in proto.graph.initializer if t.name == "fc.w")
    weights = numpy_helper.to_array(tensor).copy()
    weights[0, 0] = bad
    tensor.CopyFrom(numpy_helper.from_array(weights, "fc.w"))
    onnx.save(proto, tmp_path / "bad.onnx")
    with pytest.raises(QuantizeError, match="the weights of node output hold NaN or infinity"):
        quantize(Model.load(tmp_path / "bad.onnx"))


def test_float16_in_the_middle_is_quantized_as_float32(model: Model, tmp_path: Path) -> None:
    """Its quantizer scales float16 weights by float16 scales, which it cannot load."""
    proto = model.proto()
    weights = numpy_helper.from_array(np.ones((16, 16, 1, 1), np.float16), "half.w")
    proto.graph.initializer.append(weights)
    index = next(i for i, n in enumerate(proto.graph.node) if n.name == "pool")
    source = proto.graph.node[index].input[0]
    proto.graph.node[index].input[0] = "back"
    more = [
        helper.make_node("Cast", [source], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "half.w"], ["made"]),
        helper.make_node("Cast", ["made"], ["back"], to=TensorProto.FLOAT),
    ]
    nodes = [*proto.graph.node[:index], *more, *proto.graph.node[index:]]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, tmp_path / "half.onnx")
    made = quantize(Model.load(tmp_path / "half.onnx"))
    kinds = {tensor.data_type for tensor in made.graph.initializer}
    assert TensorProto.FLOAT16 not in kinds


def test_onnx_runtimes_own_errors_are_told_in_one_line(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "large.onnx", size=40))
    with pytest.raises(QuantlabError, match="failed on recipe default") as caught:
        quantize(model, batch_of_the_wrong_size())
    assert "\n" not in caught.value.problem


def batch_of_the_wrong_size() -> Images:
    images = Images()
    images.array = images.array[:, :2]
    return images


def test_logging_and_the_models_folder_are_left_alone(
    model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    quantize(model)
    assert logging.root.manager.disable == 0
    assert capsys.readouterr() == ("", "")
    assert [p.name for p in model.path.parent.iterdir()] == ["m.onnx"]
