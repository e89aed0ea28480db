"""Which formats are not meant to be fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.inspect.speed_formats import slow_format
from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.recipe import Recipe
from quantlab.testing import tiny_classifier

PLAIN: dict[str, Any] = {"equalize": False, "bias_correction": False, "rounding": "nearest"}


class Images:
    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Any:
        yield np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ({}, ""),
        ({"portable": False}, ""),
        ({"reduce_range": True}, ""),
        ({"activations": "u16"}, "computes uint16 activations in fp32"),
        (
            {"activations": "s16", "weights": "s16"},
            "computes int16 activations and int16 weights in fp32",
        ),
        ({"weights": "s4"}, "unpacks int4 weights before it computes"),
    ],
)
def test_what_has_no_fast_kernel_is_said(types: Any, said: str, tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "tiny.onnx"))
    recipe = Recipe(**{**PLAIN, "range_search": False, **types})
    sentence = slow_format(QuantlabEngine().quantize(model, recipe, Images()).graph)
    if said:
        assert sentence == (
            f"ONNX Runtime {said}: a format for fidelity or NPUs, not for speed on a CPU."
        )
    else:
        assert sentence == ""
