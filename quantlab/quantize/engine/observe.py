"""Run the fp32 model over calibration images and read its tensors batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from quantlab.data.threads import ahead
from quantlab.errors import QuantizeError
from quantlab.model import graph as g
from quantlab.quantize.engine.grid import Floats
from quantlab.quantize.engine.net import Net
from quantlab.quantize.engine.ranges import ChannelPeaks, Observer
from quantlab.quantize.protocol import Calibration
from quantlab.runtime.graphs import graph_session
from quantlab.runtime.session import plain_errors

CANNOT_RUN = "ONNX Runtime cannot run the model on the calibration images"
_IMAGES_AT_ONCE = 2
"""Every tensor of so many images is held at a time: 55 MB for MobileNetV2."""

Batches = Iterable[NDArray[np.generic]]
Observe = Callable[[Net, Mapping[str, Floats], Mapping[str, Observer], Batches], None]
"""``observe_tensors``, or what does the same elsewhere."""


@dataclass(frozen=True)
class Watch:
    """Tensors that ``see`` is to be given, by name and with the input, of a few images at a time;
    of these ``batches`` (default: of all)."""

    names: Sequence[str]
    see: Callable[[dict[str, Floats]], None]
    batches: range | None = None

    def wants(self, batch: int) -> bool:
        """Whether it is to be given anything of this batch."""
        return bool(self.names) and (self.batches is None or batch in self.batches)


def watch(net: Net, watches: Sequence[Watch], batches: Batches) -> None:
    """Runs the network once over the batches and gives each watch what it wants, in the images'
    order; the next images are computed while these are looked at."""
    if not any(each.names for each in watches):
        return
    for batch, values in ahead(_tensor_batches(net, watches, batches)):
        for each in watches:
            if each.wants(batch):
                each.see({name: values[name] for name in (*each.names, net.input)})


def _tensor_batches(
    net: Net, watches: Sequence[Watch], batches: Batches
) -> Iterator[tuple[int, dict[str, Floats]]]:
    every = dict.fromkeys(name for each in watches for name in each.names if name != net.input)
    proto = onnx.ModelProto()
    proto.CopyFrom(net.proto)
    outputs = {v.name for v in proto.graph.output}
    proto.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in every
        if name not in outputs
    )
    # Where threads divide a tensor, some operators (Elu, Softplus, LRN) round differently.
    session = graph_session(proto, threads=1)
    for batch, images in _small(net, batches):
        wanted = [each for each in watches if each.wants(batch)]
        if not wanted:
            continue
        inner = [name for name in every if any(name in each.names for each in wanted)]
        with plain_errors(CANNOT_RUN):
            found = session.run(inner, {net.input: images}) if inner else []
        yield batch, {**dict(zip(inner, found, strict=True)), net.input: np.asarray(images)}


def _small(net: Net, batches: Batches) -> Iterator[tuple[int, NDArray[np.generic]]]:
    fixed = fixed_batch(net)
    for i, batch in enumerate(batches):
        step = len(batch) if fixed else _IMAGES_AT_ONCE
        for start in range(0, len(batch), step):
            yield i, batch[start : start + step]


def observe_tensors(
    net: Net, scales: Mapping[str, Floats], estimators: Mapping[str, Observer], batches: Batches
) -> None:
    """Shows each tensor's estimator its values, multiplied by its channels' scales if it has any.

    Raises QuantizeError when a tensor is NaN or infinite on some image, naming the tensor.
    """
    watch(net, [Watch(list(estimators), showing(net, scales, estimators))], batches)


def showing(
    net: Net, scales: Mapping[str, Floats], estimators: Mapping[str, Observer]
) -> Callable[[dict[str, Floats]], None]:
    """What shows them the values of a few images; see ``observe_tensors``."""

    def see(values: dict[str, Floats]) -> None:
        count = len(values[net.input])
        for name, estimator in estimators.items():
            found = scaled(values[name], scales.get(name))
            with naming(name):
                by_channel = isinstance(estimator, ChannelPeaks)
                estimator.update(found if by_channel else by_image(found, count))

    return see


def by_image(values: Floats, count: int) -> Floats:
    """A tensor of ``count`` images with one row an image: what was laid out as a matrix with a row
    for each position of each image is put together again."""
    split = len(values) != count and values.size % count == 0
    return values.reshape(count, -1) if split else values


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Says which tensor a QuantizeError is about."""
    try:
        yield
    except QuantizeError as error:
        remedy = "Check the images and the pipeline's scaling."
        raise QuantizeError(f"tensor {name}: {error.problem}", remedy) from None


def scaled(values: Floats, by: Floats | None) -> Floats:
    """Channels, the second axis, times ``by``."""
    return values if by is None else values * by.reshape(-1, *[1] * (values.ndim - 2))


def spread_batches(net: Net, calibration: Calibration, count: int) -> list[NDArray[np.generic]]:
    """About ``count`` images, or all, evenly spread over the calibration, in small batches.

    Calibration images come class by class: the first ones would all be fish and birds. A model
    with a fixed batch gets whole batches.
    """
    fixed = fixed_batch(net)
    wanted = spread_rows(len(calibration), count, fixed or 1)
    if fixed:
        return [batch for i, batch in enumerate(calibration) if i * fixed in wanted]
    start = 0
    chosen = []
    for batch in calibration:
        chosen.append(batch[[i for i in range(len(batch)) if start + i in wanted]])
        start += len(batch)
    images = np.concatenate(chosen)
    return [images[i : i + _IMAGES_AT_ONCE] for i in range(0, len(images), _IMAGES_AT_ONCE)]


def spread_rows(total: int, count: int, batch: int = 1) -> set[int]:
    """About ``count`` of ``total`` images, evenly spread, in whole batches."""
    steps = _spread(-(-total // batch), -(-count // batch))
    return {row for i in steps for row in range(i * batch, min((i + 1) * batch, total))}


def _spread(total: int, count: int) -> set[int]:
    """The middles of ``count`` equal parts of range(total)."""
    count = min(count, total)
    return {(2 * i + 1) * total // (2 * count) for i in range(count)}


def fixed_batch(net: Net) -> int | None:
    """The model's fixed batch size, or None."""
    shape = net.proto.graph.input[0].type.tensor_type.shape.dim
    return g.dim_size(shape[0]) if shape else None
