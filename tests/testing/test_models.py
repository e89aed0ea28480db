from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.testing.models import FakeRunner, blind_model, tiny_classifier

VARIANTS: list[dict[str, Any]] = [
    {},
    {"opset": 7},
    {"opset": 10, "batch_norm": True},
    {"opset": 12, "batch": 1},
    {"opset": 17, "relu6": False, "residual": False},
    {"layout": "NHWC", "dtype": "uint8", "softmax": True, "size": 16, "classes": 5},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_a_valid_classifier_as_asked(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tiny_classifier(tmp_path / "m.onnx", **options)
    onnx.checker.check_model(onnx.load(path), full_check=True)
    model = Model.load(path).check_classifier()
    assert model.opset == options.get("opset", 13)
    assert model.num_classes == options.get("classes", 10)
    assert model.input.layout == options.get("layout", "NCHW")
    assert model.input.dtype == options.get("dtype", "float32")
    assert model.input.batch == options.get("batch")
    assert model.output_kind == ("probabilities" if options.get("softmax") else "logits")
    assert ("BatchNormalization" in model.op_census) is options.get("batch_norm", False)
    Runner(model).close()


def test_the_seed_decides_the_bytes(tmp_path: Path) -> None:
    a, b, c = (
        tiny_classifier(tmp_path / f"{i}.onnx", seed=seed).read_bytes()
        for i, seed in enumerate((0, 0, 1))
    )
    assert a == b != c


def test_a_fake_runner_answers_like_a_runner() -> None:
    batch = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    with FakeRunner(classes=4) as run:
        answers = run(batch)
        np.testing.assert_allclose(run(batch[1:2]), answers[1:2])
    assert answers.shape == (3, 4)
    assert answers.dtype == np.float32
    assert run.batches == [3, 1]


def test_a_fake_runner_with_a_function_of_ones_own() -> None:
    run = FakeRunner(lambda batch: np.eye(3)[: len(batch)])
    np.testing.assert_array_equal(run(np.zeros((2, 3, 1, 1))), np.eye(3, dtype=np.float32)[:2])


@pytest.mark.parametrize("softmax", [False, True])
def test_a_blind_model_never_answers_some_classes(tmp_path: Path, softmax: bool) -> None:
    source = tiny_classifier(tmp_path / "m.onnx", softmax=softmax)
    path = blind_model(source, tmp_path / "blind.onnx", [2, 7])
    onnx.checker.check_model(onnx.load(path), full_check=True)
    batch = np.random.default_rng(0).standard_normal((64, 3, 32, 32)).astype(np.float32)
    with Runner(Model.load(source)) as seeing, Runner(Model.load(path)) as blind:
        before, after = seeing(batch), blind(batch)
    others = [i for i in range(10) if i not in (2, 7)]
    np.testing.assert_array_equal(before[:, others], after[:, others])
    assert not set(after.argmax(1)) & {2, 7}
