import pytest

from quantlab.quantize import ort
from quantlab.quantize.checks import check_recipe
from quantlab.quantize.peers import inc, nncf
from quantlab.tune.ladder import ladder_of
from quantlab.tune.space import default_space
from quantlab.tune.strategies import SPACE, combinations


@pytest.mark.parametrize(
    ("engine", "allowed", "count"),
    [("ort", ort._ALLOWED, 16), ("inc", inc._ALLOWED, 12), ("nncf", nncf._ALLOWED, 4)],
)
def test_an_engine_can_do_all_of_its_space(engine: str, allowed: object, count: int) -> None:
    recipes = combinations(ladder_of(engine)[0], default_space(engine))
    assert len(recipes) == count
    for recipe in recipes:
        check_recipe(recipe, engine, allowed)  # type: ignore[arg-type]


def test_the_spaces_of_our_own_and_of_unknown_engines() -> None:
    assert default_space("quantlab") == SPACE
    assert default_space("somebody's")["ranges"] == ["minmax"]
