"""Tiny int8 models of every writer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from quantlab.model.model import Model
from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.testing import tiny_classifier

PLAIN = {"equalize": False, "bias_correction": False, "rounding": "nearest"}


class Batches(list[NDArray[np.float32]]):
    """Calibration images as a list of batches."""

    def __len__(self) -> int:
        return sum(len(batch) for batch in self)


@dataclass(frozen=True)
class Twins:
    """A fp32 model, an int8 one made of it, and images."""

    fp32: Model
    int8: Model
    images: NDArray[np.float32]

    def saved(self, proto: onnx.ModelProto) -> Twins:
        """The same with another int8 graph."""
        path = self.int8.path.with_name("other.onnx")
        onnx.save(proto, path)
        return Twins(self.fp32, Model.load(path), self.images)


Make = Callable[..., Twins]


@pytest.fixture
def twins(tmp_path: Path) -> Make:
    """``twins("ort", "qdq", portable=True)``: no corrections unless the recipe asks for them.

    Without ``relu6``, activations are ReLU, which also lets a sum's channels be scaled."""

    def make(engine: str, form: str, *, relu6: bool = True, **fields: Any) -> Twins:
        fp32 = Model.load(tiny_classifier(tmp_path / "tiny.onnx", relu6=relu6))
        drawn = np.random.default_rng(0).standard_normal((64, 3, 32, 32)).astype(np.float32)
        images = drawn[:8]
        recipe = Recipe.model_validate({"engine": engine, "format": form, **PLAIN, **fields})
        path = tmp_path / f"{engine}-{form}.onnx"
        onnx.save(get_engine(engine).quantize(fp32, recipe, Batches([drawn])), path)
        return Twins(fp32, Model.load(path), images)

    return make
