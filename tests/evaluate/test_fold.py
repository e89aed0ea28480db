"""A model that normalizes by itself answers as before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from quantlab.data.preprocess import Pipeline, get_pipeline, ready
from quantlab.errors import ModelError
from quantlab.evaluate.execution import Execution
from quantlab.evaluate.fold import fold_preprocess
from quantlab.evaluate.parallel import ParallelRunner
from quantlab.model.model import Model
from quantlab.testing import tiny_classifier

CROPS = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
RGB = get_pipeline("torchvision", 32)
BGR = RGB.model_copy(update={"color": "BGR", "mean": (104.0, 117.0, 123.0)})


@pytest.mark.parametrize("pipeline", [RGB, BGR], ids=["RGB", "BGR"])
@pytest.mark.parametrize("parts", [{}, {"layout": "NHWC"}, {"batch": 1}], ids=str)
def test_answers_are_the_same_but_for_rounding(
    parts: dict[str, object], pipeline: Pipeline, tmp_path: Path
) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx", **parts))  # type: ignore[arg-type]
    folded = fold_preprocess(model.proto(), model.input, pipeline)
    onnx.checker.check_model(folded, full_check=True)
    images = CROPS[:1] if model.input.batch else CROPS
    plain = ReferenceEvaluator(model.proto()).run(
        None, {model.input.name: pipeline.to_input(images, model.input)}
    )
    own = ReferenceEvaluator(folded).run(None, {folded.graph.input[0].name: images})
    np.testing.assert_allclose(own[0], plain[0], rtol=1e-4, atol=1e-4)


def test_a_first_conv_takes_over_the_division(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    folded = fold_preprocess(model.proto(), model.input, RGB)
    added = [node.op_type for node in folded.graph.node][: -len(model.proto().graph.node)]
    assert added == ["Transpose", "Cast", "Sub"]


def test_a_runner_folds_when_it_is_asked_to(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "m.onnx"))
    answers = []
    for fold in (False, True):
        with ParallelRunner(model, Execution(fold=fold), pipeline=BGR) as run:
            found = run.answers(np.arange(5), lambda rows: CROPS[rows])
            answers.append(np.concatenate([outputs for _, outputs in found]))
    np.testing.assert_allclose(answers[1], answers[0], rtol=1e-4, atol=1e-4)
    assert not np.array_equal(answers[0], answers[1])


def test_a_model_of_pixels_has_nothing_to_fold(tmp_path: Path) -> None:
    path = tiny_classifier(tmp_path / "u.onnx", layout="NHWC", dtype="uint8")
    model = Model.load(path)
    with pytest.raises(ModelError, match="takes uint8 pixels"):
        fold_preprocess(model.proto(), model.input, RGB)


def test_ready_inputs_have_nothing_to_fold(tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "f.onnx"))
    with pytest.raises(ModelError, match="no normalization is left to fold"):
        fold_preprocess(model.proto(), model.input, ready(32))
