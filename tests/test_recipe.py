import pytest
from pydantic import ValidationError

from quantlab.recipe import Recipe


def test_a_recipe_is_frozen_hashable_and_survives_yaml_and_json() -> None:
    recipe = Recipe(name="x", ranges="percentile", exclude=("a", "b"))
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    assert hash(recipe) == hash(recipe.model_copy())
    with pytest.raises(ValidationError):
        recipe.seed = 1  # type: ignore[misc]


def test_the_digest_ignores_the_name_and_nothing_else() -> None:
    recipe = Recipe()
    assert recipe.model_copy(update={"name": "y"}).digest == recipe.digest
    assert recipe.model_copy(update={"seed": 1}).digest != recipe.digest


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="8-bit"):
        Recipe(format="qoperator", activations="u16")
    with pytest.raises(ValidationError, match="7-bit"):
        Recipe(reduce_range=True, weights="s16")
    with pytest.raises(ValidationError, match="weights: s8 or u8"):
        Recipe(portable=True, weights="s16")
    with pytest.raises(ValidationError):
        Recipe.model_validate({"rangs": "minmax"})


def test_files_are_portable_where_the_engine_can_do_it_for_nothing() -> None:
    assert Recipe().portable
    assert Recipe(activations="u16").portable
    assert not Recipe(engine="ort").portable
    assert not Recipe(weights="u8").portable
    assert Recipe(engine="ort", portable=True).portable
