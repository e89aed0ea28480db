"""What each group costs, left out and alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from quantlab.evaluate.proxy import Distance, Proxy
from quantlab.inspect.sensitivity import (
    EXCLUDED,
    GroupCost,
    GroupProbe,
    measure_sensitivity,
    worth_excluding,
)
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.testing.models import tiny_classifier

FACTORS = {"stem.w": 300, "stem.b": 300, "depthwise.w": 1 / 300}


def probe(folder: Path, recipe: Recipe | None = None, batch: int | None = None) -> GroupProbe:
    model = Model.load(tiny_classifier(folder / "tiny.onnx", batch=batch))
    images = np.random.default_rng(0).standard_normal((16, 3, 32, 32)).astype(np.float32)
    return GroupProbe(Proxy(model, images, threads=1), recipe or Recipe())


def cost(name: str, kl: float) -> GroupCost:
    near = Distance(kl=kl, sqnr_db=20.0)
    return GroupCost(kind="Conv", nodes=(name, f"{name}_act"), gain=kl, left_out=near, alone=near)


@pytest.mark.parametrize("batch", [None, 4])
def test_every_group_is_measured_and_ranked(tmp_path: Path, batch: int | None) -> None:
    steps: list[tuple[int, str]] = []
    found = measure_sensitivity(probe(tmp_path, batch=batch), lambda *step: steps.append(step))
    assert {x.nodes for x in found.groups} == {
        ("stem", "stem_act"),
        ("depthwise", "depthwise_act"),
        ("pointwise", "residual"),
        ("output",),
    }
    assert [n for n, _ in steps] == [1, 2, 3, 4]
    assert (found.model, found.images) == ("tiny", 16)
    costs = [x.alone.kl for x in found.groups]
    assert costs == sorted(costs, reverse=True)
    assert min(costs) > 0
    for x in found.groups:
        assert x.gain == pytest.approx(found.whole.kl - x.left_out.kl)
        assert x.alone.kl < 2 * found.whole.kl


def test_left_out_and_alone_are_the_files_they_say(tmp_path: Path) -> None:
    one = probe(tmp_path)
    groups = {group.name: group for group in one.groups}
    rest = [n for name in groups if name != "stem" for n in groups[name].nodes]
    alone = one.proxy.distance(one.variants.without(rest))
    assert one.alone(groups["stem"]) == alone
    left_out = one.proxy.distance(one.variants.without(["stem", "stem_act"]))
    assert one.left_out(groups["stem"]) == left_out
    assert one.whole == one.proxy.distance(one.variants.without(()))


def test_a_bad_layer_stands_out(tmp_path: Path) -> None:
    """One of the stem's channels is 300 times louder, and the layer after it turns it down again:
    the network computes the same, but the quantizer between them has no steps for the others."""
    path = tiny_classifier(tmp_path / "loud.onnx", relu6=False, residual=False)
    proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        if tensor.name in FACTORS:
            values = numpy_helper.to_array(tensor).copy()
            values[0] *= FACTORS[tensor.name]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(proto, path)
    images = np.random.default_rng(0).standard_normal((16, 3, 32, 32)).astype(np.float32)
    loud = GroupProbe(Proxy(Model.load(path), images, threads=1), Recipe())
    found = measure_sensitivity(loud, lambda *_: None)
    assert {cost.name for cost in found.groups[:2]} == {"stem", "depthwise"}
    assert {"stem", "depthwise"} <= set(found.exclude)
    assert found.groups[1].alone.kl > 10 * found.groups[2].alone.kl


def test_what_the_recipe_excludes_is_no_question(tmp_path: Path) -> None:
    one = probe(tmp_path, Recipe(exclude=("stem", "stem_act")))
    assert [group.name for group in one.groups] == ["depthwise", "pointwise", "output"]
    whole = probe(tmp_path)
    assert one.whole == whole.left_out(whole.groups[0])


def test_without_any_int8_nothing_is_lost(tmp_path: Path) -> None:
    one = probe(tmp_path)
    left = one.proxy.distance(one.variants.without([n for g in one.groups for n in g.nodes]))
    assert left.kl == pytest.approx(0, abs=1e-9)


def test_worth_excluding() -> None:
    ranked = [cost("a", 0.5), cost("b", 0.06), cost("c", 0.04)]
    assert worth_excluding(ranked, 1.0) == ("a", "a_act", "b", "b_act")
    assert worth_excluding(ranked, 0.0) == ()
    many = [cost(f"g{i}", 0.5) for i in range(9)]
    assert len(worth_excluding(many, 1.0)) == 2 * EXCLUDED
