from pathlib import Path

import pytest

from quantlab.config import Config, load_config
from quantlab.errors import RecipeError
from quantlab.recipe import Recipe
from quantlab.yamlfile import parse_yaml, read_yaml, validate


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "not valid YAML, line"),
        ("- 1", "must be a YAML mapping"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[" * 5000, "not valid YAML"),
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
