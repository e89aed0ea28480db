"""Caffe's Datum: an image and its label as a protobuf message.

Source: ``caffe/src/caffe/proto/caffe.proto``: channels = 1, height = 2, width = 3, data = 4,
label = 5, float_data = 6, encoded = 7. The wire format is protobuf's: a varint of field number
and wire type before each value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantlab.data.dataset import Content
from quantlab.data.images import MAX_PIXELS
from quantlab.errors import DataError

_CHANNELS, _HEIGHT, _WIDTH, _DATA, _LABEL, _FLOATS, _ENCODED = range(1, 8)
_NUMBERS = (_CHANNELS, _HEIGHT, _WIDTH, _LABEL, _ENCODED)
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5


@dataclass(frozen=True)
class Datum:
    """A message's fields; ``data`` is a view of the message's memory. ``label`` is None where there
    is none."""

    channels: int
    height: int
    width: int
    data: memoryview
    label: int | None
    encoded: bool

    def content(self) -> Content:
        """The encoded image, or its pixels uint8 [h, w, 3]: raw ones lie as [3, h, w], blue first.

        Raises DataError ``"<reason>."`` when sizes and data do not fit.
        """
        if self.encoded:
            return bytes(self.data)
        shape = (self.channels, self.height, self.width)
        pixels = self.height * self.width
        if self.channels not in (1, 3) or min(shape) < 1 or pixels > MAX_PIXELS:
            raise DataError(f"the Datum's size {list(shape)} is not that of an image.")
        if len(self.data) != self.channels * pixels:
            raise DataError(f"the Datum of {list(shape)} has {len(self.data)} bytes of pixels.")
        planes: NDArray[np.uint8] = np.frombuffer(self.data, np.uint8).reshape(shape)
        colours = np.broadcast_to(planes[::-1], (3, *shape[1:]))
        return np.array(colours.transpose(1, 2, 0), order="C")


def parse(message: memoryview) -> Datum:
    """The message's fields; unknown ones are passed over. Raises DataError ``"<reason>."``."""
    numbers: dict[int, int] = {}
    data = memoryview(b"")
    for field, value in _fields(message):
        if field == _DATA and isinstance(value, memoryview):
            data = value
        elif field in _NUMBERS and isinstance(value, int):
            numbers[field] = value
        elif field == _FLOATS:
            raise DataError("the Datum holds floats, not an image.")
        elif field <= _ENCODED:
            raise DataError("not a Datum.")
    label = numbers.get(_LABEL)
    return Datum(
        channels=numbers.get(_CHANNELS, 0),
        height=numbers.get(_HEIGHT, 0),
        width=numbers.get(_WIDTH, 0),
        data=data,
        label=None if label is None else _signed(label),
        encoded=bool(numbers.get(_ENCODED, 0)),
    )


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers with their integers or bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        field, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            number, place = _varint(message, place)
            yield field, number
            continue
        if wire == _BYTES:
            length, place = _varint(message, place)
        elif wire in (_FOUR, _EIGHT):
            length = 4 if wire == _FOUR else 8
        else:
            raise DataError("not a Datum.")
        if length > len(message) - place:
            raise DataError("the Datum is cut off.")
        yield field, message[place : place + length]
        place += length


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """An integer in groups of seven bits, the lowest first, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            raise DataError("the Datum is cut off.")
        byte = message[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise DataError("not a Datum.")


def _signed(number: int) -> int:
    """The lower 32 bits as an int32."""
    low = number & 0xFFFFFFFF
    return low - (1 << 32) if low >> 31 else low
