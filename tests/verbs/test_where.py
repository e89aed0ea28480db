"""Where an int8 file's answers hold, as verbs find it out."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from quantlab.cluster.execution import ShardedExecution
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import MissingExtraError, ModelError
from quantlab.gate.notation import parse_criterion
from quantlab.inspect import portability
from quantlab.model.model import Model
from quantlab.runtime.environment import environment
from quantlab.testing import image_folder, tiny_classifier
from quantlab.verbs.where import in_other_runtime, other_cpus, where

ASKING = parse_criterion("runtime.kl <= 1")


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    dataset = open_dataset(image_folder(tmp_path / "images", 2, 2))
    return load_crops(dataset, get_pipeline("torchvision", size=32), cache_dir=tmp_path / "c")


@pytest.fixture
def fp32(tmp_path: Path) -> Model:
    return Model.load(tiny_classifier(tmp_path / "net.onnx"))


@pytest.fixture
def unpaired(tmp_path: Path) -> Model:
    """One product of u8 and u8, which no CPU sums in 16 bits."""
    nodes = [
        onnx.helper.make_node("Flatten", ["x"], ["f"]),
        onnx.helper.make_node("DynamicQuantizeLinear", ["f"], ["q", "s", "z"]),
        onnx.helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"], name="product"),
        onnx.helper.make_node("Cast", ["i"], ["y"], to=1),
    ]
    given = onnx.helper.make_tensor_value_info("x", 1, ["N", 3, 32, 32])
    made = onnx.helper.make_tensor_value_info("y", 1, ["N", 4])
    weight = onnx.numpy_helper.from_array(np.full((3072, 4), 255, np.uint8), "w")
    graph = onnx.helper.make_graph(nodes, "g", [given], [made], [weight])
    opsets = [onnx.helper.make_opsetid("", 17)]
    path = tmp_path / "u8.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return Model.load(path)


def test_fp32_is_nothing_to_emulate(fp32: Model, crops: Crops) -> None:
    found = where(fp32, crops, ShardedExecution())
    here = environment()
    assert (found.runtime, found.version) == ("onnxruntime", here["onnxruntime"])
    assert found.on == here["isa"]
    assert found.cpus.state == "not quantized"


def test_a_provider_stands_in_the_place_of_the_cpu(fp32: Model, crops: Crops) -> None:
    other = ShardedExecution(providers=("CUDAExecutionProvider", "CPUExecutionProvider"))
    assert where(fp32, crops, other).on == "CUDAExecutionProvider"
    there = replace(fp32, runtime="openvino")
    assert where(there, crops, other).on == environment()["isa"]


def test_layers_without_pairs_are_known_of_onnx_runtime_alone(
    unpaired: Model, crops: Crops
) -> None:
    assert other_cpus(unpaired, crops).state == "no pairs"
    assert other_cpus(replace(unpaired, runtime="openvino"), crops).state == "unknown"


def test_a_graph_that_cannot_be_emulated_is_not_known(
    unpaired: Model, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ModelError("it cannot be run node by node.")

    monkeypatch.setattr(portability, "check_portability", fails)
    assert other_cpus(unpaired, crops).state == "unknown"


def test_the_other_runtime_is_asked_for_by_criteria_alone(
    fp32: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = parse_criterion("kl <= 1")
    assert in_other_runtime(fp32, plain) is None
    other = in_other_runtime(fp32, plain, ASKING)
    assert other is not None
    assert other.runtime == "openvino"
    back = in_other_runtime(other, ASKING)
    assert back is not None
    assert back.runtime == "onnxruntime"
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"the rule runtime\.kl needs"):
        in_other_runtime(fp32, ASKING)
