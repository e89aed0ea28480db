"""Scales of channels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from nets import Images, floats, network, ops, quantize, sqnr
from numpy.typing import NDArray
from onnx import numpy_helper

from quantlab.model.model import Model
from quantlab.quantize.engine.channels import Channels
from quantlab.quantize.engine.equalize import RoundingNoise, linear_scales, sum_scales
from quantlab.quantize.engine.net import Layer

Array = NDArray[np.float64]


def conv(weight: Array) -> Layer:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], name="conv")
    return Layer(node, ("x",), ("y",), weight=weight.astype(np.float32))


def test_linear_scales_undo_whatever_scales_a_model_came_with() -> None:
    rng = np.random.default_rng(0)
    usual = rng.uniform(0.5, 2, 16)
    weight = rng.standard_normal((24, 16, 1, 1))
    by = np.exp2(rng.integers(-5, 6, 16))

    def scales(usual: Array, weight: Array) -> Array:
        facts = {"x": Channels(usual, usual, usual**2)}
        found = linear_scales(["x"], facts, [("x", conv(weight))])
        return found / found[0]

    plain = scales(usual, weight)
    changed = scales(usual * by, weight / by[:, None, None])
    # Each row counts relative to its own largest weight, which the changed scales move a little.
    np.testing.assert_allclose(np.log2(changed * by / (plain * by[0])), 0, atol=0.7)
    assert np.ptp(np.log2(changed)) > 8


def test_a_dead_channel_and_weights_of_zero_have_finite_scales() -> None:
    usual = np.array([1.0, 0.0, 2.0])
    weight = np.ones((4, 3, 1, 1))
    weight[:, 2] = 0
    facts = {"x": Channels(usual, usual, usual**2)}
    found = linear_scales(["x"], facts, [("x", conv(weight))])
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_sums_are_scaled_no_further_than_makes_less_noise() -> None:
    """A channel that seldom fires, but then far, would get a scale that widens every step."""
    rng = np.random.default_rng(0)
    usual = np.concatenate([np.full(15, 1.0), [1e-2]])
    layer = conv(rng.standard_normal((24, 16, 1, 1)))
    for peak, spared in ((1.0, True), (100.0, False)):
        facts = {"x": Channels(usual * ([1.0] * 15 + [peak * 10]), usual, usual**2)}
        full = linear_scales(["x"], facts, [("x", layer)])
        noise = RoundingNoise(255, 127, 0.3)
        found = sum_scales(["x"], facts, [("x", layer)], noise)
        made = [noise(layer, facts["x"], by / by.min()) for by in (found, full, full**0)]
        assert made[0] <= min(made[1:])
        assert np.allclose(found, full / full.min()) == spared


@pytest.mark.parametrize("left", ["c1", "c2"])
def test_scales_pass_through_a_convolution_in_fp32(left: str, tmp_path: Path) -> None:
    """What a model's channels came with is undone between an int8 and an fp32 convolution too."""
    proto = network(tmp_path).proto()
    by = np.exp2(np.array([-6, 5, -4, 3, 6, -5, 4, -3], np.float32))
    for tensor in proto.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if tensor.name in ("w1", "b1"):
            value = value * by.reshape(-1, *[1] * (value.ndim - 1))
        if tensor.name == "w2":
            value = value / by.reshape(1, -1, 1, 1)
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), tensor.name))
    onnx.save(proto, tmp_path / "uneven.onnx")
    model = Model.load(tmp_path / "uneven.onnx")
    plain = {"range_search": False, "bias_correction": False, "rounding": "nearest"}
    off, on = (quantize(model, exclude=(left,), equalize=e, **plain) for e in (False, True))
    assert ops(on).count("Conv") == 2
    assert sqnr(model, on) > sqnr(model, off) + 10


PLAIN: Any = {"rounding": "nearest", "range_search": False, "bias_correction": False}


def uneven_channels() -> dict[str, Any]:
    """Weights of channels that each read one color, from weak to strong."""
    colors = np.eye(3, dtype=np.float32)[[0, 0, 0, 1, 1, 1, 2, 2], :, None, None]
    scale = np.geomspace(0.01, 1, 8, dtype=np.float32)
    return {
        "w1": np.abs(floats(8, 3, 3, 3)) * colors * scale[:, None, None, None],
        "b1": np.zeros(8, np.float32),
        "w2": floats(8, 8, 3, 3, seed=1) / scale[:, None, None],
    }


class Pairs:
    """RoundingNoise, two images at a time; of every other two the last colour is nearly black."""

    def __init__(self, dark: float) -> None:
        self.array = np.random.default_rng(3).standard_normal((16, 3, 16, 16)).astype(np.float32)
        self.array[np.arange(16) % 4 < 2, 2] *= dark

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[NDArray[np.generic]]:
        yield from np.split(self.array, 8)


@pytest.mark.parametrize(("dark", "kept"), [(1e-3, False), (1.0, True)])
def test_it_is_kept_only_where_images_that_it_was_not_made_of_agree(
    tmp_path: Path, dark: float, kept: bool
) -> None:
    """Channels that are quiet on some images are not scaled up for those alone."""
    images: Any = Pairs(dark)
    model = network(tmp_path, more=uneven_channels())
    tried, off = (
        quantize(model, images, equalize=equalize, placement="widest", **PLAIN)
        for equalize in (True, False)
    )
    assert (tried.SerializeToString() != off.SerializeToString()) == kept


def test_batches_larger_than_what_judges_are_looked_at_whole(tmp_path: Path) -> None:
    """Equalization made of a dark batch harms a bright one, also of a model with a fixed batch."""
    images: Any = Images(96, batch=48)
    images.array[:48, 2] *= 1e-3
    model = network(tmp_path, more=uneven_channels(), shape=(48, 3, 16, 16))
    tried, off = (
        quantize(model, images, equalize=equalize, placement="widest", **PLAIN)
        for equalize in (True, False)
    )
    assert tried.SerializeToString() == off.SerializeToString()
