"""The model that plain int8 breaks."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

from quantlab.evaluate.metrics import sqnr_db
from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

ROOT = Path(__file__).resolve().parents[2]
PLAIN = {"equalize": False, "bias_correction": False, "rounding": "nearest"}


class Images:
    def __len__(self) -> int:
        return 8

    def __iter__(self):  # type: ignore[no-untyped-def]
        rng = np.random.default_rng(0)
        for _ in range(2):
            yield rng.standard_normal((4, 3, 224, 224)).astype(np.float32)


@pytest.mark.data
def test_it_answers_as_before_and_only_equalization_saves_its_int8(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_root: Path
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    model = Model.load(data_root / "models" / "mobilenetv2-12.onnx")
    path = tmp_path / "broken.onnx"
    assert importlib.import_module("broken").break_int8(model, path) == 27
    broken = Model.load(path)
    images = np.random.default_rng(1).standard_normal((8, 3, 224, 224)).astype(np.float32)

    def fidelity(**parts: object) -> float:
        recipe = Recipe.model_validate({"range_search": False, **parts})
        int8 = QuantlabEngine().quantize(broken, recipe, Images())
        with Runner(model) as reference, Runner(int8) as run:
            found = sqnr_db(reference(images), run(images))
        assert found is not None
        return found

    with Runner(model) as first, Runner(broken) as second:
        np.testing.assert_array_equal(first(images), second(images))
    assert fidelity(**PLAIN) < 3
    assert fidelity() > 15
