"""Forms: a verb's request as input fields, and submitted fields as a request. Pure.

A field is what the verb's option declares of itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ValidationError

from quantlab.serve.requests import REQUESTS, AnyRequest, asked_of, command_of
from quantlab.verbs.options.option import Declared, Stored, without_flags

FieldKind = Literal["pick", "choice", "flag", "number", "text", "lines"]


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
    kind: FieldKind
    help: str = ""
    hint: str = ""
    required: bool = False
    value: str = ""
    choices: Sequence[tuple[str, str]] = ()
    stock: str = ""
    error: str = ""


@dataclass(frozen=True)
class VerbForm:
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


Given = Mapping[str, Sequence[str]]
"""What a form sent: values by field."""
Errors = Mapping[str, str]
"""What is wrong, by field; by "" what is of no field."""


def about(verb: str) -> str:
    """What a verb does, in a line. Raises KeyError for another verb."""
    return command_of(REQUESTS[verb].OPTIONS.words()).short_help or ""


def form(verb: str, stock: Stock, given: Given, errors: Errors) -> VerbForm:
    """The verb's form with what was given so far. Raises KeyError for another verb."""
    known = asked_of(REQUESTS[verb].OPTIONS)
    main: list[Field] = []
    rest: list[Field] = []
    for name, each in known.items():
        required = REQUESTS[verb].model_fields[name].is_required()
        first, *more = _fields(each, required, stock, given.get(name, ()))
        told = replace(first, error=errors.get(name, ""))
        (main if each.option.main else rest).extend((told, *more))
    return VerbForm(verb, about(verb), tuple(main), tuple(rest))


def filled(verb: str, given: Given) -> Filled:
    """The request of what a form sent. Raises KeyError for another verb."""
    schema = REQUESTS[verb]
    values: dict[str, Any] = {"verb": verb}
    for name, each in asked_of(schema.OPTIONS).items():
        texts = [text.strip() for text in given.get(name, ()) if text.strip()]
        if texts:
            values[name] = _value(texts, each)
    try:
        request = schema.model_validate(values)
    except ValidationError as error:
        errors: dict[str, str] = {}
        for wrong in error.errors():
            place = str(wrong["loc"][0]) if wrong["loc"] else ""
            errors.setdefault(place, _words(wrong["type"], wrong["msg"]))
        return Filled(errors=errors)
    return Filled(request)


def _value(texts: list[str], known: Declared) -> Any:
    """What a request takes: a text, or a list of them."""
    if not known.several:
        return texts[0]
    split = "\n" if known.kind is str else r"[\s,;]+"
    return [part.strip() for text in texts for part in re.split(split, text) if part.strip()]


def _fields(known: Declared, required: bool, stock: Stock, given: Sequence[str]) -> list[Field]:
    option, name = known.option, known.name
    told = without_flags(option.help, " ") if option.form_help is None else option.form_help
    first = Field(
        id=name,
        name=name,
        label=option.label or name.replace("_", " ").capitalize(),
        kind="text",
        help=told,
        hint=known.shown_default,
        required=required,
        value=given[0] if given else "",
    )
    if isinstance(option.remote, Stored):
        kind = option.remote.kind
        listed = replace(first, kind="pick", choices=getattr(stock, kind), stock=kind, hint="")
        return [_box(listed, i, given) for i in range(option.boxes)] if known.several else [listed]
    if known.several:
        lines = known.kind is str
        text = ("\n" if lines else " ").join(given)
        return [replace(first, kind="lines" if lines else "text", value=text)]
    if known.kind is bool and option.off is not None:
        return [replace(first, kind="choice", choices=[("true", "yes"), ("false", "no")])]
    if known.kind is bool:
        return [replace(first, kind="flag", label=first.help.rstrip("."), help="")]
    if known.choices:
        return [replace(first, kind="choice", choices=[(each, each) for each in known.choices])]
    number = known.kind in (int, float) and known.unit is None
    return [replace(first, kind="number" if number else "text")]


def _box(listed: Field, index: int, given: Sequence[str]) -> Field:
    """One of several fields of a name."""
    return replace(
        listed,
        id=listed.name if index == 0 else f"{listed.name}-{index + 1}",
        label=f"{listed.label} {index + 1}",
        required=listed.required and index == 0,
        value=given[index] if index < len(given) else "",
    )


def _words(kind: str, message: str) -> str:
    if kind == "missing":
        return "It is needed."
    return _sentence(message.removeprefix("Value error, "))


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
