"""Declare an option: its flags, help and unit, the role of its path, and who may set it.

A verb's options are the fields of an ``Options`` model, annotated with ``Option``. The command line
(``cli/params.py``), ``quantlab.yaml`` (``verbs/config.py``), the service's requests and forms
(``serve/requests.py``, ``serve/web/forms.py``), ``--server`` and the tables of the docs are derived
from ``declared(model)``, and from nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from quantlab._util import units
from quantlab._util.paths import location
from quantlab.verbs.roles import Role

GROUPS = (
    "Model",
    "Images",
    "What must hold",
    "Calibration",
    "Search",
    "When it ends",
    "View",
    "Timing",
    "Speed",
    "Output",
    "Run",
)
"""The headings of ``--help``, ``quantlab.yaml`` and tables, in their order."""


_FLAG = re.compile(r"--([a-z]+(?:[-_][a-z]+)*)")


@dataclass(frozen=True)
class Unit:
    """Text with a unit as a number: ``parse`` reads it (or raises ValueError), ``show`` writes it,
    as on the command line so in YAML, requests and forms."""

    name: str
    parse: Callable[[object], Any]
    show: Callable[[Any], str]
    example: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.parse, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        text = {"type": "string", "format": self.name, "examples": [self.example]}
        return {"anyOf": [handler(schema), text]}


def _percent(share: float) -> str:
    return f"{share * 100:.10g}%"


SECONDS = Unit("duration", units.seconds, units.duration, "5m")
Seconds = Annotated[float, SECONDS]
SHARE = Unit("share", units.share, _percent, "1%")
Share = Annotated[float, SHARE]
PixelSize = Annotated[int | str, Unit("size", units.image_size, str, "48x192")]
"""One side of a square image, or height and width."""
Location = Annotated[Path | str, AfterValidator(location)]
"""A path, or a URL."""
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0)]

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$",
        description="letters, digits and . _ + - only",
        examples=["mobilenetv2-12"],
    ),
]
"""A name in the service, or a model's sha256."""
Words = Annotated[
    str, Field(max_length=200, pattern=r"^[A-Za-z0-9.][A-Za-z0-9.,_%<>=+ -]*$", examples=["1%"])
]
"""A rule or a criterion: no option, no path, and no ``module:function`` of a client's choice."""
Batch = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True)
class Stored:
    """In a request, the name of something that the service holds."""

    kind: Literal["models", "datasets", "recipes", "baselines"]


@dataclass(frozen=True)
class Option:
    """A declaration beside a field's type and default.

    Attributes:
        help: a sentence for the command line, ``quantlab.yaml``, forms and tables.
        group: its heading, one of GROUPS.
        flags: its spellings, those of other tools too; without any ``--the-field-s-name``.
        argument: a word without a flag on the command line; with ``flags`` it may be spelled with
            one of these as well.
        off: of a yes or no that may be left open, the flag that says no.
        bare: its value where the flag stands alone.
        configured: the keys of ``quantlab.yaml`` that name models, where none is given.
        command: whether the command line has it.
        required: whether the command line must have it; None: as the field.
        metavar: what stands for its value in ``--help``.
        role: what the verb does with the path that it names.
        commas: whether one flag may hold several values, ``1,8,256``.
        any_case: whether capitals make no difference.
        config: its key in ``quantlab.yaml``, if that may set it; ``gate.…`` in that section.
        former: names that it had, which files and requests may still use.
        stands_for: the option that its value is another spelling of.
        replaces: options of the file that a flag of this makes void.
        remote: whether a client may set it in a request; a type or Stored where that is another one
            than here.
        most: the largest number that a request may hold.
        reader: ``module:function`` that reads its text or raises QuantlabError, for requests: what
            cannot be read is refused at once.
        needed: whether a request must hold it.
        job_file: the file of a job that a server always gives it.
        local: whether it acts on the client's side of ``--server``.
        momentary: whether it is of one command, never taken over by a run that is resumed.
        label: what a form calls it.
        form_help: the sentence of a form, where that means something else.
        main: whether it comes first, in forms and tables.
        boxes: how many values of it a form has room for.
    """

    help: str = ""
    _: KW_ONLY
    group: str = "Run"
    flags: tuple[str, ...] = ()
    argument: bool = False
    off: str | None = None
    bare: str | None = None
    configured: tuple[Literal["model", "output"], ...] = ()
    command: bool = True
    required: bool | None = None
    metavar: str | None = None
    role: Role | None = None
    commas: bool = False
    any_case: bool = False
    config: str | None = None
    former: tuple[str, ...] = ()
    stands_for: str | None = None
    replaces: tuple[str, ...] = ()
    remote: Any = False
    most: float | None = None
    reader: str | None = None
    needed: bool = False
    job_file: str | None = None
    local: bool = False
    momentary: bool = False
    label: str = ""
    form_help: str | None = None
    main: bool = False
    boxes: int = 1


_NONE = Option()
"""Of a field that is set by code alone."""


class Options(BaseModel):
    """The options of a verb. Fields without an ``Option`` are set by code alone.

    ``COMMAND`` is the verb's words, ``EXAMPLES`` command lines that ``--help`` ends with,
    ``KEPT`` whether a run of it is kept where no ``--runs-dir`` is given.
    """

    model_config = ConfigDict(extra="forbid", defer_build=True)

    COMMAND: ClassVar[str] = ""
    EXAMPLES: ClassVar[tuple[str, ...]] = ()
    KEPT: ClassVar[bool] = True

    @classmethod
    def words(cls) -> tuple[str, ...]:
        """The words of the verb."""
        return tuple(cls.COMMAND.split())

    @staticmethod
    def exclusive(asked: Any) -> bool:
        """Whether it times models, and so needs a machine for itself; ``asked`` is a request."""
        return False


