"""The whole engine on a tiny model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.errors import QuantizeError
from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine, held_out, weights
from quantlab.recipe import Recipe
from quantlab.testing.models import tiny_classifier

BEST: dict[str, Any] = {"equalize": True, "bias_correction": True, "rounding": "output-error"}


class Images:
    def __init__(self, count: int = 24, size: int = 32) -> None:
        rng = np.random.default_rng(1)
        self.array = rng.standard_normal((count, 3, size, size)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        for i in range(0, len(self.array), 8):
            yield self.array[i : i + 8]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "tiny.onnx"))


def quantize(model: Model, **recipe: Any) -> onnx.ModelProto:
    return QuantlabEngine().quantize(model, Recipe(**recipe), Images())


def answers(source: bytes | str, images: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": images})[0])


def sqnr(model: Model, proto: onnx.ModelProto) -> float:
    images = np.random.default_rng(2).standard_normal((32, 3, 32, 32)).astype(np.float32)
    reference = answers(str(model.path), images)
    error = reference - answers(proto.SerializeToString(), images)
    return float(10 * np.log10((reference**2).sum() / (error**2).sum()))


def optimized_ops(proto: onnx.ModelProto, folder: Path) -> set[str]:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node}


@pytest.mark.parametrize(
    "recipe",
    [
        {},
        BEST,
        BEST | {"format": "qoperator"},
        BEST | {"portable": False},
        BEST | {"reduce_range": True},
        BEST | {"weights": "u8"},
        BEST | {"activations": "s8"},
        BEST | {"fp32_output": False},
        BEST | {"per_channel": False},
        {"smooth": 0.5},
        *({"ranges": name} for name in ("minmax", "moving-average", "percentile", "mse")),
    ],
)
def test_answers_stay_near(model: Model, recipe: dict[str, Any]) -> None:
    assert sqnr(model, quantize(model, **recipe)) > 22


def test_entropy_clips_more(model: Model) -> None:
    assert sqnr(model, quantize(model, ranges="entropy")) > 18


@pytest.mark.parametrize(
    "recipe", [{"activations": "u16"}, {"activations": "u16", "weights": "s16"}]
)
def test_wide_types_stay_nearer(model: Model, recipe: dict[str, Any]) -> None:
    assert sqnr(model, quantize(model, ranges="minmax", **recipe)) > 30


def test_four_bit_weights_run(model: Model) -> None:
    assert sqnr(model, quantize(model, weights="s4", **BEST)) > 8


def test_everything_is_fused(model: Model, tmp_path: Path) -> None:
    found = optimized_ops(quantize(model, **BEST), tmp_path)
    assert found.isdisjoint(
        {"Conv", "FusedConv", "Gemm", "Clip", "Relu", "Add", "DequantizeLinear"}
    )
    assert {"QLinearConv", "QLinearAdd", "QGemm"} <= found


def test_both_formats_compute_the_same(model: Model) -> None:
    images = np.random.default_rng(3).standard_normal((8, 3, 32, 32)).astype(np.float32)
    qdq, qop = (quantize(model, format=f, **BEST) for f in ("qdq", "qoperator"))
    found = [answers(p.SerializeToString(), images) for p in (qdq, qop)]
    assert np.abs(found[0] - found[1]).max() < 0.02 * np.abs(found[0]).max()


def test_same_seed_same_bytes_whatever_the_threads(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    for threads in (1, 2):
        for module in (held_out, weights):
            monkeypatch.setattr(module, "default_threads", lambda threads=threads: threads)
        made.append(quantize(model, **BEST).SerializeToString(deterministic=True))
    assert made[0] == made[1]


def test_excluded_nodes_stay_fp32(model: Model, tmp_path: Path) -> None:
    found = optimized_ops(quantize(model, exclude=("depthwise",)), tmp_path)
    assert found & {"Conv", "FusedConv", "NhwcFusedConv"}, found


def test_unknown_excluded_node_is_named(model: Model) -> None:
    with pytest.raises(QuantizeError, match="no node called 'nope'"):
        quantize(model, exclude=("nope",))


def test_nothing_to_quantize(model: Model) -> None:
    names = tuple(n.name for n in model.proto().graph.node if n.op_type in ("Conv", "Gemm"))
    with pytest.raises(QuantizeError, match="nothing to quantize"):
        quantize(model, exclude=names)


def spoiled(model: Model, folder: Path, weight: str, value: float, channel: int | None) -> Model:
    proto = model.proto()
    for tensor in proto.graph.initializer:
        if tensor.name == weight:
            array = numpy_helper.to_array(tensor).copy()
            array[slice(None) if channel is None else channel] = value
            tensor.CopyFrom(numpy_helper.from_array(array, weight))
    onnx.save(proto, folder / "spoiled.onnx")
    return Model.load(folder / "spoiled.onnx")


def test_nan_weights_name_the_node(model: Model, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"weights of node pointwise hold NaN"):
        quantize(spoiled(model, tmp_path, "pointwise.w", np.nan, 0), **BEST)


def test_dead_channels_and_dead_layers_are_fine(model: Model, tmp_path: Path) -> None:
    one = spoiled(model, tmp_path, "stem.w", 0.0, 3)
    assert sqnr(one, quantize(one, **BEST)) > 20
    all_of_it = spoiled(model, tmp_path, "depthwise.w", 0.0, None)
    assert sqnr(all_of_it, quantize(all_of_it, **BEST)) > 15


def test_nan_images_name_the_tensor(model: Model) -> None:
    images = Images()
    images.array[5] = np.nan
    with pytest.raises(QuantizeError, match=r"tensor \w+: an activation is NaN"):
        QuantlabEngine().quantize(model, Recipe(), images)


def test_no_image(model: Model) -> None:
    with pytest.raises(QuantizeError, match="no calibration image"):
        QuantlabEngine().quantize(model, Recipe(), Images(0))


def test_each_step_is_told_with_the_share_of_the_work_done(model: Model) -> None:
    told: list[tuple[str, float]] = []
    engine = QuantlabEngine(told=lambda step, share: told.append((step, share)))
    engine.quantize(model, Recipe(), Images())
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1
    assert len({step for step, _ in told}) >= 5
