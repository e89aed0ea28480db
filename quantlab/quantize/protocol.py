"""The protocols of quantization engines and of calibration data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import onnx
from numpy.typing import NDArray

from quantlab.model.model import Model
from quantlab.recipe import Recipe


class Calibration(Protocol):
    """Calibration images, ready for the model's input. May be iterated any number of times."""

    def __len__(self) -> int:
        """The number of images."""

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        """Batches shaped like the model's input, e.g. float32 [b, 3, 224, 224], always in the
        same order. b is 1 for a model with a fixed batch of 1."""


class Engine(Protocol):
    """Turns a fp32 model into a quantized one. Never touches the model's file."""

    name: str

    def quantize(self, model: Model, recipe: Recipe, calibration: Calibration) -> onnx.ModelProto:
        """The quantized graph.

        Raises QuantizeError when the model or the recipe is beyond this engine.
        """
