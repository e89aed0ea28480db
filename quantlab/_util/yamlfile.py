"""Read YAML written by people: safely, of bounded size, with errors that name the nearest key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, Tag, ValidationError

from quantlab.errors import QuantlabError, RecipeError, meant, shown

MAX_BYTES = 1024**2
MAX_DEPTH = 50
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, where PyYAML was built with it: ten times as fast."""
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

    Aliases are refused: nothing here needs them, and nested ones expand without bound. So are tags:
    PyYAML trusts a value to be of the type that its tag names. So is deep nesting, over which
    PyYAML would take hours.
    """
    try:
        _check_tokens(text, where)
        data = yaml.load(text, _LOADER)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: 2026-99-99
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        if "nesting depth" in problem:  # libyaml's own bound, which may come first
            raise _too_deep(where) from error
        raise RecipeError(f"{where} is not valid YAML{line}: {problem}.") from error
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise RecipeError(f"{where} must be a YAML mapping (key: value lines).")
    return data


def _check_tokens(text: str, where: str) -> None:
    """Raises RecipeError, YAMLError."""
    depth = 0
    for token in yaml.scan(text, _LOADER):
        if isinstance(token, yaml.AliasToken):
            raise RecipeError(f"{where}: YAML aliases (*name) are not supported.", "Write it out.")
        if isinstance(token, yaml.TagToken):
            raise RecipeError(f"{where}: YAML tags (!name) are not supported.", "Leave it out.")
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if depth > MAX_DEPTH:
            raise _too_deep(where)


def _too_deep(where: str) -> RecipeError:
    return RecipeError(f"{where} is nested more than {MAX_DEPTH} levels deep.")


def validate(schema: type[Schema], data: Mapping[str, Any], where: str) -> Schema:
    """``data`` as ``schema``. Raises RecipeError that names the wrong key and the right one.

    A validator of the schema may call this for a part of it: its error is then this one's.
    """
    if not isinstance(data, Mapping):
        raise RecipeError(f"{where} must be a YAML mapping (key: value lines).")
    try:
        return schema.model_validate(dict(data))
    except ValidationError as error:
        raise _explain(error, schema, where) from error
    except RecipeError as error:
        raise RecipeError(f"{where}: {error.problem}", error.remedy) from error


def _explain(error: ValidationError, schema: type[BaseModel], where: str) -> RecipeError:
    """The first error of a validation, unknown keys before all others."""
    first = min(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"]]
    key = shown(".".join(path))
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, QuantlabError):
        return RecipeError(f"{where}: {cause.problem}", cause.remedy)
    if first["type"] != "extra_forbidden":
        message = first["msg"].removeprefix("Value error, ")
        return RecipeError(f"{where}: {key + ': ' if key else ''}{message}.")
    known = _known_keys(schema, path[:-1])
    remedy = meant(path[-1], known) or f"Known keys: {', '.join(known)}."
    return RecipeError(f"{where}: unknown key {key}.", remedy)


def _known_keys(schema: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that the mapping at ``path`` may hold.

    In pydantic's paths a key, a position in a list and the chosen one of several schemas (by its
    tag or its name) all look alike.
    """
    found = _schemas(schema)
    for part in path:
        named = [(name, owner) for name, owner in found if name == part]
        inner = [_schemas(f.annotation) for _, owner in found for f in _fields(owner, part)]
        if named and (len(found) > 1 or not inner):
            found = named
        elif inner:
            found = [pair for pairs in inner for pair in pairs]
    fields = [item for _, owner in found for item in owner.model_fields.items()]
    return list(dict.fromkeys(field.alias or name for name, field in fields))


def _fields(owner: type[BaseModel], key: str) -> list[Any]:
    return [field for name, field in owner.model_fields.items() if (field.alias or name) == key]


def _schemas(annotation: Any, tag: str | None = None) -> list[tuple[str, type[BaseModel]]]:
    """Every schema inside a type, with its tag or else its name."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        return _schemas(inner, next((e.tag for e in extra if isinstance(e, Tag)), tag))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [(tag or annotation.__name__, annotation)]
    return [pair for argument in get_args(annotation) for pair in _schemas(argument)]
