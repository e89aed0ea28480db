"""Make small JPEG thumbnails of crops."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quantlab.data.crops import Crops

SIDE = 160
QUALITY = 80


def thumbnails(crops: Crops, names: Collection[str]) -> dict[str, bytes]:
    """JPEG files of at most SIDE pixels a side, of the crops that have these names, by name."""
    rows = {name: row for row, name in enumerate(crops.names) if name in names}
    pixels = crops.pixels(np.array(list(rows.values()), np.intp))
    return {name: _jpeg(crop) for name, crop in zip(rows, pixels, strict=True)}


def _jpeg(crop: NDArray[Any]) -> bytes:
    """Of floats, which may be in any unit, the least is shown black and the largest white."""
    if crop.dtype != np.uint8:
        span = max(float(np.ptp(crop)), np.finfo(np.float32).tiny)
        crop = ((crop - crop.min()) / span * 255).astype(np.uint8)
    image = Image.fromarray(crop)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "jpeg", quality=QUALITY)
    return file.getvalue()
