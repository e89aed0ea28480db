"""``quantlab.yaml``: a project's options in a file. Flags win over it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator
from pydantic.fields import FieldInfo

from quantlab._util.paths import is_url
from quantlab._util.yamlfile import read_yaml, validate
from quantlab.compat import translated
from quantlab.data.preprocess import Pipeline
from quantlab.gate.notation import USUAL, parse_decline
from quantlab.gate.rules import DEFAULT_RULES, parse_rules
from quantlab.recipe import Recipe
from quantlab.verbs.options.gate import GateOptions
from quantlab.verbs.options.option import Declared, Options, Unit, declared, without_flags
from quantlab.verbs.options.shared import ConfigOptions
from quantlab.verbs.options.tune import TuneOptions
from quantlab.verbs.roles import Reads, int8_path

FILE_NAME = "quantlab.yaml"
Settled = TypeVar("Settled", bound=ConfigOptions)

_GATE = "gate"
"""The section of ``quantlab.yaml`` that is of ``quantlab gate``."""
_IN_A_FILE: dict[str, tuple[Any, Any]] = {
    "recipe": (str | None, None),
    "criterion": (str, USUAL),
    "require": (tuple[str, ...], DEFAULT_RULES),
}
"""Options whose type and default in a file are not those of the verb."""


def keys_of(options: type[Options]) -> dict[str, Declared]:
    """The options of a verb that a file may set, by what Config calls them: as their flags are
    called, or without a flag as their key."""
    return {
        each.name if each.option.command else each.option.config: each
        for each in declared(options).values()
        if each.option.config is not None and "." not in each.option.config
    }


def of_gate() -> dict[str, Declared]:
    """The options of gate that a file may set."""
    known = declared(GateOptions)
    return {k: d for k, d in known.items() if (d.option.config or "").startswith(f"{_GATE}.")}


def _fields(known: Mapping[str, Declared]) -> dict[str, Any]:
    """Fields for ``create_model``, with the key where that is called otherwise."""
    found = {}
    for name, each in known.items():
        kind = each.annotation | None if each.field.is_required() else each.annotation
        kind, default = _IN_A_FILE.get(each.name, (kind, each.default))
        key = (each.option.config or "").removeprefix(f"{_GATE}.")
        choices = f" One of {', '.join(each.choices)}." if each.choices else ""
        told = Field(
            default,
            alias=None if key == name else key,
            validation_alias=each.alias if key == name else None,
            description=f"{without_flags(each.option.help, '_')}{choices}",
        )
        found[name] = (kind, told)
    return found


class _File(BaseModel):
    """A part of the file; its keys are those that the verbs' options declare."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def file_schema(options: type[Options]) -> type[_File]:
    """What a file may say of a verb's options."""
    return create_model("Keys", __base__=_File, **_fields(keys_of(options)))


if TYPE_CHECKING:

    class _GateKeys(_File): ...

    class _Keys(_File): ...

else:
    _GateKeys = create_model("_GateKeys", __base__=_File, **_fields(of_gate()))
    _Keys = file_schema(TuneOptions)


