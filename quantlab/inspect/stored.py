"""Check a model against the test data published with it: stored inputs and expected outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper
from pydantic import BaseModel, ConfigDict

from quantlab.errors import DataError
from quantlab.model.kinds import of_two_classes
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner

INPUT, OUTPUT = "input_0.pb", "output_0.pb"
RTOL, ATOL = 1e-3, 1e-5
MAX_BYTES = 256 * 1024**2
"""Of one tensor's file: 400 images of 224 pixels."""


class SetCheck(BaseModel):
    """One set. ``beyond`` of ``values`` outputs are farther than ATOL + RTOL · |stored| from the
    stored ones; ``largest`` is the greatest absolute difference, ``relative`` the greatest in
    proportion to a stored value other than 0; on ``agreeing`` images the first answer is the same.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    images: int
    values: int
    beyond: int
    largest: float
    relative: float
    agreeing: int

    @property
    def passed(self) -> bool:
        """Whether every output is as near as onnx's backend tests want it."""
        return self.beyond == 0


class StoredCheck(BaseModel):
    """A model against all sets of its test data."""

    model_config = ConfigDict(frozen=True)

    model: str
    sets: tuple[SetCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether all sets passed."""
        return all(found.passed for found in self.sets)


def check_stored(model: Model, folder: Path) -> StoredCheck:
    """Runs the model on every stored input. Raises DataError, or ModelError when it does not run.

    onnx's own runner compares so: ``numpy.testing.assert_allclose`` of output and stored output.
    """
    with Runner(model) as run:
        sets = tuple(_check(model, run, place) for place in find_sets(folder))
    return StoredCheck(model=model.name, sets=sets)


def find_sets(folder: Path) -> tuple[Path, ...]:
    """The folder itself where it is one set, else the sets in it, by name. Raises DataError."""
    if (folder / INPUT).is_file():
        return (folder,)
    found = sorted(path.parent for path in folder.glob(f"*/{INPUT}"))
    if not found:
        raise DataError(
            f"{folder} holds no test data: {INPUT} is neither there nor in a folder below.",
            "Give the folder test_data_set_0 that a model is published with, or the one above.",
        )
    return tuple(found)


def read_tensor(path: Path) -> NDArray[np.generic]:
    """A serialized TensorProto. Raises DataError when it is missing, larger than MAX_BYTES,
    damaged, not of numbers, or keeps its values in another file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {(error.strerror or str(error)).lower()}."
        ) from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} is larger than {MAX_BYTES >> 20} MiB.")
    try:
        tensor: onnx.TensorProto = onnx.TensorProto.FromString(data)
        outside = tensor.data_location == onnx.TensorProto.EXTERNAL
        array = np.zeros(0) if outside else numpy_helper.to_array(tensor)
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{path} is not a readable tensor: it is damaged or something else."
        ) from error
    if outside or array.dtype.kind not in "fiub" or not array.size:
        raise DataError(f"{path} holds no numbers.")
    return array


def _check(model: Model, run: Runner, folder: Path) -> SetCheck:
    images, stored = read_tensor(folder / INPUT), read_tensor(folder / OUTPUT)
    if (folder / "input_1.pb").exists():
        raise DataError(f"{folder} is of a model with several inputs.")
    if str(images.dtype) != model.input.dtype or images.ndim != 4:
        raise DataError(
            f"{folder / INPUT} holds {images.dtype} of shape {list(images.shape)}, "
            f"{model.path.name} takes {model.input.dtype} images.",
            "Give the test data of this very model.",
        )
    outputs = run(images)
    if model.judged.shape[1:] == (1,):
        stored = of_two_classes(
            stored.reshape(len(images), -1).astype(np.float32), model.output_kind
        )
    if stored.size != outputs.size:
        raise DataError(
            f"{folder / OUTPUT} holds {stored.size} values, {model.path.name} gives "
            f"{outputs.size}.",
            "Give the test data of this very model.",
        )
    return compare_outputs(folder.name, outputs, np.asarray(stored.reshape(outputs.shape)))


def compare_outputs(
    name: str, outputs: NDArray[np.float32], stored: NDArray[np.generic]
) -> SetCheck:
    """Outputs [n, classes] against the stored ones. A NaN is near a NaN only; values that are not
    finite are left out of ``largest`` and ``relative``."""
    made, wanted = outputs.astype(np.float64), stored.astype(np.float64)
    near = np.isclose(made, wanted, rtol=RTOL, atol=ATOL, equal_nan=True)
    finite = np.isfinite(made) & np.isfinite(wanted)
    apart = np.abs(np.subtract(made, wanted, where=finite, out=np.zeros_like(made)))
    size = np.abs(wanted)
    proportion = np.divide(apart, size, where=finite & (size > 0), out=np.zeros_like(made))
    return SetCheck(
        name=name,
        images=len(made),
        values=made.size,
        beyond=int((~near).sum()),
        largest=float(apart.max()),
        relative=float(proportion.max()),
        agreeing=int((made.argmax(axis=1) == wanted.argmax(axis=1)).sum()),
    )
