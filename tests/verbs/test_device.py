"""Answers of another device against those computed here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from quantlab.evaluate.device import DeviceAnswers
from quantlab.evaluate.metrics import top_k
from quantlab.evaluate.predictions import align
from quantlab.testing import fake_predictions
from quantlab.verbs.device import is_answers, predictions_of


def test_models_are_no_answers(tmp_path: Path) -> None:
    assert is_answers(tmp_path)
    assert [is_answers(Path(n)) for n in ("a.npz", "a.TXT", "a.csv", "a.onnx", "a")] == [
        *([True] * 3),
        *([False] * 2),
    ]


def test_matched_answers_come_in_the_images_order() -> None:
    fp32 = fake_predictions(4, 6, 0, 1)
    outputs = np.arange(18, dtype=np.float32).reshape(3, 6)
    found = DeviceAnswers(("z", "b", "a"), top_k(outputs, 5), outputs)
    other = predictions_of(found, fp32, np.array([2, -1, 1, -1]), Path("device/results"))
    assert (other.names, other.model_name, other.labels) == (("a", "b", "z"), "results", None)
    pair = align(fp32, other)
    assert pair.first.names == (fp32.names[0], fp32.names[2])
    assert np.array_equal(pair.second.outputs, outputs[[2, 1]])
    assert (pair.only_first, pair.only_second) == (2, 1)
    assert np.array_equal(pair.second.labels, fp32.labels[[0, 2]])  # type: ignore[index]


def test_the_same_image_twice_keeps_its_own_answer() -> None:
    fp32 = fake_predictions(2, 6, 0, 1)
    fp32 = replace(fp32, digests=("same", "same"))
    outputs = np.arange(12, dtype=np.float32).reshape(2, 6)
    found = DeviceAnswers(("b", "a"), top_k(outputs, 5), outputs)
    other = predictions_of(found, fp32, np.array([1, 0]), Path("r"))
    assert np.array_equal(align(fp32, other).second.outputs, outputs[[1, 0]])


@pytest.mark.parametrize("more", [0, 2])
def test_the_digest_is_that_of_the_answers(more: int) -> None:
    fp32 = fake_predictions(2, 6, 0, 1)
    outputs = np.zeros((2 + more, 6), np.float32)
    names = tuple(str(i) for i in range(2 + more))
    made = [
        predictions_of(DeviceAnswers(names, top_k(o, 5), o), fp32, np.array([0, 1]), Path("r"))
        for o in (outputs, outputs + 1)
    ]
    assert made[0].model_sha256 != made[1].model_sha256
