"""Range search: rare images count, and what is fitted is kept only where others agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import Images, network

from quantlab.model.model import Model
from quantlab.quantize import engine
from quantlab.quantize.engine import QuantlabEngine
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

OFF: dict[str, Any] = {"equalize": False, "bias_correction": False, "rounding": "nearest"}


def errors(model: Model, proto: onnx.ModelProto, images: Images, folder: Path) -> np.ndarray:
    """Each image's squared error of the answers, as a share of their power."""
    (folder / "int8.onnx").write_bytes(proto.SerializeToString())
    with Runner(model) as fp32, Runner(Model.load(folder / "int8.onnx")) as int8:
        expected, made = (run(images.array).astype(float) for run in (fp32, int8))
    return ((made - expected) ** 2).sum(1) / (expected**2).sum(1)


def rare(count: int = 96) -> Images:
    """Images of which every eleventh is six times as bright as the others."""
    images = Images(count)
    images.array[::11] *= 6
    return images


def made(model: Model, images: Images, **fields: Any) -> onnx.ModelProto:
    return QuantlabEngine().quantize(model, Recipe(placement="widest", **fields), images)


def test_rare_images_are_not_clipped(tmp_path: Path) -> None:
    model, images = network(tmp_path), rare()
    start, found = (
        errors(model, made(model, images, range_search=s, **OFF), images, tmp_path)
        for s in (False, True)
    )
    assert start.max() > 0.05
    assert found.max() < 0.01


@pytest.mark.parametrize("rounding", ["nearest", "output-error"])
def test_weights_that_fit_the_images_they_were_fitted_on_alone_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounding: str
) -> None:
    def spoiled(plan: QuantizationPlan, *given: Any) -> QuantizationPlan:
        plan = fit(plan, *given)
        worse = {n: replace(w, bias=w.bias + 0.2) for n, w in plan.weights.items()}
        return replace(plan, weights=worse)

    fit = engine.fitted_weights
    model, images = network(tmp_path), Images(96)
    recipe = {**OFF, "rounding": rounding, "bias_correction": True}
    plain = made(model, images, ranges="minmax", range_search=False, **OFF)
    fine = errors(model, plain, images, tmp_path)
    monkeypatch.setattr(engine, "fitted_weights", spoiled)
    kept = errors(model, made(model, images, **recipe), images, tmp_path)
    lost = errors(model, made(model, images, range_search=False, **recipe), images, tmp_path)
    assert lost.mean() > 100 * fine.mean()
    assert kept.mean() < 1.1 * fine.mean()


def test_a_network_that_was_equalized_badly_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain MinMax ranges on the network as it came are the last resort."""

    def spoiled(self: Any) -> Any:
        found = finish(self)
        layers = [replace(x, bias=None if x.bias is None else x.bias + 1) for x in found.net.layers]
        return replace(found, net=replace(found.net, layers=tuple(layers)))

    finish = engine.Equalizer.finish
    model, images = network(tmp_path), Images(96)
    plain = made(model, images, ranges="minmax", range_search=False, **OFF)
    monkeypatch.setattr(engine.Equalizer, "finish", spoiled)
    assert made(model, images).SerializeToString() == plain.SerializeToString()
