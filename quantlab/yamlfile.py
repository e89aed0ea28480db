"""Reading YAML that a person wrote: safely, bounded, and with errors that name the nearest key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from quantlab.errors import RecipeError

MAX_BYTES = 1024**2
Schema = TypeVar("Schema", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises RecipeError when it is missing, too large or not one."""
    if not path.is_file():
        raise RecipeError(f"{path}: no such file.")
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError(f"{path} is larger than 1 MiB: not a configuration file.")
    try:
        return parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path} is not text in UTF-8.") from error


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """The mapping in a YAML text. ``where`` names it in errors. Raises RecipeError.

    Aliases are refused: nothing here needs them, and nested ones expand without bound.
    """
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text, yaml.SafeLoader)):
            raise RecipeError(f"{where}: YAML aliases (*name) are not supported.", "Write it out.")
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise RecipeError(f"{where} is not valid YAML{line}: {problem}.") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise RecipeError(f"{where} must be a YAML mapping (key: value lines).")
    return data


def validate(schema: type[Schema], data: Mapping[str, Any], where: str) -> Schema:
    """``data`` as ``schema``. Raises RecipeError that names the wrong key and the right one."""
    try:
        return schema.model_validate(dict(data))
    except ValidationError as error:
        raise _explain(error, schema, where) from error


def _explain(error: ValidationError, schema: type[BaseModel], where: str) -> RecipeError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return RecipeError(f"{where}: {key + ': ' if key else ''}{message}.")
    known = list(schema.model_fields)
    near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
    remedy = f"Did you mean {near[0]}?" if near else f"Known keys: {', '.join(known)}."
    return RecipeError(f"{where}: unknown key {key}.", remedy)
