"""What the record of a comparison says of the int8 file's MACs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from quantlab.model.model import Model
from quantlab.quantize.engine import QuantlabEngine
from quantlab.quantize.stamp import RECIPE_KEY
from quantlab.recipe import Recipe
from quantlab.testing import tiny_classifier
from quantlab.verbs.compare import EXCLUDED, REVERTED, macs_of


class Images:
    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[Any]:
        yield np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)


@pytest.fixture
def int8(tmp_path: Path) -> Model:
    """A file whose recipe keeps its node ``pointwise`` in fp32."""
    fp32 = Model.load(tiny_classifier(tmp_path / "net.onnx"))
    recipe = Recipe(exclude=("pointwise",), equalize=False, rounding="nearest", range_search=False)
    onnx.save(QuantlabEngine().quantize(fp32, recipe, Images()), tmp_path / "int8.onnx")
    return replace(
        Model.load(tmp_path / "int8.onnx"), metadata={RECIPE_KEY: "exclude: [pointwise]"}
    )


@pytest.mark.parametrize(
    ("asked", "reason"), [(None, EXCLUDED), (["pointwise"], EXCLUDED), ((), REVERTED)]
)
def test_who_left_a_node_in_fp32(int8: Model, asked: Collection[str] | None, reason: str) -> None:
    found = macs_of(int8, asked)
    assert found is not None
    assert [(x.op_type, x.reason) for x in found.fp32 if x.share] == [("Conv", reason)]


@pytest.mark.parametrize("text", ["exclude: 5", "exclude: [1]", "name: mine"])
def test_a_foreign_recipe_in_the_file_does_no_harm(int8: Model, text: str) -> None:
    found = macs_of(replace(int8, metadata={RECIPE_KEY: text}))
    assert found is not None
    assert EXCLUDED not in {x.reason for x in found.fp32}


def test_what_does_not_run_has_no_share(int8: Model) -> None:
    int8.path.write_bytes(_without_weights(int8.path))
    assert macs_of(int8) is None


def _without_weights(path: Path) -> bytes:
    proto = onnx.load(path)
    del proto.graph.initializer[:]
    return bytes(proto.SerializeToString())
