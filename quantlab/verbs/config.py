"""``quantlab.yaml``: a project's options in a file. Flags win over it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
)

from quantlab._util import units
from quantlab._util.paths import is_url, location
from quantlab._util.yamlfile import read_yaml, validate
from quantlab.bench.harness import SHARED_ROUNDS, SHARED_SECONDS
from quantlab.compat import translated
from quantlab.data.preprocess import Pipeline
from quantlab.gate.notation import USUAL, spelled_now
from quantlab.gate.rules import DEFAULT_RULES, parse_rules
from quantlab.recipe import Recipe

FILE_NAME = "quantlab.yaml"

Strategy = Literal[
    "ladder", "sensitivity", "grid", "random", "tpe", "exhaustive", "basic", "conservative"
]
IncStrategy = Literal["basic", "bayesian", "exhaustive"]
Share = Annotated[float, BeforeValidator(units.share)]
Seconds = Annotated[float, BeforeValidator(units.seconds)]
Location = Annotated[Path | str, AfterValidator(location)]
Count = Annotated[int, Field(ge=1)]


class BenchConditions(BaseModel):
    """How the chosen model is timed against fp32 in the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_sizes: tuple[Count, ...] = Field((1,), min_length=1, description="each is timed")
    rounds: int = Field(SHARED_ROUNDS, ge=2, description="in each every model runs, in turns")
    seconds: Seconds = Field(SHARED_SECONDS, gt=0, description="for all rounds of a batch size")
    threads: int = Field(1, ge=0, description="0: every physical core")


