"""Inputs that the caller has preprocessed: floats given to the model unchanged."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quantlab.data.preprocess import Pipeline
from quantlab.errors import DataError, RecipeError
from quantlab.model.model import InputSpec


class Ready(Pipeline):
    """The pipeline of such inputs: it does not resize, crop or normalize.

    Its crops are float32 [crop, crop, 3]. ``inputs`` tells its definition from other pipelines'.
    """

    inputs: Literal["ready"] = "ready"

    @property
    def dtype(self) -> type[np.generic]:
        """Of the crops: the floats that the model takes."""
        return np.float32

    def crop_image(self, image: Image.Image) -> NDArray[Any]:
        """Raises DataError: this pipeline cannot preprocess images."""
        raise DataError("an image, where ready inputs are needed (or name a pipeline).")

    def from_input(self, array: NDArray[Any]) -> NDArray[Any]:
        """One input, float [3, h, w] or [h, w, 3], perhaps with a batch of one around it, as
        float32 [h, w, 3]. Raises DataError ``"<reason>."``."""
        image = array[0] if array.ndim == 4 and len(array) == 1 else array
        if image.shape == (3, self.crop, self.crop):
            image = image.transpose(1, 2, 0)
        elif image.shape != (self.crop, self.crop, 3):
            raise DataError(f"{list(array.shape)} is not an input of {self.crop} x {self.crop}.")
        if image.dtype.kind != "f":
            raise DataError(f"an input of {image.dtype}, not of floats.")
        return np.ascontiguousarray(image, np.float32)

    def to_input(self, crops: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
        """float32 [n, h, w, 3] in the model's layout. Raises RecipeError where it takes no floats
        of this size."""
        if spec.dtype != "float32" or crops.shape[1:3] != (spec.height, spec.width):
            raise RecipeError(
                f"The model's input {spec.name} takes {spec.dtype} {spec.height} x {spec.width}, "
                f"the ready inputs are float32 {crops.shape[1]} x {crops.shape[2]}.",
                "Make them of the model's size.",
            )
        ordered = crops.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else crops
        return np.ascontiguousarray(ordered)

    def sized(self, size: int) -> Pipeline:
        """For a model of another input size."""
        return self.model_copy(update={"crop": size, "resize": size})


def ready(size: int) -> Ready:
    """The pipeline of ready inputs of ``size`` pixels a side."""
    plain: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1), "resizer": "pillow-bilinear"}
    return Ready(name="ready", resize=size, crop=size, **plain)