class GateRules(_GateKeys):
    """What ``quantlab gate`` judges by."""

    @field_validator("require")
    @classmethod
    def _are_rules(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        parse_rules(texts)
        return texts


class Config(_Keys):
    """What ``quantlab.yaml`` may say: the options of tune and of gate that are declared so.

    Paths are relative to the file's folder.
    """

    rules: GateRules = Field(
        GateRules(), alias=_GATE, description="What quantlab gate judges by (docs/gate.md)."
    )

    @field_validator("pipeline")
    @classmethod
    def _is_a_pipeline(cls, value: Any) -> Any:
        if isinstance(value, dict):
            validate(Pipeline, value, "pipeline")
        return value


@dataclass(frozen=True)
class Loaded:
    """A configuration, and what became of another tool's keys, as a Markdown table."""

    config: Config = field(default_factory=Config)
    table: str = ""


def paths_of(known: Mapping[str, Declared]) -> tuple[list[str], list[str]]:
    """Of these options those whose value is always a path, and those whose value is a path only
    when there is such a file, else a name."""
    always = [name for name, each in known.items() if Path in each.kinds]
    named = [k for k, d in known.items() if isinstance(d.option.role, Reads) and k not in always]
    return always, named


def load(path: Path | None = None) -> Loaded:
    """A configuration file, or a folder's ``quantlab.yaml`` (default: the working folder's).

    Neural Compressor 1.x YAML and MindCV's are recognized and mapped. A folder without the file
    gives the defaults. Raises RecipeError.
    """
    path = Path.cwd() if path is None else path
    if path.is_dir():
        path /= FILE_NAME
        if not path.is_file():
            return Loaded()
    made = translated(read_yaml(path), str(path))
    return Loaded(_placed(validate(Config, made.settings, str(path)), path.parent), made.table)


def models_of(config: Config) -> dict[str, str]:
    """The models that it names, by key: ``model``, and with it ``output``, where tune writes to
    if nothing else is said and there is such a file."""
    usual = None if config.model is None else int8_path(config.model)
    made = config.output or (usual if usual is not None and usual.is_file() else None)
    named = {"model": config.model, "output": made}
    return {key: str(value) for key, value in named.items() if value is not None}


def load_config(path: Path | None = None) -> Config:
    """``load`` without the mapping's table."""
    return load(path).config


def _placed(config: Config, folder: Path, beside: Path | None = None) -> Config:
    """The same with paths in the folder, as it is called; what is no name but a file is seen
    ``beside`` it where it is called otherwise here."""
    changes: dict[str, Any] = {}
    always, named = paths_of(keys_of(TuneOptions))
    for key in always:
        if (value := getattr(config, key)) is not None and not is_url(value):
            changes[key] = folder / value
    if (baseline := config.rules.baseline) is not None:
        changes["rules"] = config.rules.model_copy(update={"baseline": folder / baseline})
    for key in named:
        value = getattr(config, key)
        if isinstance(value, str) and ((beside or folder) / value).is_file():
            changes[key] = str(folder / value)
    return config.model_copy(update=changes)


def effective(config: Config, flags: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for one run: the flags that were given, else the file, else the defaults.

    Keys are Config's fields. ``flags`` are the given ones only, by the name of their parameter;
    those that no key stands for are left out. Pure.
    """
    known = declared(TuneOptions)
    other = {name: each.option.stands_for for name, each in known.items()}
    stood = {key: value for flag, value in flags.items() if (key := other.get(flag)) is not None}
    given = {key: parse_decline(value).written for key, value in stood.items()}
    given |= {key: value for key, value in flags.items() if key in Config.model_fields}
    defaults = Config().model_dump()
    settings = config.model_dump()
    for key in given:
        replaced = known[key].option.replaces if key in known else ()
        settings |= {name: defaults[name] for name in replaced}
    settings |= given
    if "eval_data" not in given and _same_images(settings):
        settings |= {"eval_data": None, "eval_list": None}
    return settings


def resolve(
    options: type[Options], given: Mapping[str, Any], config: Config, source: str
) -> dict[str, Any]:
    """What holds of the options that a file may set, as ``effective`` has it, and ``origins``: for
    every option what has set it, which is its flag, the file ``source``, a variable of the
    environment, or ``default``."""
    known, settings = keys_of(options), effective(config, given)
    values = {name: settings[name] for name in known}
    defaults = Config().model_dump()
    every = {**declared(options), **known}
    origins = {
        name: _origin(each, given, source if values.get(name) != defaults.get(name) else "")
        for name, each in every.items()
    }
    for each in every.values():
        if each.name in given and each.option.stands_for in known:
            origins[each.option.stands_for] = each.flag
    return {**values, "origins": origins}


def _origin(known: Declared, given: Mapping[str, Any], source: str) -> str:
    if known.name in given:
        return known.flag
    if source:
        return source
    usual = None if known.option.role is None else known.option.role.usual(given)
    return usual[1] if isinstance(usual, tuple) else "default"


def settled(options: Settled) -> Settled:
    """The options with what their configuration says where they say nothing; as they are where
    that was done. Raises RecipeError."""
    if options.origins:
        return options
    set_here = {name: getattr(options, name) for name in options.model_fields_set}
    given = {name: value for name, value in set_here.items() if value is not None}
    found = resolve(type(options), given, load_config(options.config), source_name(options.config))
    return options.model_copy(update=found)


def source_name(path: Path | None) -> str:
    """What a configuration is called where the origin of a value is told."""
    return FILE_NAME if path is None or path.is_dir() else path.name


def _same_images(settings: Mapping[str, Any]) -> bool:
    """Whether one dataset has to serve for both purposes; it is divided then."""
    same_list = settings["eval_list"] in (None, settings["list_file"])
    return settings["eval_data"] == settings["data"] and same_list


def dump(settings: Mapping[str, Any], heading: str = "", folder: Path | None = None) -> str:
    """Effective settings as the text of a configuration that repeats them from any folder.

    It will lie in ``folder``: paths that are relative to the working folder stay relative, to this
    one; else they become absolute. Other keys than Config's are left out, and those that have no
    value.
    """
    known = {
        key.alias or name: settings[name]
        for name, key in Config.model_fields.items()
        if settings.get(name) is not None
    }
    config = validate(Config, known, "the settings")
    here = Path.cwd()
    place = here if folder is None else Path(os.path.relpath(here, folder))
    data = _placed(config, place, here).model_dump(mode="json", by_alias=True, exclude_none=True)
    comment = "".join(f"# {line}\n" for line in heading.splitlines())
    return comment + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def narrowed(recipes: Sequence[Recipe], search: Mapping[str, Sequence[Any]]) -> tuple[Recipe, ...]:
    """Recipes made to keep to a search space: what is outside of it becomes its first value.

    Recipes that are alike afterwards are kept once, and combinations that no recipe allows are
    left out.
    """
    kept: dict[str, Recipe] = {}
    for recipe in recipes:
        outside = {k: v[0] for k, v in search.items() if getattr(recipe, k) not in v}
        try:
            fitting = Recipe.model_validate({**recipe.given, **outside})
        except ValueError:
            continue
        kept.setdefault(fitting.digest, fitting)
    return tuple(kept.values())


def template(schema: type[_File] | None = None, options: type[Options] = TuneOptions) -> str:
    """A commented ``quantlab.yaml`` with every key, its meaning and its default."""
    parts = [
        "# quantlab.yaml: defaults for the commands that run in this folder. Flags win.\n"
        "# Paths are relative to this file. A key without a value is one that is not set.\n"
    ]
    known, heading = keys_of(options), ""
    for name, key in (schema or Config).model_fields.items():
        group = known[name].option.group if name in known else "What a gate asks"
        if group != heading:
            parts.append(f"\n# --- {group} ---\n")
        heading = group
        meaning = textwrap.wrap(key.description or "", 96)
        parts += ["\n", *(f"# {line}\n" for line in meaning)]
        parts.append(_entry(key.alias or name, key))
    return "".join(parts)


def _entry(key: str, told: FieldInfo) -> str:
    """The key and its default, the way a person would write it."""
    value = told.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        lines = [f"{key}:"]
        for name, part in type(value).model_fields.items():
            meaning = textwrap.wrap(part.description or "", 94)
            lines += [*(f"  # {line}" for line in meaning)]
            lines += [f"  {name}: {_plain(getattr(value, name))}".removesuffix(" null")]
        return "\n".join([*lines, ""])
    return f"{key}: {shown_default(told)}".rstrip() + "\n"


def shown_default(told: FieldInfo) -> str:
    """The default of a key in one line of YAML; nothing where there is none."""
    value = told.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel):
        return ""
    unit = next((each for each in told.metadata if isinstance(each, Unit)), None)
    return _plain(value) if unit is None else unit.show(value)


def _plain(value: Any) -> str:
    """One line of YAML."""
    data = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(data, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()
