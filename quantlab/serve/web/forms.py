"""Forms: a verb's request as input fields, and submitted fields as a request. Pure.

What there is to say of a field is said by the verb's own option on the command line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from quantlab._util import units
from quantlab.cli.options import Duration, Share
from quantlab.serve.requests import AnyRequest, command_of

Kind = Literal["pick", "choice", "flag", "number", "text", "lines"]

_SCHEMAS: dict[str, type[AnyRequest]] = {
    get_args(schema.model_fields["verb"].annotation)[0]: schema for schema in get_args(AnyRequest)
}
_MAIN = {
    "tune": ("model", "data", "eval_data", "max_decline", "budget", "strategy"),
    "quantize": ("model", "data", "recipe"),
    "compare": ("fp32", "int8", "data", "max_decline"),
    "evaluate": ("model", "data"),
    "bench": ("models", "batch_sizes", "seconds"),
    "gate": ("models", "data", "require", "baseline"),
    "baseline": ("model", "data", "name"),
}
"""What is asked first; the rest are options that few need."""
_MODEL_FIELDS = {"bench": 4, "gate": 2}
"""How many models a form has room for, where a verb takes several."""
_LABELS = {
    "model": "Model",
    "fp32": "fp32 model",
    "int8": "int8 model",
    "models": "Model",
    "data": "Dataset",
    "eval_data": "Dataset to judge on",
    "batch_sizes": "Batch sizes",
    "require": "Rules",
    "name": "Name of the baseline",
}
_HELP = {
    "model": "",
    "fp32": "",
    "int8": "",
    "data": "",
    "eval_data": "Default: part of the dataset.",
    "pipeline": "Preprocessing: a name such as torchvision or tf.",
    "output": "Default: the model's name and .int8.onnx.",
    "recipe": "Only this recipe.",
    "baseline": "Instead of an fp32 model.",
    "budget": "A duration such as 90s, 5m or 1h.",
    "batch_sizes": "Numbers with spaces between them.",
    "rates": "Images a second, with spaces between them: latency when requests come at random.",
    "require": "One a line, such as top1.decline <= 1% or agreement >= 95%.",
    "name": "Letters, digits and . _ + - only. A known name takes the new answers.",
    "models": "",
}
"""Where the command line speaks of files, or says something only in its help page."""


@dataclass(frozen=True)
class Stock:
    """Values to choose from (models, datasets, recipes, baselines), with their descriptions."""

    models: Sequence[tuple[str, str]] = ()
    datasets: Sequence[tuple[str, str]] = ()
    recipes: Sequence[tuple[str, str]] = ()
    baselines: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Field:
    """An input field. ``id`` is unique on the page; fields of one ``name`` make a list. ``hint`` is
    what counts when it is left empty."""

    id: str
    name: str
    label: str
    kind: Kind
    help: str = ""
    hint: str = ""
    required: bool = False
    value: str = ""
    choices: Sequence[tuple[str, str]] = ()
    stock: str = ""
    error: str = ""


@dataclass(frozen=True)
class Form:
    """A verb's form: main fields first, then the rest."""

    verb: str
    about: str
    main: tuple[Field, ...]
    more: tuple[Field, ...]

    @property
    def wrong(self) -> tuple[Field, ...]:
        """The fields with an error."""
        return tuple(each for each in (*self.main, *self.more) if each.error)

    @property
    def more_given(self) -> bool:
        """Whether any of the rest is filled in or wrong."""
        return any(each.value or each.error for each in self.more)


@dataclass(frozen=True)
class Filled:
    """The result of a submitted form: a request, or the errors by field."""

    request: AnyRequest | None = None
    errors: Mapping[str, str] = field(default_factory=dict)


_FLAG = re.compile(r"--([a-z]+(?:-[a-z]+)*)")
Given = Mapping[str, Sequence[str]]
"""What a form sent: values by field."""
Errors = Mapping[str, str]
"""What is wrong, by field; by "" what is of no field."""


def about(verb: str) -> str:
    """What a verb does, in a line. Raises KeyError for another verb."""
    return (_SCHEMAS[verb].__doc__ or "").splitlines()[0].replace("``", "")


def form(verb: str, stock: Stock, given: Given, errors: Errors) -> Form:
    """The verb's form with what was given so far. Raises KeyError for another verb."""
    schema = _SCHEMAS[verb]
    options = _options(schema)
    fields = {
        name: _fields(verb, name, info, options.get(name), stock, given.get(name, ()))
        for name, info in schema.model_fields.items()
        if name != "verb"
    }
    told = {
        name: [
            _with_error(each, errors.get(name, "")) if i == 0 else each
            for i, each in enumerate(many)
        ]
        for name, many in fields.items()
    }
    main = tuple(each for name in _MAIN[verb] for each in told[name])
    rest = tuple(each for name, many in told.items() if name not in _MAIN[verb] for each in many)
    return Form(verb, about(verb), main, rest)


