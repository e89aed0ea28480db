from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from quantlab._util.yamlfile import parse_yaml, read_yaml, validate
from quantlab.errors import RecipeError
from quantlab.recipe import Recipe
from quantlab.verbs.config import Config, load_config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML, line"),
        ("- 1", "must be a YAML mapping"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("[" * 100_000, "levels deep"),
        ("- " * 100_000, "levels deep"),
        ("? " * 100_000, "levels deep"),
        ("{a: " * 100_000, "levels deep"),
        ("!!python/object/apply:os.system ['true']", "YAML tags"),
    ],
)
def test_bad_yaml_is_refused_in_plain_words(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_yaml(text, "x.yaml")


def test_an_unknown_key_names_the_nearest_right_one() -> None:
    with pytest.raises(RecipeError, match=r"unknown key rangs.\nDid you mean ranges\?"):
        validate(Recipe, {"rangs": "minmax"}, "r.yaml")


def test_a_wrong_value_names_its_key() -> None:
    with pytest.raises(RecipeError, match=r"r.yaml: ranges: Input should be 'minmax'"):
        validate(Recipe, {"ranges": "guess"}, "r.yaml")


def test_files_are_bounded_and_must_exist(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        read_yaml(tmp_path / "no.yaml")
    (tmp_path / "big.yaml").write_bytes(b"#" * (1024**2 + 1))
    with pytest.raises(RecipeError, match="larger than 1 MiB"):
        read_yaml(tmp_path / "big.yaml")


def test_config_paths_are_relative_to_its_folder(tmp_path: Path) -> None:
    assert load_config(tmp_path) == Config()
    (tmp_path / "quantlab.yaml").write_text("data: images\npipeline: tf\n")
    assert load_config(tmp_path).data == tmp_path / "images"
    (tmp_path / "quantlab.yaml").write_text("dta: images\n")
    with pytest.raises(RecipeError, match="Did you mean data"):
        load_config(tmp_path)


def test_an_impossible_date_is_not_valid_yaml() -> None:
    with pytest.raises(RecipeError, match="not valid YAML"):
        parse_yaml("day: 2026-99-99", "x.yaml")


class Wheel(BaseModel):
    model_config = ConfigDict(extra="forbid")
    wheel: str
    version: str = ""


class Url(BaseModel):
    model_config = ConfigDict(extra="forbid")
    url: str
    digest: str = ""


Source = Annotated[
    Annotated[Url, Tag("url")] | Annotated[Wheel, Tag("wheel")],
    Discriminator(lambda data: "wheel" if "wheel" in data else "url"),
]


class House(BaseModel):
    model_config = ConfigDict(extra="forbid")
    recipe: Recipe | None = None
    tagged: tuple[Source, ...] = ()
    plain: tuple[Url | Wheel, ...] = ()
    rooms: dict[str, Wheel] = {}
    list_file: str | None = Field(None, alias="list")


@pytest.mark.parametrize(
    ("data", "key", "right"),
    [
        ({"recipe": {"formt": "qdq"}}, "recipe.formt", "format"),
        ({"tagged": [{"wheel": "x", "versin": 1}]}, "tagged.0.wheel.versin", "version"),
        ({"tagged": [{"url": "x", "digst": 1}]}, "tagged.0.url.digst", "digest"),
        ({"plain": [{"url": "x", "digst": 1}]}, "plain.0.Url.digst", "digest"),
        ({"rooms": {"hall": {"wheel": "x", "versin": ""}}}, "rooms.hall.versin", "version"),
        ({"lst": "x"}, "lst", "list"),
        ({"list_file": "x"}, "list_file", "list"),
    ],
)
def test_an_unknown_key_at_any_depth_names_the_nearest(
    data: dict[str, object], key: str, right: str
) -> None:
    with pytest.raises(RecipeError) as error:
        validate(House, data, "x.yaml")
    assert error.value.problem == f"x.yaml: unknown key {key}."
    assert error.value.remedy == f"Did you mean {right}?"


def test_an_unknown_key_is_named_before_what_is_missing_for_it() -> None:
    with pytest.raises(RecipeError, match=r"unknown key tagged.0.url.ur.\nDid you mean url\?"):
        validate(House, {"tagged": [{"ur": "x"}]}, "x.yaml")


def test_without_a_near_key_the_known_ones_are_listed() -> None:
    with pytest.raises(RecipeError, match="Known keys: wheel, version") as error:
        validate(House, {"rooms": {"hall": {"wheel": "x", "zzz": 1}}}, "x.yaml")
    assert error.value.problem == "x.yaml: unknown key rooms.hall.zzz."


@pytest.mark.parametrize("data", [None, 3, "text", ["a"], [["a", 1]]])
def test_what_is_no_mapping_is_refused(data: object) -> None:
    with pytest.raises(RecipeError, match=r"x.yaml must be a YAML mapping"):
        validate(House, data, "x.yaml")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["!!int ''", "!!bool x", "!!timestamp x", "!own x", "! x"])
def test_tags_are_refused(value: str) -> None:
    """With most of these PyYAML fails in ways of its own."""
    with pytest.raises(RecipeError, match="YAML tags"):
        parse_yaml(f"a: {value}\n", "x.yaml")
