"""Old opsets, weights among the inputs, and images larger than usual, through every verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from answering import evaluate
from onnx import helper, numpy_helper

from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier

pytestmark = pytest.mark.usefixtures("no_timing", "no_database", "no_plots")


def lowered(proto: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """An fp32 classifier of opset 11 or 12 in an earlier one: the bounds of Clip are attributes.

    Below opset 9 it is as exporters of that time wrote it: IR version 3, where every weight is
    an input too, and a batch of one. onnx's own converter has no way back over opset 11.
    """
    old = onnx.ModelProto()
    old.CopyFrom(proto)
    weights = {t.name: t for t in old.graph.initializer}
    for node in old.graph.node:
        if node.op_type == "Clip":
            bounds = [numpy_helper.to_array(weights.pop(x)).item() for x in node.input[1:]]
            del node.input[1:]
            pairs = zip(("min", "max"), bounds, strict=True)
            node.attribute.extend(helper.make_attribute(*pair) for pair in pairs)
    del old.graph.initializer[:]
    old.graph.initializer.extend(weights.values())
    old.opset_import[0].version = opset
    if opset < 9:
        old.ir_version = 3
        old.graph.input.extend(
            helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in weights.values()
        )
        old.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.checker.check_model(old)
    return old


@pytest.fixture(params=[7, 10])
def old(request: pytest.FixtureRequest, scene: Any) -> Path:
    """A model of that opset that computes what the scene's does at opset 12."""
    twin = scene.teach(tiny_classifier(scene.folder / "new.onnx", opset=12, batch_norm=True))
    path: Path = scene.folder / f"opset{request.param}.onnx"
    onnx.save(lowered(onnx.load(twin), request.param), path)
    return path


def test_every_verb_takes_it(old: Path, cli: Any, scene: Any, tmp_path: Path) -> None:
    opset = int(old.stem.removeprefix("opset"))
    assert f"opset {opset}," in cli("inspect", old).out
    new = cli("evaluate", scene.folder / "new.onnx", *scene.words)
    assert cli("evaluate", old, *scene.words).out == new.out
    int8 = tmp_path / "int8.onnx"
    cli("quantize", "--model", old, *scene.words, "--output", int8)
    assert Model.load(int8).is_quantized
    said = cli("compare", old, int8, *scene.words, code=None)
    assert said.record.results["comparison"]["fidelity"]["agreement"]["value"] > 0.7
    tuned = tmp_path / "tuned.onnx"
    cli("tune", "--model", old, *scene.words, "--output", tuned, "--max-trials", 1, code=None)
    assert Model.load(tuned).is_quantized


@pytest.mark.data
@pytest.mark.parametrize("opset", [7, 10])
def test_the_zoos_model_in_old_opsets_answers_the_same(
    opset: int, data_root: Path, tmp_path: Path
) -> None:
    zoo = Model.load(data_root / "models" / "mobilenetv2-12.onnx")
    onnx.save(lowered(zoo.proto(), opset), tmp_path / "old.onnx")
    old = Model.load(tmp_path / "old.onnx").check_classifier()
    assert (old.opset, old.input.batch) == (opset, 1 if opset < 9 else None)
    images = open_dataset(data_root / "imagenet" / "val1300").subset(np.arange(8))
    crops = load_crops(images, get_pipeline("torchvision"), cache_dir=tmp_path)
    answers = []
    for model in (zoo, old):
        with Runner(model, threads=1) as runner:
            answers.append(evaluate(model, crops, runner).outputs)
    assert np.allclose(*answers, atol=1e-4)


@pytest.fixture
def free(scene: Any) -> Path:
    """The scene's model with free height and width."""
    proto = onnx.load(scene.model)
    for side in proto.graph.input[0].type.tensor_type.shape.dim[2:]:
        side.dim_param = "side"
    del proto.graph.value_info[:]
    path: Path = scene.folder / "free.onnx"
    onnx.save(proto, path)
    return path


def test_larger_images_where_the_graph_allows_it(
    free: Path, cli: Any, scene: Any, tmp_path: Path
) -> None:
    int8 = tmp_path / "int8.onnx"
    words = (*scene.words, "--size", 48)
    shown = cli("evaluate", free, *words).record.results
    assert (shown["model"]["input"]["height"], shown["pipeline"]["crop"]) == (48, 48)
    cli("quantize", "--model", free, *words, "--output", int8)
    compared = cli("compare", free, int8, *words, code=None).record.results["comparison"]
    assert compared["pipeline"]["crop"] == 48
    assert cli("bench", free, "--size", 48).record.results["models"][0]["input"]["width"] == 48
    cli("tune", "--model", free, *words, "--output", int8, "--max-trials", 1, code=None)
    said = cli("evaluate", scene.model, *words, code=2)
    assert "its graph takes no images of 48 x 48" in said.complaint[-2]


def test_without_a_size_it_is_the_usual_one(free: Path) -> None:
    model = Model.load(free)
    assert (model.input.height, model.input.width) == (224, 224)
    assert model.with_overrides(size=256).input.height == 256
    assert model.with_overrides(size=256).with_overrides(layout="NCHW").input.width == 256
