"""Range search: rare images count, and what is fitted is kept only where others agree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import Images, network
from numpy.typing import NDArray

from quantlab.model.model import Model
from quantlab.quantize import engine
from quantlab.quantize.engine import QuantlabEngine
from quantlab.quantize.engine.held_out import PARTS, HeldOut, clearly_less
from quantlab.quantize.engine.plan import QuantizationPlan
from quantlab.quantize.engine.search import Search
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


class Judge(HeldOut):
    """Images in batches, of which a plan's errors are known; ``asked`` counts those asked for."""

    def __init__(self, errors: np.ndarray, batch: int) -> None:
        count = errors.shape[1]
        self.images = [np.zeros(min(batch, count - i)) for i in range(0, count, batch)]
        self.made, self.asked = errors, 0

    def in_parts(
        self, plan: QuantizationPlan, order: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], np.ndarray]]:
        for some in np.array_split(order, min(PARTS, len(order))):
            rows = np.concatenate([self._rows[i] for i in some])
            self.asked += len(rows)
            yield rows, self.made[:, rows]


@given(
    st.integers(1, 70), st.integers(1, 5), st.floats(0.5, 2), st.floats(0.5, 2), st.integers(0, 99)
)
def test_a_change_is_judged_alike_whether_all_images_see_it_or_some(
    count: int, batch: int, first: float, others: float, seed: int
) -> None:
    """Heavy tails, and gains on some images that are losses on others."""
    rng = np.random.default_rng(seed)
    before = rng.lognormal(0, 1.5, (2, count))
    factors = np.where(rng.random(count) < 0.3, first, others) * rng.lognormal(0, 0.2, (2, count))
    search = search_of(before, Judge(before * factors, batch))
    gains = clearly_less(before * factors, before)
    assert search.consider(search.plan) is gains
    np.testing.assert_array_equal(search.errors, before * factors if gains else before)


def test_what_costs_too_much_on_the_worst_images_is_not_run_on_the_others() -> None:
    before = np.ones((2, 64))
    before[:, 60:] = 20
    after = before * 1.2
    after[:, :32] = 0
    judge = Judge(after, 2)
    assert not search_of(before, judge).consider(made_up_plan())
    assert judge.asked == 8
    judge = Judge(before * 0.9, 2)
    assert search_of(before, judge).consider(made_up_plan())
    assert judge.asked == 64


def search_of(errors: np.ndarray, judge: Judge) -> Search:
    search = Search.__new__(Search)
    search.judge, search.plan, search.errors = judge, made_up_plan(), errors
    return search


def made_up_plan() -> QuantizationPlan:
    plan: Any = None
    return cast("QuantizationPlan", plan)
