"""Map MindCV's YAML to the keys of ``quantlab.yaml`` that matter to an evaluation. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quantlab.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from quantlab.errors import RecipeError

_RESIZERS = {"bilinear": "opencv-bilinear", "bicubic": "pillow-bicubic"}
_KEYS = {"image_resize", "crop_pct", "ckpt_path", "data_dir", "dataset"}
_PLACEHOLDER = "/path/to"


def is_mindcv(data: Mapping[str, Any]) -> bool:
    """Whether the YAML is one of MindCV's, by keys that quantlab does not have."""
    return bool(_KEYS & data.keys())


def map_mindcv(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The settings: a pipeline, and the model and images where they are real.

    The shorter side is ``image_resize / crop_pct``, rounded down; MindCV's defaults hold for what
    is not there. ``model`` is an architecture's name and says nothing here, nor do the keys of
    training. Raises RecipeError for values that no pipeline can have.
    """
    settings: dict[str, Any] = {"pipeline": _pipeline(data, where)}
    for key, setting in (("ckpt_path", "model"), ("data_dir", "eval_data")):
        value = data.get(key)
        if isinstance(value, str) and value and not value.startswith(_PLACEHOLDER):
            settings[setting] = value
    return settings


def _pipeline(data: Mapping[str, Any], where: str) -> dict[str, Any]:
    side, part = data.get("image_resize", 224), data.get("crop_pct", 0.875)
    resizer = _RESIZERS.get(str(data.get("interpolation", "bilinear")))
    if type(side) is not int or type(part) not in (int, float) or not 0 < part <= 1:
        raise RecipeError(f"{where}: image_resize must be pixels and crop_pct a share of 1.")
    if resizer is None:
        raise RecipeError(
            f"{where}: interpolation {data['interpolation']!r} is not known.",
            f"Known: {', '.join(_RESIZERS)}.",
        )
    return {
        "name": "mindcv",
        "resizer": resizer,
        "resize": math.floor(side / part),
        "crop": side,
        "mean": data.get("mean", IMAGENET_MEAN),
        "std": data.get("std", IMAGENET_STD),
    }
