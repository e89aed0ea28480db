"""The ladder: valid, short, full speed, without doubles."""

from __future__ import annotations

import pytest

from quantlab.quantize import get_engine
from quantlab.recipe import Recipe
from quantlab.tune.ladder import cheapest_first, ladder


def test_it_is_short_and_has_no_doubles() -> None:
    rungs = ladder()
    assert 2 <= len(rungs) <= 8
    assert len({r.name for r in rungs}) == len({r.digest for r in rungs}) == len(rungs)
    assert {r.format for r in rungs} == {"qdq", "qoperator"}
    assert ladder() == rungs


@pytest.mark.parametrize("rung", ladder(), ids=lambda r: r.name)
def test_every_rung_is_a_recipe_at_full_speed(rung: Recipe) -> None:
    assert Recipe.model_validate(rung.model_dump()) == rung
    assert (rung.activations, rung.weights) == ("u8", "s8")
    assert rung.per_channel
    assert rung.fp32_output
    assert rung.exclude == ()
    assert get_engine(rung.engine).name == rung.engine


def test_the_default_recipe_comes_first() -> None:
    assert ladder()[0].digest == Recipe().digest


def test_what_is_made_fastest_is_tried_first() -> None:
    names = [rung.name for rung in cheapest_first(ladder())]
    assert names == ["qdq-plain", "qdq", "qoperator", "ort-qdq-mean"]
