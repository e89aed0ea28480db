"""Models of more than 2 GiB, the limit of a protobuf: large weights stay in files.

Such a weight is *aside*: its tensor names an absolute path, which no file of ours ever does, and
``array_of`` maps it into memory where its numbers are needed. A model with less than ASIDE bytes of
weights has none aside.
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import EncodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from quantlab.errors import ModelError, OutputError, QuantizeError, disk_is_full, shown

Array = NDArray[np.generic]
ASIDE = 2**30
"""A model with more bytes of weights keeps its large ones in files."""
LEAST = 2**20
"""Bytes of the least weight that is kept aside."""
MOST = 2**31 - 1
"""Bytes of the largest protobuf."""


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """The bytes of the tensor's numbers; 0 for those of no fixed size, or no known type."""
    try:
        dtype: np.dtype[np.generic] = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, TypeError):
        return 0
    return 0 if dtype.hasobject else int(math.prod(tensor.dims) * dtype.itemsize)


def weight_bytes(proto: onnx.ModelProto) -> int:
    """The bytes of all weights."""
    return sum(map(tensor_bytes, proto.graph.initializer))


def is_aside(tensor: onnx.TensorProto) -> bool:
    """Whether the tensor's numbers are in a file."""
    return tensor.data_location == TensorProto.EXTERNAL


def has_aside(proto: onnx.ModelProto) -> bool:
    """Whether any weight of the model is in a file."""
    return any(map(is_aside, proto.graph.initializer))


def array_of(tensor: onnx.TensorProto) -> NDArray[Any]:
    """The tensor's numbers; of one that is aside, mapped from its file and not to be written."""
    if not is_aside(tensor):
        return numpy_helper.to_array(tensor)
    place = {entry.key: entry.value for entry in tensor.external_data}
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape, offset = tuple(tensor.dims), int(place.get("offset", 0))
    try:
        return np.asarray(np.memmap(place["location"], dtype, "r", offset, shape))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the weight {shown(tensor.name)} cannot be read from {place['location']}.",
            "Run again, and leave the model's files where they are meanwhile.",
        ) from error


def tensor_of(value: Array, name: str) -> onnx.TensorProto:
    """The numbers as a tensor; aside when they alone are too many for a protobuf."""
    value = np.ascontiguousarray(value).reshape(np.shape(value))
    return _in_file(value, name) if value.nbytes > ASIDE else numpy_helper.from_array(value, name)


def load_weights(proto: onnx.ModelProto, folder: Path) -> None:
    """In place: external data is read from ``folder``, or kept aside where the model is large.

    Raises ModelError, or what onnx raises, when it is incomplete.
    """
    if weight_bytes(proto) <= ASIDE:
        onnx.load_external_data_for_model(proto, str(folder))
        return
    large = [t for t in proto.graph.initializer if is_aside(t) and tensor_bytes(t) >= LEAST]
    for tensor in large:  # for onnx they are no external ones meanwhile
        tensor.data_location = TensorProto.DEFAULT
    onnx.load_external_data_for_model(proto, str(folder))
    for tensor in large:
        _point(tensor, folder)
    put_aside(proto)


def _point(tensor: onnx.TensorProto, folder: Path) -> None:
    """Raises ValueError unless the file is long enough."""
    place = {entry.key: entry.value for entry in tensor.external_data}
    path, offset = (folder / place["location"]).resolve(), int(place.get("offset", 0))
    if offset + tensor_bytes(tensor) > path.stat().st_size:
        raise ValueError(f"the file ends within the weight {shown(tensor.name)}")
    _refer(tensor, path, offset)


def _refer(tensor: onnx.TensorProto, path: Path, offset: int = 0) -> None:
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=str(path))
    tensor.external_data.add(key="offset", value=str(offset))
    tensor.external_data.add(key="length", value=str(tensor_bytes(tensor)))


