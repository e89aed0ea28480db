"""decode: everything that people's image files are."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from quantlab.data.images import MAX_PIXELS, decode, quiet_pillow
from quantlab.errors import DataError
from quantlab.testing import photo


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def test_a_png_comes_back_as_it_was() -> None:
    image = photo(3, size=(40, 30))
    decoded = decode(encode(image), "a.png")
    assert decoded.mode == "RGB"
    assert np.array_equal(np.asarray(decoded), np.asarray(image))


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM"])
def test_other_formats_are_read(file_format: str) -> None:
    image = photo(3, size=(40, 30))
    decoded = np.asarray(decode(encode(image, file_format), "a"), float)
    assert np.abs(decoded - np.asarray(image, float)).mean() < 6


JPEGS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "progressive": {"progressive": True},
    "restart markers": {"restart_marker_blocks": 2},
    "RGB": {"keep_rgb": True},
    "optimized": {"optimize": True, "quality": 20},
}


@pytest.mark.parametrize("kind", [*JPEGS, "grey", "CMYK"])
@pytest.mark.parametrize("size", [(1, 1), (17, 9), (200, 3), (131, 97)])
def test_a_jpeg_has_the_pixels_that_pillow_gives(kind: str, size: tuple[int, int]) -> None:
    image = photo(5, size=size).convert({"grey": "L", "CMYK": "CMYK"}.get(kind, "RGB"))
    data = encode(image, "JPEG", **JPEGS.get(kind, {}))
    with Image.open(io.BytesIO(data)) as opened:
        expected = np.asarray(opened.convert("RGB"))
    assert np.array_equal(np.asarray(decode(data, "a")), expected)


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF"]
)
def test_an_image_outlives_its_file(file_format: str) -> None:
    decoded = decode(encode(photo(5, size=(40, 30)), file_format), "a")
    assert decoded.resize((7, 5)).size == (7, 5)
    assert np.array_equal(np.asarray(decoded.copy()), np.asarray(decoded))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied_once(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(1, size=(32, 16)), file_format, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(np.asarray(decode(data, "a")), np.asarray(expected.convert("RGB")))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_a_senseless_orientation_is_ignored(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encode(photo(1, size=(32, 16)), "JPEG", exif=exif), "a").size == (32, 16)


def test_damaged_exif_does_not_cost_the_image() -> None:
    data = encode(photo(1, size=(32, 16)), "JPEG")
    exif = b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    with quiet_pillow():
        assert decode(data[:2] + segment + data[2:], "a").size == (32, 16)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("L", (20, 10), 200)
    image = Image.new(mode, (20, 10), 200 * 256) if mode == "I;16" else grey.convert(mode)
    file_format = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    decoded = decode(encode(image, file_format), "a")
    assert (decoded.mode, decoded.size) == ("RGB", (20, 10))
    if mode != "1":
        assert abs(float(np.asarray(decoded).mean()) - 200) < 3


def test_16_bit_grey_keeps_its_high_byte() -> None:
    samples = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    decoded = np.asarray(decode(encode(Image.fromarray(samples)), "a"))
    assert decoded[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_16_bit_ppm() -> None:
    data = b"P5 2 1 65535\n" + struct.pack(">2H", 65535, 32768)
    assert np.asarray(decode(data, "a"))[0, :, 0].tolist() == [255, 128]


def test_alpha_is_dropped_as_torchvision_does() -> None:
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert np.asarray(decode(encode(image), "a"))[0, 0].tolist() == [10, 20, 30]


def test_palette_with_transparency() -> None:
    image = photo(2).quantize(16)
    data = encode(image, transparency=bytes(range(16)))
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(np.asarray(decode(data, "a")), expected)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bit_samples_are_refused(mode: str) -> None:
    with pytest.raises(DataError, match=r"a\.tif: 32-bit samples have no known range"):
        decode(encode(Image.new(mode, (4, 4)), "TIFF"), "a.tif")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_refused(file_format: str) -> None:
    data = encode(photo(1, size=200), file_format)
    with pytest.raises(DataError, match=r"^cut\.x: ") as caught:
        decode(data[: len(data) // 2], "cut.x")
    assert "\n" not in caught.value.problem
    if file_format == "JPEG":
        assert caught.value.problem == "cut.x: the file is truncated."


def test_other_files_are_refused_with_the_reason() -> None:
    with pytest.raises(DataError, match=r"^x\.jpg: the file is empty\.$"):
        decode(b"", "x.jpg")
    with pytest.raises(DataError, match=r"^x\.jpg: not an image of a known format\.$"):
        decode(b"<html>not found</html>", "x.jpg")
    with pytest.raises(DataError, match="known format"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "x.jpg")


def test_the_pixel_bound_holds_before_decoding() -> None:
    with pytest.raises(DataError, match=r"^a: 20 x 20 pixels are over the bound of 399\.$"):
        decode(encode(photo(size=20)), "a", max_pixels=399)
    assert decode(encode(photo(size=20)), "a", max_pixels=400).size == (20, 20)


@pytest.mark.parametrize("side", [9_500, 12_000, 60_000])
def test_a_bomb_is_refused(side: int) -> None:
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + header))
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + crc
    with quiet_pillow(), pytest.raises(DataError, match="a: "):
        decode(data, "a")
    assert MAX_PIXELS == 100_000_000


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damage_gives_an_image_or_a_data_error(data: st.DataObject) -> None:
    original = encode(photo(1, size=24), data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF"])))
    position = data.draw(st.integers(0, len(original) - 1))
    damage = data.draw(st.binary(min_size=1, max_size=4))
    damaged = original[:position] + damage + original[position + len(damage) :]
    with quiet_pillow(), suppress(DataError):
        assert decode(damaged, "a", max_pixels=10_000).mode == "RGB"
