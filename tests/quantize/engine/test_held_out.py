"""Held-out images: what errors cost, and which changes they agree to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nets import Images, network
from onnx import helper
from scipy.special import softmax
from scipy.stats import entropy

from quantlab.model.model import Model
from quantlab.quantize.engine import held_out, make_plan, placed_net, prepared_for
from quantlab.quantize.engine.held_out import TAIL_WEIGHT, HeldOut, clearly_less, cost
from quantlab.quantize.engine.observe import watch
from quantlab.quantize.engine.qdq import write_qdq
from quantlab.recipe import Recipe
from quantlab.runtime.runner import Runner

QUICK = Recipe(
    placement="widest",
    equalize=False,
    bias_correction=False,
    rounding="nearest",
    range_search=False,
)


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=90))
def test_the_worst_images_count_beside_the_mean(errors: list[float]) -> None:
    worst = sorted(errors)[-max(1, round(len(errors) / 20)) :]
    expected = sum(errors) / len(errors) + TAIL_WEIGHT * sum(worst) / len(worst)
    assert cost(np.array(errors)) == pytest.approx(expected)


def drawn(seed: int, tail: float) -> np.ndarray:
    """Errors of 64 images, of both kinds, about 1 each; four of them ``tail`` times as large."""
    found = np.random.default_rng(seed).gamma(9.0, 1 / 9, (2, 64))
    found[:, :4] *= tail
    return found


def test_a_change_is_clear_where_nearly_every_image_gains() -> None:
    before = drawn(0, 5)
    assert clearly_less(before * 0.95, before)
    assert not clearly_less(before, before * 0.95)
    assert not clearly_less(before, before)


def test_chance_is_no_gain() -> None:
    said = [clearly_less(drawn(i, 5), drawn(i + 100, 5)) for i in range(100)]
    assert 5 < sum(said) < 35


def test_a_gain_of_most_images_does_not_pay_for_a_few_lost_ones() -> None:
    before = drawn(0, 5)
    after = before * 0.9
    after[:, :4] = before[:, :4] * 1.25
    assert after.mean() < before.mean()
    assert not clearly_less(after, before)


def test_errors_of_either_kind_count_whatever_their_size() -> None:
    before = drawn(0, 5) * [[1e-3], [1e-6]]
    after = before.copy()
    after[1] *= 0.5
    assert clearly_less(after, before)
    after[0] *= 2
    assert not clearly_less(after, before)


def test_answers_that_are_no_numbers_lose_to_all_others() -> None:
    before = np.full((2, 64), held_out._MOST)
    assert clearly_less(drawn(0, 5), before)
    assert not clearly_less(before, drawn(0, 5))


def with_softmax(model: Model, folder: Path) -> Model:
    """The model's probabilities, [N, 10, 1] from a Softmax and a Reshape."""
    proto = model.proto()
    (made,) = proto.graph.output
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 10]), "shape"))
    proto.graph.node.extend(
        [
            helper.make_node("Softmax", ["y"], ["all"], name="softmax"),
            helper.make_node("Reshape", ["all", "shape"], ["z"], name="reshape"),
        ]
    )
    made.name = "z"
    onnx.save(proto, folder / "softmax.onnx")
    return Model.load(folder / "softmax.onnx")


def test_errors_are_those_of_each_images_logits(tmp_path: Path) -> None:
    images = Images(12)
    plain = network(tmp_path)
    found = []
    for model in (plain, with_softmax(plain, tmp_path)):
        net, _ = placed_net(prepared_for(model, QUICK), QUICK, images)
        plan = make_plan(net, QUICK, images)
        judge = HeldOut(net, list(images))
        watch(net, [judge.watch], judge.images)
        found.append(judge.errors(plan))
    np.testing.assert_allclose(*found)
    (tmp_path / "int8.onnx").write_bytes(write_qdq(plan).SerializeToString())
    with Runner(plain) as fp32, Runner(Model.load(tmp_path / "int8.onnx")) as int8:
        logits, made = fp32(images.array), int8(images.array)
    squared, divergence = found[0]
    power = (logits.astype(float) ** 2).sum(1).mean()
    assert made.shape == logits.shape
    np.testing.assert_allclose(made, softmax(made_logits(plan, images), axis=1), rtol=1e-4)
    expected = ((made_logits(plan, images) - logits) ** 2).sum(1) / power
    np.testing.assert_allclose(squared, expected, rtol=1e-3)
    np.testing.assert_allclose(
        divergence, entropy(softmax(logits, axis=1), made, axis=1), rtol=2e-2
    )


def made_logits(plan: held_out.QuantizationPlan, images: Images) -> np.ndarray:
    proto = write_qdq(plan)
    return held_out._answering(proto, plan.net.input, held_out._logits(plan.net))(list(images))


def test_of_few_images_the_squared_error_alone_decides() -> None:
    few, many = held_out.FEWEST - 1, held_out.FEWEST
    for n, decided in ((few, True), (many, False)):
        old, new = np.ones((2, n)), np.ones((2, n))
        new[0], new[1, 0] = 0.3, 2.0 * n
        assert clearly_less(new, old) is decided