def filled(verb: str, given: Given) -> Filled:
    """The request of what a form sent. Raises KeyError for another verb."""
    schema = _SCHEMAS[verb]
    options = _options(schema)
    values: dict[str, Any] = {"verb": verb}
    errors: dict[str, str] = {}
    for name, info in schema.model_fields.items():
        texts = [text.strip() for text in given.get(name, ()) if text.strip()]
        if name == "verb" or not texts:
            continue
        try:
            values[name] = _value(texts, info, options.get(name))
        except ValueError as error:
            errors[name] = _sentence(str(error))
    try:
        request = schema.model_validate(values)
    except ValidationError as error:
        for each in error.errors():
            errors.setdefault(
                str(each["loc"][0]) if each["loc"] else "", _words(each["type"], each["msg"])
            )
        return Filled(errors=errors)
    return Filled(errors=errors) if errors else Filled(request)


def _options(schema: type[AnyRequest]) -> dict[str, click.Option]:
    params = command_of(schema.COMMAND).params
    return {str(p.name): p for p in params if isinstance(p, click.Option)}


def _value(texts: list[str], info: FieldInfo, option: click.Option | None) -> Any:
    """Raises ValueError."""
    kind = _plain(info.annotation)
    if get_origin(kind) is tuple:
        inner = _plain(get_args(kind)[0])
        split = "\n" if inner is str else r"[\s,;]+"
        return [part.strip() for text in texts for part in re.split(split, text) if part.strip()]
    if option is not None and isinstance(option.type, Duration):
        return units.seconds(texts[0])
    if option is not None and isinstance(option.type, Share):
        return units.share(texts[0])
    return texts[0]


def _fields(
    verb: str,
    name: str,
    info: FieldInfo,
    option: click.Option | None,
    stock: Stock,
    given: Sequence[str],
) -> list[Field]:
    kind = _plain(info.annotation)
    several = get_origin(kind) is tuple
    first = Field(
        id=name,
        name=name,
        label=_LABELS.get(name) or name.replace("_", " ").capitalize(),
        kind="text",
        help=_HELP[name] if name in _HELP else _help(info, option),
        hint=_hint(option),
        required=info.is_required(),
        value=given[0] if given else "",
    )
    if (kept := _stock(name, stock)) is not None:
        field_of, choices = kept
        listed = _changed(first, kind="pick", choices=choices, stock=field_of, hint="")
        if not several:
            return [listed]
        return [
            _changed(
                listed,
                id=name if i == 0 else f"{name}-{i + 1}",
                label=f"{listed.label} {i + 1}",
                required=listed.required and i == 0,
                value=given[i] if i < len(given) else "",
            )
            for i in range(_MODEL_FIELDS[verb])
        ]
    if several:
        lines = _plain(get_args(kind)[0]) is str
        text = ("\n" if lines else " ").join(given)
        return [_changed(first, kind="lines" if lines else "text", value=text)]
    if kind is bool:
        return [_changed(first, kind="flag", label=first.help.rstrip("."), help="")]
    if get_origin(kind) is Literal:
        choices = [(str(value), str(value)) for value in get_args(kind)]
        return [_changed(first, kind="choice", choices=choices)]
    plain = option is None or not isinstance(option.type, Duration | Share)
    return [_changed(first, kind="number" if kind in (int, float) and plain else "text")]


def _stock(name: str, stock: Stock) -> tuple[str, Sequence[tuple[str, str]]] | None:
    """The values that a field chooses from, if any."""
    if name in ("model", "models", "fp32", "int8"):
        return "models", stock.models
    if name in ("data", "eval_data"):
        return "datasets", stock.datasets
    if name == "recipe":
        return "recipes", stock.recipes
    return ("baselines", stock.baselines) if name == "baseline" else None


def _changed(known: Field, **changes: Any) -> Field:
    return Field(**{**vars(known), **changes})


def _with_error(known: Field, error: str) -> Field:
    return _changed(known, error=error) if error else known


def _help(info: FieldInfo, option: click.Option | None) -> str:
    if option is None or not option.help:
        return _sentence(info.description or "")
    return _FLAG.sub(lambda found: found[1].replace("-", " "), option.help)


def _hint(option: click.Option | None) -> str:
    """The command line's default, where it says something."""
    if option is None or option.is_flag:
        return ""
    value = option.default
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    if isinstance(value, int | float):
        return f"{value:g}"
    return value if isinstance(value, str) else ""


def _plain(annotation: Any) -> Any:
    """A field's type without None and without bounds."""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is not None and hasattr(annotation, "__metadata__"):
        annotation = get_args(annotation)[0]
    return annotation


def _words(kind: str, message: str) -> str:
    return "It is needed." if kind == "missing" else _sentence(message)


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
