"""Requests: each verb's options that a client may set, and the command line made of them. Pure.

A client names things that the service holds, never a path. The fields are those options of a verb
that are declared ``remote``; all that a request could get wrong is said when it is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, Union, get_args

import click
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from quantlab.errors import QuantlabError
from quantlab.verbs.options.baseline import BaselineUpdateOptions
from quantlab.verbs.options.bench import BenchOptions
from quantlab.verbs.options.compare import CompareOptions
from quantlab.verbs.options.evaluate import EvaluateOptions
from quantlab.verbs.options.gate import GateOptions
from quantlab.verbs.options.option import Declared, Name, Options, Stored, declared
from quantlab.verbs.options.quantize import QuantizeOptions
from quantlab.verbs.options.tune import TuneOptions

SERVED: tuple[type[Options], ...] = (
    TuneOptions,
    QuantizeOptions,
    CompareOptions,
    EvaluateOptions,
    BenchOptions,
    GateOptions,
    BaselineUpdateOptions,
)
"""The options of the verbs that a service does."""


class AnyRequest(BaseModel):
    """A request of any verb: ``OPTIONS`` are the verb's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    OPTIONS: ClassVar[type[Options]]

    verb: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def exclusive(self) -> bool:
        """Whether it times models, and so needs a machine for itself."""
        return self.OPTIONS.exclusive(self)

    @classmethod
    def stored(cls, kind: str) -> tuple[str, ...]:
        """The fields that name something which the service holds: models, datasets, ..."""
        asked = asked_of(cls.OPTIONS).items()
        places = {name: each.option.remote for name, each in asked}
        return tuple(k for k, v in places.items() if isinstance(v, Stored) and v.kind == kind)


def asked_of(options: type[Options]) -> dict[str, Declared]:
    """The options of a verb that a client may set."""
    return {name: each for name, each in declared(options).items() if each.option.remote}


def request_model(options: type[Options]) -> type[AnyRequest]:
    """The schema of a verb's requests."""
    verb = options.words()[0]
    fields: dict[str, Any] = {"verb": (Literal[verb], ...)}
    fields |= {name: _field(each) for name, each in asked_of(options).items()}
    made = create_model(
        f"{verb.capitalize()}Request", __base__=AnyRequest, __doc__=options.__doc__, **fields
    )
    made.OPTIONS = options
    return made


def _field(known: Declared) -> tuple[Any, Any]:
    """The type and default in a request."""
    option, kind = known.option, _kind(known)
    told = option.help if option.form_help is None else option.form_help
    nullable = type(None) in get_args(kind)
    required = option.needed or (known.field.is_required() and not nullable)
    default = None if nullable else known.default
    kind = kind if required or default is not None else kind | None
    if option.reader is not None:
        kind = Annotated[kind, AfterValidator(partial(_read, option.reader))]
    default = ... if required else default
    return kind, Field(default, description=told or None, validation_alias=known.alias)


def _read(reader: str, value: Any) -> Any:
    """The value itself. Raises ValueError for one that the verb could not read."""
    try:
        if value:
            resolve_name(reader)(value)
    except QuantlabError as error:
        raise ValueError(f"{error.problem} {error.remedy}".strip()) from error
    return value


def _kind(known: Declared) -> Any:
    option = known.option
    if isinstance(option.remote, Stored):
        if not known.several:
            return Name
        return Annotated[tuple[Name, ...], Field(min_length=1, max_length=int(option.most or 1))]
    if option.remote is not True:
        return option.remote
    most = () if option.most is None else (Field(le=option.most),)
    units = () if known.unit is None else (BeforeValidator(_number),)
    extra = (*most, *units)
    return Annotated[known.annotation, *extra] if extra else known.annotation


def _number(value: object) -> object:
    """A number of JSON is one in the unit itself: 1 is all, where the text 1 might mean 1%."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


@dataclass(frozen=True)
class Places:
    """Where a job's inputs are, relative to its folder. ``models`` in the order of the request;
    ``data`` by field."""

    models: Sequence[str]
    data: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    baseline: str | None = None


def model_names(request: AnyRequest) -> list[str]:
    """The models that it names, in order."""
    values = [getattr(request, name) for name in request.stored("models")]
    return [name for value in values for name in ((value,) if isinstance(value, str) else value)]


def dataset_names(request: AnyRequest) -> dict[str, str]:
    """By field, the datasets that it names."""
    found = {name: getattr(request, name) for name in request.stored("datasets")}
    return {field: name for field, name in found.items() if name is not None}


def command_line(request: AnyRequest, places: Places) -> list[str]:
    """The arguments of ``quantlab`` that do what is asked, in the job's folder. What equals its
    default is left out."""
    known = declared(request.OPTIONS)
    words = [*request.OPTIONS.words()]
    models = request.stored("models")
    assert known[models[0]].option.argument
    for name, value in _given(request, places).items():
        words += _option(known[name], value)
    for each in known.values():
        if each.option.job_file is not None:
            words += [each.flag, each.option.job_file]
    return [*words, *places.models]


def _given(request: AnyRequest, places: Places) -> dict[str, Any]:
    """By name, the options that differ from their defaults, files in the places of names."""
    known = declared(request.OPTIONS)
    values = request.model_dump(exclude_defaults=True, exclude={"verb"})
    named: dict[str, Any] = {**places.data, **places.lists}
    named |= {"recipe": places.recipe} if places.recipe else {}
    named |= {"baseline": places.baseline} if places.baseline else {}
    skipped = {*request.stored("models"), *request.stored("datasets")}
    asked = {k: v for k, v in values.items() if k not in skipped and known[k].option.command}
    return {**asked, **named}


def _option(known: Declared, value: Any) -> list[str]:
    if value is None or (value is False and known.option.off is None):
        return []
    if isinstance(value, bool):
        return [known.flag if value else str(known.option.off)]
    values = value if isinstance(value, tuple | list) else (value,)
    return [f"{known.flag}={each}" for each in values]


def command_of(path: Sequence[str]) -> click.Command:
    """The verb of these words, such as ``("baseline", "update")``."""
    command: click.Command = import_module(f"quantlab.cli.{path[0]}").command
    for word in path[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command


REQUESTS = {options.words()[0]: request_model(options) for options in SERVED}
VERBS = tuple(REQUESTS)
if TYPE_CHECKING:
    Request: TypeAlias = AnyRequest
else:
    Request = Annotated[Union[tuple(REQUESTS.values())], Field(discriminator="verb")]  # noqa: UP007