class GateRules(BaseModel):
    """What ``quantlab gate`` judges by."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    require: tuple[str, ...] = Field(
        DEFAULT_RULES,
        validation_alias=AliasChoices("require", "fail_if"),
        description="what must hold",
    )
    baseline: Path | None = Field(None, description="accepted answers, in the place of model")

    @field_validator("require")
    @classmethod
    def _are_rules(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        parse_rules(texts)
        return texts


class Config(BaseModel):
    """What ``quantlab.yaml`` may say. Paths are relative to the file's folder.

    The descriptions are what ``quantlab init`` writes above each key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str | None = Field(
        None, description="The fp32 model: a .onnx file, or a published model's name."
    )
    data: Location | None = Field(
        None, description="Images to calibrate on: a folder, a file or a URL (see docs/data.md)."
    )
    list_file: Path | None = Field(
        None, alias="list", description="The labels of data: a file of `name label` lines."
    )
    eval_data: Location | None = Field(
        None, description="Images to judge on. Without it data is divided between the two."
    )
    eval_list: Path | None = Field(None, description="The labels of eval_data.")
    synsets: Path | None = Field(
        None, description="The classes in index order, `wnid name, ...` a line."
    )
    pipeline: str | dict[str, Any] | None = Field(
        None,
        description="Preprocessing: a name (torchvision, tf, ...), a YAML file, or a mapping of "
        "resizer, resize, crop, color, mean and std. Without it: what the model is known by.",
    )
    recipe: str | None = Field(
        None, description="Try only this recipe: a YAML file or a published model's name."
    )
    output: Path | None = Field(
        None, description="The int8 file. Without it: <model>.int8.onnx in the working folder."
    )
    criterion: str = Field(
        USUAL,
        description="What the int8 model must hold: top1.decline <= 1% (of fp32's top-1), 0.5pp "
        "(points), top5.decline, agreement >= 96%, kl <= 0.01, or module:function.decline.",
    )
    tolerance: Share = Field(0.0, description="Slack in that limit while searching.")
    strategy: Strategy = Field(
        "ladder",
        description="How recipes are searched: ladder, sensitivity, grid, random, tpe, exhaustive, "
        "basic or conservative.",
    )
    engine: str = Field(
        "quantlab", description="Who quantizes: quantlab, ort, inc, nncf, or an installed one."
    )
    engines: tuple[str, ...] = Field((), description="Or several, tried one after the other.")
    inc_strategy: IncStrategy | None = Field(
        None,
        description="Neural Compressor's own strategy, with engine inc: basic, bayesian or "
        "exhaustive.",
    )
    search: dict[str, tuple[Any, ...]] = Field(
        {},
        description="The search space: a recipe's keys, each with the values to try, for example "
        "ranges: [mean, mse]. Every recipe that is tried keeps to it.",
    )
    images_per_class: Count | None = Field(
        None,
        description="Calibration images of each class; default: one, and at least 300 in all, "
        "where there are so many.",
    )
    calibration_size: Count | None = Field(
        None, description="Or so many calibration images in all."
    )
    seed: int = Field(0, ge=0, description="Of the calibration sample and the search.")
    budget: Seconds = Field(
        300.0,
        ge=0,
        examples=["5m"],
        description="No new trial starts later than this: 90s, 5m, 1h. One always does.",
    )
    max_trials: Count | None = Field(None, description="Evaluations at most.")
    target_speedup: float | None = Field(
        None, ge=0, description="Stop once the criterion holds at this speed over fp32."
    )
    threads: int = Field(0, ge=0, description="For evaluation; 0: all cores of this process.")
    bench: BenchConditions = Field(
        BenchConditions(), description="How the chosen model is timed in the end."
    )
    storage: str | None = Field(
        None, description="An Optuna storage URL that several machines share."
    )
    rules: GateRules = Field(
        GateRules(), alias="gate", description="What quantlab gate judges by (docs/gate.md)."
    )

    @field_validator("pipeline")
    @classmethod
    def _is_a_pipeline(cls, value: Any) -> Any:
        if isinstance(value, dict):
            validate(Pipeline, value, "pipeline")
        return value

    @field_validator("search")
    @classmethod
    def _recipes_hold_it(cls, space: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in space.items():
            if not values:
                raise ValueError(f"{key}: give at least one value")
        return {
            key: tuple(getattr(validate(Recipe, {key: value}, "search"), key) for value in values)
            for key, values in space.items()
        }


@dataclass(frozen=True)
class Loaded:
    """A configuration, and what became of another tool's keys, as a Markdown table."""

    config: Config = field(default_factory=Config)
    table: str = ""


_HEADINGS = {
    "model": "What is quantized, and on which images",
    "criterion": "What must hold",
    "strategy": "How it is searched",
    "images_per_class": "Calibration",
    "budget": "When it ends",
    "threads": "Where it runs",
    "rules": "What a gate asks of model and output",
}
_FILES = ("data", "list_file", "eval_data", "eval_list", "synsets", "output")
"""Always paths; the ones below only when there is such a file, else they are names."""
_FILES_OR_NAMES = ("model", "recipe", "pipeline")
_FORMER = {"max_decline": "criterion"}
"""Flags that stand for a key of another name."""
_REPLACES = {
    "data": ("list_file", "eval_data", "eval_list"),
    "eval_data": ("eval_list",),
    "engine": ("engines",),
    "images_per_class": ("calibration_size",),
}
"""A flag sets its key, and the file's keys that would contradict it fall to their defaults."""


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


def load_config(path: Path | None = None) -> Config:
    """``load`` without the mapping's table."""
    return load(path).config


def _placed(config: Config, folder: Path, beside: Path | None = None) -> Config:
    """The same with paths in the folder, as it is called; what is no name but a file is seen
    ``beside`` it where it is called otherwise here."""
    changes: dict[str, Any] = {}
    for key in _FILES:
        if (value := getattr(config, key)) is not None and not is_url(value):
            changes[key] = folder / value
    if (baseline := config.rules.baseline) is not None:
        changes["rules"] = config.rules.model_copy(update={"baseline": folder / baseline})
    for key in _FILES_OR_NAMES:
        value = getattr(config, key)
        if isinstance(value, str) and ((beside or folder) / value).is_file():
            changes[key] = str(folder / value)
    return config.model_copy(update=changes)


def effective(config: Config, flags: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for one run: the flags that were given, else the file, else the defaults.

    Keys are Config's fields. ``flags`` are the given ones only, by the name of their parameter;
    those that no key stands for are left out. Pure.
    """
    given = {_FORMER[flag]: spelled_now(value) for flag, value in flags.items() if flag in _FORMER}
    given |= {key: value for key, value in flags.items() if key in Config.model_fields}
    defaults = Config().model_dump()
    settings = config.model_dump()
    for key in given:
        settings |= {other: defaults[other] for other in _REPLACES.get(key, ())}
    settings |= given
    if "eval_data" not in given and _same_images(settings):
        settings |= {"eval_data": None, "eval_list": None}
    return settings


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
        fields = recipe.model_dump()
        outside = {k: v[0] for k, v in search.items() if fields[k] not in v}
        try:
            fitting = Recipe.model_validate({**recipe.model_dump(exclude_unset=True), **outside})
        except ValueError:
            continue
        kept.setdefault(fitting.digest, fitting)
    return tuple(kept.values())


def template() -> str:
    """A commented ``quantlab.yaml`` with every key, its meaning and its default."""
    parts = [
        "# quantlab.yaml: defaults for the commands that run in this folder. Flags win.\n"
        "# Paths are relative to this file. A key without a value is one that is not set.\n"
    ]
    for name, key in Config.model_fields.items():
        if name in _HEADINGS:
            parts.append(f"\n# --- {_HEADINGS[name]} ---\n")
        meaning = textwrap.wrap(key.description or "", 96)
        parts += ["\n", *(f"# {line}\n" for line in meaning)]
        parts.append(_entry(key.alias or name, key.get_default(), key.examples))
    return "".join(parts)


def _entry(key: str, value: Any, examples: Sequence[Any] | None) -> str:
    """The key and its default, the way a person would write it."""
    if isinstance(value, BaseModel):
        lines = (
            f"  {name}: {_plain(getattr(value, name))}  # {part.description}"
            for name, part in type(value).model_fields.items()
        )
        return "\n".join([f"{key}:", *lines, ""])
    written = examples[0] if examples else value
    return f"{key}:\n" if written is None else f"{key}: {_plain(written)}\n"


def _plain(value: Any) -> str:
    """One line of YAML."""
    data = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(data, default_flow_style=True, width=1000)
    return text.removesuffix("...\n").strip()
