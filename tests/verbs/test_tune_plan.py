"""What each strategy of tune asks for, and what is quantized ahead of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import get_args

import pytest

from quantlab.quantize.groups import Group
from quantlab.recipe import Recipe
from quantlab.tune.choices import Strategy
from quantlab.tune.front import Front
from quantlab.verbs.options.tune import TuneOptions
from quantlab.verbs.tune import plan

RUNGS = (Recipe(name="a"), Recipe(name="b", equalize=False))
CONV = Group("Conv", ("conv",))
COSTS = SimpleNamespace(
    ranking=lambda recipe: [(CONV, 1.0)], front_of=lambda recipe: Front(start=recipe, points=())
)
SPACE = {"ranges": ["mean", "mse"]}


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_every_strategy_begins_with_what_is_quantized_ahead(strategy: Strategy) -> None:
    spec = TuneOptions(model="m.onnx", strategy=strategy, space=SPACE)
    search, certain = plan(spec, RUNGS, COSTS, None)
    first = next(search).recipe
    assert not certain or certain[0] == first
    assert bool(certain) == (strategy in ("ladder", "basic", "sensitivity", "grid", "exhaustive"))
