"""Datums against protobuf's own writer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from quantlab.data.readers.datum import parse
from quantlab.errors import DataError
from quantlab.testing import pixels
from quantlab.testing.formats import datum, encoded, raw_datum

FIELDS = {
    "channels": (1, "INT32"),
    "height": (2, "INT32"),
    "width": (3, "INT32"),
    "data": (4, "BYTES"),
    "label": (5, "INT32"),
    "float_data": (6, "FLOAT"),
    "encoded": (7, "BOOL"),
    "unknown": (900, "FIXED64"),
    "other": (901, "FIXED32"),
    "text": (902, "STRING"),
}


@pytest.fixture(scope="module")
def message() -> Any:
    """Caffe's message, with fields that it does not have yet."""
    file = descriptor_pb2.FileDescriptorProto(name="datum.proto", package="caffe", syntax="proto2")
    made = file.message_type.add(name="Datum")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, (number, kind) in FIELDS.items():
        repeated = name == "float_data"
        made.field.add(
            name=name,
            number=number,
            type=getattr(kinds, f"TYPE_{kind}"),
            label=kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("caffe.Datum"))


@pytest.mark.parametrize("label", [None, 0, 7, 999, 2**31 - 1, -1, -(2**31)])
def test_protobufs_own_messages(message: Any, label: int | None) -> None:
    made = message(channels=3, height=2, width=300, data=b"abc", encoded=True, unknown=5, other=1)
    made.text = "später"
    if label is not None:
        made.label = label
    found = parse(memoryview(made.SerializeToString()))
    assert (found.channels, found.height, found.width) == (3, 2, 300)
    assert (bytes(found.data), found.label, found.encoded) == (b"abc", label, True)


def test_the_test_writer_writes_the_same(message: Any) -> None:
    made = message(channels=3, height=4, width=5, label=-2, data=b"x" * 300)
    again = message.FromString(datum(-2, data=b"x" * 300, channels=3, height=4, width=5))
    assert again == made


def test_raw_pixels_become_rgb() -> None:
    content = parse(memoryview(raw_datum(3, 1, (6, 4)))).content()
    assert isinstance(content, np.ndarray)
    assert np.array_equal(content, pixels(3, 1, (6, 4)))
    assert content.flags.c_contiguous
    assert content.flags.owndata


def test_grey_pixels_become_rgb() -> None:
    content = parse(memoryview(datum(0, data=bytes(range(6)), channels=1, height=2, width=3)))
    expected = np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3, 1), 3, axis=2)
    assert np.array_equal(content.content(), expected)


def test_encoded_images_stay_encoded() -> None:
    image = encoded(1)
    assert parse(memoryview(datum(1, data=image, encoded=1))).content() == image


def test_floats_are_no_image(message: Any) -> None:
    for made in (message(float_data=[1, 2]), message(channels=3, label=1, float_data=[0.5])):
        with pytest.raises(DataError, match="holds floats, not an image"):
            parse(memoryview(made.SerializeToString()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x0a", "cut off"),
        (b"\x22\x05abc", "cut off"),
        (b"\x08", "cut off"),
        (b"\x08" + b"\xff" * 11, "not a Datum"),
        (b"\x0b", "not a Datum"),
        (b"\x22" + b"\xff" * 9 + b"\x01", "cut off"),
        (b"\x0a\x01a", "not a Datum"),
        (b"\x00\x01", "not a Datum"),
        (b"\x20\x01", "not a Datum"),
        (b"\xc1\x38abc", "cut off"),
    ],
)
def test_other_bytes_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(memoryview(data))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"channels": 3, "height": 2, "width": 2}, r"of \[3, 2, 2\] has 4 bytes of pixels"),
        ({"channels": 2, "height": 1, "width": 2}, r"size \[2, 1, 2\] is not that of an image"),
        ({}, r"size \[0, 0, 0\] is not"),
        ({"channels": 3, "height": 10**5, "width": 10**5}, "is not that of an image"),
        ({"channels": 1, "height": -2, "width": -2}, "is not that of an image"),
    ],
)
def test_sizes_that_do_not_fit(numbers: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(memoryview(datum(0, data=b"abcd", **numbers))).content()


def test_random_bytes_never_raise_anything_else() -> None:
    draw = np.random.default_rng(0)
    for _ in range(2000):
        data = draw.bytes(int(draw.integers(0, 40)))
        with suppress(DataError):
            parse(memoryview(data)).content()