@dataclass(frozen=True)
class Declared:
    """An option, or a field that is set by code alone, with what its annotation says.

    ``kind`` is the type of one value (a tuple of types where there are several), without None and
    bounds; ``several`` whether it holds a tuple of them; ``metadata`` the bounds and units of one.
    """

    name: str
    option: Option
    field: FieldInfo
    kind: Any
    several: bool
    metadata: tuple[Any, ...]

    @property
    def by_user(self) -> bool:
        """Whether it is an option, not a field that is set by code alone."""
        return self.option is not _NONE

    @property
    def flags(self) -> tuple[str, ...]:
        """How it is, or would be, spelled on the command line; nothing for an argument."""
        if self.option.argument:
            return ()
        return self.option.flags or (f"--{self.name.replace('_', '-')}",)

    @property
    def instead(self) -> tuple[str, ...]:
        """The flags that an argument may be spelled with."""
        return self.option.flags if self.option.argument else ()

    @property
    def flag(self) -> str:
        """Its first long spelling, or an argument's name."""
        return next((f for f in self.flags if f.startswith("--")), self.name.upper())

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types of which one value is one."""
        return self.kind if isinstance(self.kind, tuple) else (self.kind,)

    @property
    def annotation(self) -> Any:
        """The field's type with its bounds and units."""
        told = [each for each in self.field.metadata if not isinstance(each, Option)]
        ordered = sorted(told, key=lambda each: isinstance(each, Unit))  # bounds are of numbers
        return Annotated[self.field.annotation, *ordered] if told else self.field.annotation

    @property
    def alias(self) -> AliasChoices | None:
        """Its name and those that it had, where it had others."""
        former = self.option.former
        return AliasChoices(self.name, *former) if former else None

    @property
    def unit(self) -> Unit | None:
        """Its unit, if it has one."""
        return next((each for each in self.metadata if isinstance(each, Unit)), None)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that it may have, where these are named."""
        return get_args(self.kind) if get_origin(self.kind) is Literal else ()

    @property
    def allowed(self) -> str:
        """What its value may be, in words."""
        if self.unit is not None:
            words = f"a {self.unit.name} such as {self.unit.example}"
        elif self.choices:
            words = f"one of {', '.join(self.choices)}"
        elif isinstance(self.kind, type) and issubclass(self.kind, BaseModel):
            words = f"a mapping of {', '.join(self.kind.model_fields)}"
        else:
            words = " or ".join(dict.fromkeys(_WORDS.get(kind, "a mapping") for kind in self.kinds))
        bounds = [(k, getattr(m, k)) for m in self.metadata for k in _BOUNDS if hasattr(m, k)]
        words = ", ".join([words, *(f"{_BOUNDS[name]} {bound:g}" for name, bound in bounds)])
        several = f"several of: {words}" if self.several else words
        return f"{several}; or None" if type(None) in get_args(self.field.annotation) else several

    @property
    def default(self) -> Any:
        """Its default; None where it has none."""
        return (
            None if self.field.is_required() else self.field.get_default(call_default_factory=True)
        )

    @property
    def shown_default(self) -> str:
        """Its default as a person would write it; nothing where that says nothing."""
        value = self.default
        if value is None or value is False or value == () or value == {}:
            return ""
        if self.unit is not None:
            return self.unit.show(value)
        if isinstance(value, tuple):
            return " ".join(map(str, value))
        return f"{value:g}" if isinstance(value, int | float) else str(value)


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "text",
    Path: "a path",
}
_BOUNDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


@cache
def declared(model: type[Options]) -> dict[str, Declared]:
    """The options of a verb by their names, in the order of GROUPS; the main ones first in each."""
    known = [each for each in fields_of(model).values() if each.by_user]
    return {each.name: each for each in sorted(known, key=_place)}


def fields_of(model: type[Options]) -> dict[str, Declared]:
    """``declared`` and the fields that are set by code alone, in the order of the model."""
    return {name: _declared(name, field) for name, field in model.model_fields.items()}


def _place(known: Declared) -> tuple[int, bool]:
    """Its group's, and in that what a form asks for first."""
    return GROUPS.index(known.option.group), not known.option.main


def _declared(name: str, field: FieldInfo) -> Declared:
    option, *more = [each for each in field.metadata if isinstance(each, Option)] or [_NONE]
    if more:
        raise TypeError(f"{name} is declared twice.")
    kind, metadata = unpacked(field.annotation, tuple(field.metadata))
    several = get_origin(kind) is tuple
    if several:
        kind, metadata = unpacked(get_args(kind)[0], ())
    return Declared(name, option, field, kind, several, metadata)


def unpacked(annotation: Any, metadata: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    """A type without None and without what annotates it, and all that does. Of several types a
    tuple."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return unpacked(inner, (*_flat(more), *metadata))
    if get_origin(annotation) in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        return unpacked(parts[0], metadata) if len(parts) == 1 else (tuple(parts), metadata)
    return annotation, metadata


def _flat(metadata: list[Any]) -> list[Any]:
    """Bounds that a Field holds stand beside what is not in one."""
    return [
        m for each in metadata for m in (each.metadata if isinstance(each, FieldInfo) else [each])
    ]


def without_flags(text: str, separator: str) -> str:
    """A help text where there are no flags: ``--max-trials`` becomes ``max trials``."""
    import re

    return re.sub(r"--([a-z]+(?:[-_][a-z]+)*)", lambda m: re.sub("[-_]", separator, m[1]), text)
