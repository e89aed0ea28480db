from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.data.thumbnails import SIDE, thumbnails
from quantlab.testing import image_folder


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    image_folder(tmp_path / "images", 2, 2)
    pipeline = get_pipeline("torchvision", size=224)
    return load_crops(open_dataset(tmp_path / "images"), pipeline, cache_dir=tmp_path / "crops")


def test_they_are_small_pictures_of_their_crops(crops: Crops) -> None:
    wanted = {crops.names[3], crops.names[1], "not there"}
    found = thumbnails(crops, wanted)
    assert list(found) == [crops.names[1], crops.names[3]]
    for name, data in found.items():
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, image.size) == ("JPEG", (SIDE, SIDE))
            seen = np.asarray(image, np.float64).mean((0, 1))
        assert seen == pytest.approx(crops.array[crops.names.index(name)].mean((0, 1)), abs=3)


def test_none_are_asked_for(crops: Crops) -> None:
    assert thumbnails(crops, ()) == {}
