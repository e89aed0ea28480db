"""Decode image files safely to upright RGB pixels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from quantlab.errors import DataError

MAX_PIXELS = 100_000_000

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
"""What is decoded. Pillow knows more, some of which start other programs."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_EXIF_ORIENTATION = 0x0112


def decode(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The image, RGB and turned upright by its EXIF orientation.

    Alpha is dropped, not blended (as torchvision's loader does); 16-bit samples keep their high
    byte. Raises DataError ``"<name>: <reason>."`` for anything that is not a whole, readable image
    of at most ``max_pixels`` pixels. Never uses JPEG draft mode, which changes pixels.
    """
    try:
        return _decode(data, max_pixels)
    except DataError as error:
        raise DataError(f"{name}: {error.problem}", error.remedy) from None
    except Exception as error:  # Pillow's plugins raise nearly everything on damaged files
        raise DataError(f"{name}: {_reason(error, data)}.") from error


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Silence Pillow's warnings in all threads: the relevant ones are errors here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
        yield


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise DataError(f"{width} x {height} pixels are over the bound of {max_pixels}.")
        image.load()
        return upright_rgb(image)


def upright_rgb(image: Image.Image) -> Image.Image:
    """An opened image as ``decode`` gives it: RGB, turned upright. Raises DataError."""
    return _rgb(_upright(image))


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # damaged EXIF beside sound pixels: no orientation is known
        return image
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _high_byte(image).convert("RGB")
    if image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _high_byte(image: Image.Image) -> Image.Image:
    """Integer greys to 8 bit. Pillow's own conversion would clip everything above 255 to white."""
    if image.mode == "F" or (image.mode == "I" and image.format == "TIFF"):
        raise DataError("32-bit samples have no known range.", "Save it with 8 or 16 bits.")
    samples = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
    return Image.fromarray((samples >> 8).astype(np.uint8))


def _reason(error: Exception, data: bytes) -> str:
    if not data:
        return "the file is empty"
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return "far more pixels than the bound"
    if "truncated" in str(error).lower() or isinstance(error, EOFError):
        return "the file is truncated"
    return f"cannot be decoded ({str(error) or type(error).__name__})"
