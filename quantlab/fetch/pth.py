"""Reads the weights of a PyTorch ``.pth`` file without PyTorch and without running what it holds.

A ``.pth`` is a pickle, and a pickle is a program. Two fences stand around it: the opcodes are read
first and only those that build tensors are admitted; then the unpickler resolves four kinds of
name (OrderedDict, the storages, ``_rebuild_tensor_v2``) and nothing else.

Format: PyTorch's legacy one (``torch/serialization.py``, ``_legacy_save``): five pickles (magic
number, protocol, system, the state dict, the storages' keys), then each storage as an int64 count
and its little-endian values.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantlab.errors import FetchError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Five times what the largest file read here has, and too few to overrun the stack by nesting.
_MAX_OPCODES = 50_000
_MAX_DIMENSIONS = 8
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_OPCODES = {
    *("PROTO", "STOP", "MARK", "GLOBAL", "BINPERSID", "REDUCE", "BUILD"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"),
    *("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"),
}
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

StoredArray = NDArray[Any]


class _StorageType(NamedTuple):
    dtype: str


class _Storage(NamedTuple):
    key: str
    dtype: str
    length: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Rebuild:
    """``torch._utils._rebuild_tensor_v2``: only notes what is wanted. No state, none can be set."""

    __slots__ = ()

    def __call__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor without a storage")
        return _Tensor(storage, _count(offset), _counts(shape), _counts(strides))


def read_pth(content: bytes, name: str) -> dict[str, StoredArray]:
    """The state dict's tensors by name. Raises FetchError for anything but a dict of tensors.

    ``name`` says in errors which file it was. Memory stays within a small multiple of the file.
    """
    if zipfile.is_zipfile(io.BytesIO(content)):
        raise FetchError(f"{name} is a .pth file of the newer zip format, which is not supported.")
    file = io.BytesIO(content)
    try:
        state = _read_state(file, name)
        storages = _read_storages(file, _load(file, name), _wanted_storages(state))
        return {key: _materialize(tensor, storages) for key, tensor in state.items()}
    except _BROKEN as error:
        reason = " ".join(str(error).split())[:200]
        raise FetchError(f"{name} is not a readable .pth file: {reason}.") from error


def _read_state(file: io.BytesIO, name: str) -> dict[str, _Tensor]:
    if _load(file, name) != _MAGIC or _load(file, name) != _PROTOCOL:
        raise ValueError("it does not begin with PyTorch's magic number")
    _load(file, name)
    state = _load(file, name)
    if not isinstance(state, dict):
        raise ValueError("it holds no dictionary of tensors")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, _Tensor):
            raise ValueError("one of its entries is not a tensor")
    return state


def _load(file: io.BytesIO, name: str) -> Any:
    """The next pickle of the file."""
    start = file.tell()
    _check_opcodes(file, name)
    file.seek(start)
    return _TensorUnpickler(file, name).load()


def _check_opcodes(file: io.BytesIO, name: str) -> None:
    with warnings.catch_warnings():
        # genops warns of odd escapes in the text of instructions that are refused anyway.
        warnings.simplefilter("ignore", DeprecationWarning)
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if opcode.name not in _OPCODES:
                raise _refused(name, f"the pickle instruction {opcode.name}")
            memo = int(argument or 0) if opcode.name == "LONG_BINPUT" else 0
            if number > _MAX_OPCODES or memo > _MAX_OPCODES:
                raise _refused(name, "a pickle longer than a model's")


class _TensorUnpickler(pickle.Unpickler):
    """Resolves names by a table of what tensors are made of; imports nothing."""

    def __init__(self, file: io.BytesIO, name: str) -> None:
        super().__init__(file)
        self._name = name
        self._known: Mapping[tuple[str, str], _StorageType | Callable[..., Any]] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
            **{("torch", k): _StorageType(v) for k, v in _DTYPES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            raise _refused(self._name, f"{module}.{name}")
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, storage_type, key, _, count, view = pid
        known = isinstance(storage_type, _StorageType) and isinstance(key, str)
        if not known or (kind, view) != ("storage", None):
            raise ValueError("a storage of an unknown kind")
        return _Storage(key, storage_type.dtype, _count(count))


def _refused(name: str, what: str) -> FetchError:
    return FetchError(
        f"{name} was refused: it holds {what[:200]}, where only tensors are admitted.",
        "The file may be malicious. Nothing in it was run.",
    )


def _wanted_storages(state: Mapping[str, _Tensor]) -> dict[str, _Storage]:
    wanted = {tensor.storage.key: tensor.storage for tensor in state.values()}
    if any(wanted[tensor.storage.key] != tensor.storage for tensor in state.values()):
        raise ValueError("one storage is described in two ways")
    return wanted


def _read_storages(
    file: io.BytesIO, keys: Any, wanted: Mapping[str, _Storage]
) -> dict[str, StoredArray]:
    """The storages in the order of ``keys``; each must be one that a tensor asked for."""
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("its list of storages is not one")
    if sorted(keys) != sorted(wanted):
        raise ValueError("its list of storages does not fit its tensors")
    return {key: _read_storage(file, wanted[key]) for key in keys}


def _read_storage(file: io.BytesIO, storage: _Storage) -> StoredArray:
    dtype = np.dtype(storage.dtype)
    if int.from_bytes(file.read(8), "little", signed=True) != storage.length:
        raise ValueError("a storage has another size than its tensors say")
    content = file.read(storage.length * dtype.itemsize)
    if len(content) != storage.length * dtype.itemsize:
        raise ValueError("it ends before its last tensor")
    return np.frombuffer(content, dtype)


def _materialize(tensor: _Tensor, storages: Mapping[str, StoredArray]) -> StoredArray:
    """A fresh, contiguous array: shape and strides (in elements) must lie within the storage."""
    storage = storages[tensor.storage.key]
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides) or len(shape) > _MAX_DIMENSIONS:
        raise ValueError("a tensor with more strides than dimensions")
    last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    size = int(np.prod(shape, dtype=object))
    if size > len(storage) or (size and tensor.offset + last >= len(storage)):
        raise ValueError("a tensor that reaches beyond its storage")
    view = np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], shape, [step * storage.itemsize for step in strides]
    )
    return np.ascontiguousarray(view, storage.dtype.newbyteorder("=")).reshape(shape).copy()


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a size that is not a whole number")
    return value


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple):
        raise TypeError("a shape that is not a tuple")
    return tuple(_count(v) for v in values)