def put_aside(proto: onnx.ModelProto) -> None:
    """In place: a large model's large weights are written to files of this process."""
    inside = [t for t in proto.graph.initializer if not is_aside(t)]
    if sum(map(tensor_bytes, inside)) <= ASIDE:
        return
    for tensor in inside:
        if tensor_bytes(tensor) >= LEAST and tensor.data_type not in _PACKED:
            tensor.CopyFrom(_in_file(numpy_helper.to_array(tensor), tensor.name))


_PACKED = (TensorProto.INT4, TensorProto.UINT4)


def _in_file(value: Array, name: str) -> onnx.TensorProto:
    """The same numbers are written once."""
    data = np.ascontiguousarray(value)
    digest = hashlib.sha256(f"{data.dtype} {data.shape}".encode() + b"\n")
    digest.update(data.reshape(-1).view(np.uint8).data)
    path = kept_folder() / digest.hexdigest()
    if not path.is_file():
        try:
            with path.with_suffix(".part").open("wb") as file:
                data.tofile(file)
            path.with_suffix(".part").replace(path)
        except OSError as error:
            reason = "the disk is full" if disk_is_full(error) else str(error).lower()
            raise OutputError(
                f"cannot keep weights in {path.parent}: {reason}.", "Set TMPDIR to another folder."
            ) from error
    kind = helper.np_dtype_to_tensor_dtype(data.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=value.shape)
    _refer(tensor, path)
    return tensor


def kept_folder() -> Path:
    """A temporary folder that is there until this process ends."""
    return Path(_folder().name)


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="quantlab-", ignore_cleanup_errors=True)


def weights_aside(proto: onnx.ModelProto) -> dict[str, Array]:
    """The weights that are aside, by name."""
    return {t.name: array_of(t) for t in proto.graph.initializer if is_aside(t)}


def without_weights(
    change: Callable[[onnx.ModelProto], onnx.ModelProto], proto: onnx.ModelProto
) -> onnx.ModelProto:
    """``change(proto)``, for a function that cannot bear weights aside: they are inputs to it."""
    aside = [t for t in proto.graph.initializer if is_aside(t)]
    if not aside:
        return change(proto)
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    inside = [t for t in proto.graph.initializer if not is_aside(t)]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(inside)
    given = {v.name for v in copy.graph.input}
    new = [t for t in aside if t.name not in given]
    copy.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in new)
    made = change(copy)
    names = {t.name for t in new}
    kept = [v for v in made.graph.input if v.name not in names]
    inputs = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in kept]
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    made.graph.initializer.extend(aside)
    return made


def serialized(proto: onnx.ModelProto, what: str) -> bytes:
    """The whole model with all its weights as one file's bytes. Raises QuantizeError, beginning
    with ``what``, when they are more than one ONNX file holds."""
    if weight_bytes(proto) <= MOST:
        whole = proto
        if has_aside(proto):
            whole = onnx.ModelProto()
            whole.CopyFrom(proto)
            for tensor in filter(is_aside, whole.graph.initializer):
                tensor.CopyFrom(numpy_helper.from_array(array_of(tensor), tensor.name))
        try:
            return bytes(whole.SerializeToString(deterministic=True))
        except (EncodeError, ValueError):
            pass
    raise QuantizeError(
        f"{what} has {weight_bytes(proto) / 2**30:.1f} GiB of weights, and one ONNX file holds at "
        "most 2 GiB.",
        "Leave fewer layers in fp32, or use a smaller model.",
    )


def refuse_aside(proto: onnx.ModelProto, who: str, remedy: str) -> None:
    """Raises QuantizeError for a large model, which ``who`` can take as one file only."""
    if has_aside(proto):
        raise QuantizeError(
            f"{who} is given models with up to {ASIDE / 2**30:g} GiB of weights, this one has "
            f"{weight_bytes(proto) / 2**30:.2f} GiB.",
            remedy,
        )


class Weights(Mapping[str, NDArray[Any]]):
    """A graph's weights by name, each read when it is asked for."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = {t.name: t for t in graph.initializer}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return array_of(self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
