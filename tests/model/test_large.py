"""Models whose weights do not fit into one protobuf, on small ones: the limits are lowered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from quantlab.errors import ModelError, QuantizeError
from quantlab.inspect.inspection import inspect_model
from quantlab.model import large
from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.quantize.engine import QuantlabEngine, net, weights
from quantlab.quantize.engine.products import classifier_as_gemm
from quantlab.quantize.prepare import prepare
from quantlab.quantize.stamp import stamp
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier


class Batches(list[Any]):
    def __len__(self) -> int:
        return sum(map(len, self))


IMAGES = Batches([np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)])


@pytest.fixture
def lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 1,000 bytes of weights are many, more than 100 of one weight large."""
    monkeypatch.setattr(large, "ASIDE", 1000)
    monkeypatch.setattr(large, "LEAST", 100)


def external(path: Path) -> Path:
    """The model's weights in a file beside it."""
    proto = onnx.load(path)
    target = path.with_name("outside.onnx")
    onnx.save(proto, target, save_as_external_data=True, location="weights", size_threshold=64)
    return target


def sources(folder: Path, **parts: Any) -> list[Path]:
    inside = tiny_classifier(folder / "inside.onnx", **parts)
    return [inside, external(inside)]


@pytest.mark.parametrize("parts", [{}, {"batch_norm": True}, {"opset": 8}], ids=str)
@pytest.mark.parametrize(
    "recipe",
    [{}, {"format": "qoperator"}, {"exclude": ("pointwise",)}, {"activations": "s16"}],
    ids=str,
)
def test_the_int8_file_does_not_depend_on_where_weights_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: dict[str, Any], parts: dict[str, Any]
) -> None:
    made, paths = [], sources(tmp_path, **parts)
    for limit in (2**30, 1000):
        monkeypatch.setattr(large, "ASIDE", limit)
        monkeypatch.setattr(large, "LEAST", 100)
        for path in paths:
            model = Model.load(path)
            assert large.has_aside(model.proto()) == (limit == 1000)
            proto = QuantlabEngine().quantize(model, Recipe(**recipe), IMAGES)
            del proto.metadata_props[:]
            made.append(onnx.ModelProto.FromString(large.serialized(proto, "it")))
            onnx.checker.check_model(made[-1])
    assert len({str(proto.graph.node) for proto in made}) == 1
    numbers = [{t.name: numpy_helper.to_array(t) for t in p.graph.initializer} for p in made]
    for found in numbers[1:]:
        assert found.keys() == numbers[0].keys()
        assert all(np.array_equal(found[name], numbers[0][name]) for name in found)


@pytest.mark.usefixtures("lowered")
def test_what_is_aside_computes_the_same(tmp_path: Path) -> None:
    for path in sources(tmp_path, batch_norm=True):
        model = Model.load(path)
        prepared = prepare(model.proto())
        classifier_as_gemm(prepared)
        assert large.has_aside(prepared)
        assert len(prepared.SerializeToString()) < 8000, "weights are not in it"
        with Runner(path, threads=1) as own:
            expected = own(IMAGES[0])
        for proto in (model.proto(), prepared):
            with Runner(proto, threads=1) as run:
                assert run(IMAGES[0]) == pytest.approx(expected, abs=1e-5)
        found = inspect_model(model)
        assert found.parameters > 0
        assert found.macs > 0
        assert {k.op_type for k in found.kernels} & {"Conv", "FusedConv"}


@pytest.mark.usefixtures("lowered")
def test_numbers_are_written_once_and_not_changed(tmp_path: Path) -> None:
    array = np.arange(2000, dtype=np.float32).reshape(40, 50)
    first, second = (large.tensor_of(array, name) for name in ("a", "b"))
    assert first.data_location == TensorProto.EXTERNAL
    assert first.external_data[0].value == second.external_data[0].value
    assert np.array_equal(large.array_of(first), array)
    with pytest.raises(ValueError, match="read-only"):
        large.array_of(first)[0, 0] = 1


def test_huge_layers_are_rounded_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    recipe = Recipe(rounding="nearest", range_search=False, equalize=False)
    whole = QuantlabEngine().quantize(model, recipe, IMAGES).SerializeToString()
    monkeypatch.setattr(net, "HUGE", 100)
    monkeypatch.setattr(weights, "_WEIGHTS_AT_ONCE", 50)
    pieces = QuantlabEngine().quantize(model, recipe, IMAGES).SerializeToString()
    assert whole == pieces


def test_wide_layers_are_rounded_to_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    monkeypatch.setattr(weights, "WIDEST", 1)
    narrow = QuantlabEngine().quantize(model, Recipe(range_search=False), IMAGES)
    nearest = Recipe(range_search=False, rounding="nearest")
    assert narrow.SerializeToString() == (
        QuantlabEngine().quantize(model, nearest, IMAGES).SerializeToString()
    )


@pytest.mark.usefixtures("lowered")
def test_other_engines_refuse_large_models(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    recipe = Recipe(engine="ort", rounding="nearest", bias_correction=False, range_search=False,
                    equalize=False)  # fmt: skip
    with pytest.raises(QuantizeError, match="of weights, this one has") as caught:
        get_engine("ort").quantize(model, recipe, IMAGES)
    assert caught.value.remedy == "Use engine: quantlab."


def test_a_file_beyond_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    monkeypatch.setattr(large, "MOST", 1000)
    with pytest.raises(QuantizeError, match=r"int8 file of m\.onnx has") as caught:
        stamp(model.proto(), model, Recipe(), "", [])
    assert caught.value.remedy


@pytest.mark.usefixtures("lowered")
def test_external_data_that_ends_early_is_refused(tmp_path: Path) -> None:
    path = external(tiny_classifier(tmp_path / "inside.onnx"))
    data = (tmp_path / "weights").read_bytes()
    (tmp_path / "weights").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="external data cannot be read"):
        Model.load(path).proto()


def test_a_weight_whose_file_vanished_is_named() -> None:
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "w")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/nowhere/w")
    with pytest.raises(ModelError, match="the weight w cannot be read"):
        large.array_of(tensor)
