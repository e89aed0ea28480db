"""Tools for tests: tiny models, fakes and images made in code."""

from quantlab.testing.examples import example_images, example_model
from quantlab.testing.images import image_folder, listed_folder, npz_file, photo, pixels, truncate
from quantlab.testing.measurements import fake_bench, fake_measurement
from quantlab.testing.models import (
    FakeRunner,
    blind_model,
    near_model,
    pixel_logits,
    taught,
    tiny_classifier,
)
from quantlab.testing.predictions import fake_predictions

__all__ = [
    "FakeRunner",
    "blind_model",
    "example_images",
    "example_model",
    "fake_bench",
    "fake_measurement",
    "fake_predictions",
    "image_folder",
    "listed_folder",
    "near_model",
    "npz_file",
    "photo",
    "pixel_logits",
    "pixels",
    "taught",
    "tiny_classifier",
    "truncate",
]
