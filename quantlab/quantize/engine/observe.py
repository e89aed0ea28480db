"""Running the fp32 model over calibration images and reading its tensors batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantlab.errors import QuantizeError
from quantlab.quantize.engine.grid import Floats, Grid
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.ranges import Range, RangeEstimator, range_estimator
from quantlab.recipe import Recipe
from quantlab.runtime.environment import default_threads
from quantlab.runtime.session import create_session

_IMAGES_AT_ONCE = 2
"""Every tensor of so many images is held at a time: 55 MB for MobileNetV2."""

Batches = Iterable[NDArray[np.generic]]


def tensor_batches(net: Net, names: Sequence[str], batches: Batches) -> Iterator[dict[str, Floats]]:
    """The values of these tensors, for a few images at a time, in the images' order."""
    inner = [name for name in names if name != net.input]
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    outputs = {v.name for v in proto.graph.output}
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in inner
        if name not in outputs
    )
    session = create_session(proto.SerializeToString(), threads=default_threads())
    for images in _small(net, batches):
        found = session.run(inner, {net.input: images}) if inner else []
        values = dict(zip(inner, found, strict=True))
        if net.input in names:
            values[net.input] = images
        yield values


def _small(net: Net, batches: Batches) -> Iterator[NDArray[np.generic]]:
    shape = net.proto.graph.input[0].type.tensor_type.shape.dim
    fixed = bool(shape and shape[0].dim_value)
    for batch in batches:
        step = len(batch) if fixed else _IMAGES_AT_ONCE
        for start in range(0, len(batch), step):
            yield batch[start : start + step]


def observed_ranges(
    net: Net,
    scales: Mapping[str, Floats],
    names: Sequence[str],
    batches: Batches,
    recipe: Recipe,
    grid: Grid,
) -> dict[str, Range]:
    """The range of each tensor, multiplied by its channels' scales where it has them.

    Raises QuantizeError when a tensor is NaN or infinite on some image, naming the tensor.
    """
    estimators: dict[str, RangeEstimator] = {n: range_estimator(recipe, grid.steps) for n in names}
    for values in tensor_batches(net, names, batches) if names else ():
        for name, estimator in estimators.items():
            try:
                estimator.update(scaled(values[name], scales.get(name)))
            except QuantizeError as error:
                remedy = "Check the images and the pipeline's scaling."
                raise QuantizeError(f"tensor {name}: {error.problem}", remedy) from None
    return {name: estimator.range() for name, estimator in estimators.items()}


def scaled(values: Floats, by: Floats | None) -> Floats:
    """Channels, the second axis, times ``by``."""
    return values if by is None else values * by.reshape(-1, *[1] * (values.ndim - 2))


class First:
    """The first ``count`` images of a calibration, batch by batch; iterable any number of times."""

    def __init__(self, batches: Batches, count: int) -> None:
        self._batches, self._count = batches, count

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        left = self._count
        for batch in self._batches:
            yield batch[:left]
            left -= len(batch)
            if left <= 0:
                return


def first_images(batches: Batches, count: int) -> NDArray[np.generic]:
    """The first ``count`` images, or all, as one array."""
    return np.concatenate(list(First(batches, count)))
