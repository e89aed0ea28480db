"""Neural Compressor for real: on a tiny model, and on MobileNetV2 with a few images."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from quantlab.errors import QuantizeError
from quantlab.model.model import Model
from quantlab.quantize.peers.inc import IncEngine, IncTuning
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier


class Images:
    """Calibration images without files."""

    def __init__(self, array: NDArray[np.float32], batch: int = 4) -> None:
        self.array, self.batch = array, batch

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        for start in range(0, len(self.array), self.batch):
            yield self.array[start : start + self.batch]


ARRAY = np.random.default_rng(1).standard_normal((6, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "m.onnx"))


def recipe(**fields: Any) -> Recipe:
    return Recipe(**{"engine": "inc", "ranges": "minmax", **fields})


def ops(proto: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in proto.graph.node}


def sqnr(model: Model, proto: onnx.ModelProto, images: NDArray[np.float32]) -> float:
    with Runner(model) as fp32, Runner(proto) as int8:
        a, b = fp32(images), int8(images)
    return float(10 * np.log10(np.square(a).sum() / np.square(a - b).sum()))


@pytest.mark.parametrize("fields", [{"ranges": "percentile"}, {"format": "qoperator"}])
def test_a_tiny_model_is_quantized_and_nothing_is_left_behind(
    model: Model, fields: dict[str, Any]
) -> None:
    proto = IncEngine().quantize(model, recipe(**fields), Images(ARRAY))
    wanted = "QLinearConv" if fields.get("format") == "qoperator" else "DequantizeLinear"
    assert wanted in ops(proto)
    assert [o.name for o in proto.graph.output] == ["output"]
    assert sqnr(model, proto, ARRAY) > 15
    assert not Path("nc_workspace").exists()
    model.check_unchanged()


def test_types_and_granularity_are_those_of_the_recipe(model: Model) -> None:
    made = IncEngine().quantize(
        model, recipe(per_channel=False, exclude=("pointwise",), portable=True), Images(ARRAY)
    )
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in made.graph.initializer}
    weights = {k: v for k, v in scales.items() if v.dtype == np.int8 and v.ndim == 4}
    assert len(weights) == 2
    assert max(int(np.abs(w).max()) for w in weights.values()) <= 64
    assert all(v.size == 1 for k, v in scales.items() if k.endswith("w_scale"))
    assert "pointwise.w" in scales


def test_its_own_search_meets_a_criterion_or_says_that_it_cannot(model: Model) -> None:
    rng = np.random.default_rng(2)
    tints = 3 * rng.standard_normal((600, 3, 1, 1))
    many = (tints + rng.standard_normal((600, 3, 32, 32))).astype(np.float32)
    easy = IncTuning("basic", many, max_decline=0.9)
    assert "DequantizeLinear" in ops(
        IncEngine(tuning=easy).quantize(model, recipe(), Images(ARRAY))
    )
    with Runner(model) as run:
        labels = run(many).argmax(axis=1)
    hard = IncTuning("basic", many, labels, max_decline=0.0, kind="absolute", max_trials=1)
    with pytest.raises(QuantizeError, match="found no model that meets the criterion"):
        IncEngine(tuning=hard).quantize(model, recipe(), Images(ARRAY))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"ranges": "mse"}, "ranges: mse"),
        ({"bias_correction": True}, "bias_correction: true"),
        ({"activations": "s8"}, "activations: s8"),
    ],
)
def test_recipes_beyond_it_are_refused_at_once(
    model: Model, fields: dict[str, Any], problem: str
) -> None:
    with pytest.raises(QuantizeError, match=problem):
        IncEngine(python="not started").quantize(model, recipe(**fields), Images(ARRAY))


def test_a_deadline_holds(model: Model) -> None:
    with pytest.raises(QuantizeError, match="did not finish in 0 s"):
        IncEngine(timeout=0.2).quantize(model, recipe(), Images(ARRAY))


@pytest.mark.data
def test_mobilenet_v2_for_real(data_root: Path) -> None:
    path = data_root / "models" / "mobilenetv2-12.onnx"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    model = Model.load(path)
    images = real_images(data_root, 12)
    proto = IncEngine().quantize(model, recipe(), Images(images))
    convs = [n for n in proto.graph.node if n.op_type == "Conv"]
    assert len(convs) == 52
    assert sqnr(model, proto, images) > 10
    assert hashlib.sha256(path.read_bytes()).hexdigest() == before


def real_images(data_root: Path, count: int) -> NDArray[np.float32]:
    files = sorted((data_root / "imagenet" / "val1300" / "val").iterdir())[:count]
    pixels = [np.asarray(Image.open(f).convert("RGB").resize((224, 224))) for f in files]
    images = (np.stack(pixels).astype(np.float32) - 117) / 58
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
