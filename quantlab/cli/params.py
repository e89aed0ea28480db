"""Click parameters made of a verb's Options model: types, flags, defaults, grouped help."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from pkgutil import resolve_name
from textwrap import wrap
from typing import TYPE_CHECKING, Any, cast

import click

from quantlab._util.paths import location
from quantlab.errors import meant

if TYPE_CHECKING:
    from quantlab.verbs.options.option import Declared, Options, Unit
    from quantlab.verbs.roles import Role

    AnyParam = click.ParamType[Any]
else:
    AnyParam = click.ParamType  # click before 8.4 gives it no type argument


LONGEST_CHOICES = 24
"""Letters; more choices are listed in an option's help."""


class Measure(AnyParam):
    """Text with a unit: ``90s``, ``1%``."""

    def __init__(self, unit: Unit) -> None:
        self.unit, self.name = unit, unit.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A number."""
        try:
            return self.unit.parse(value)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class NearestChoice(click.Choice[str]):
    """One of some words; another one is answered by the nearest."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """See click."""
        said = super().get_invalid_choice_message(value, ctx)
        return f"{said} {meant(value, map(str, self.choices))}".rstrip()


class WholeNumber(click.IntRange):
    """A whole number within bounds."""

    name = "whole number"


class Number(click.FloatRange):
    """A number within bounds."""

    name = "number"


class RoleType(AnyParam):
    """An option that names a file or folder, with its role (``quantlab.verbs.roles``)."""

    name = "path"

    def __init__(self, role: Role) -> None:
        self.role = role


class FilePath(RoleType):
    """A path."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A Path."""
        return Path(value)


class Location(RoleType):
    """A path, or a URL."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A URL as it is, anything else as a Path."""
        return location(value)


class Name(RoleType):
    """A name or a URL, or a path in its place: the text as it is."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text."""
        return str(value)


class Several(AnyParam):
    """An option's values, separated by commas: ``1,8,256``."""

    def __init__(self, kind: AnyParam) -> None:
        self.kind, self.name = kind, kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A tuple."""
        return tuple(self.kind.convert(word, param, ctx) for word in str(value).split(","))


def _flat(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Join the values of an option that was given several times."""
    return tuple(item for part in value for item in part)


class ShortHelp(click.Command):
    """A command whose help is asked for by ``-h`` too, wherever it is run."""

    def get_help_option_names(self, ctx: click.Context) -> list[str]:
        """See click."""
        return ["-h", "--help"]


class NearestGroup(ShortHelp, click.Group):
    """Commands; a name that is none of theirs is answered by the nearest."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click. Raises UsageError."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            hint = meant(name, self.list_commands(ctx))
            raise click.UsageError(f"No such command {name!r}. {hint}".rstrip(), ctx)
        return super().resolve_command(ctx, args)


class OptionsCommand(ShortHelp):
    """A command whose parameters are the fields of an Options model.

    ``options`` is the model or its place in ``quantlab.verbs.options``, such as
    ``small:FetchOptions``, which is imported when the parameters are asked for.
    """

    def __init__(self, *args: Any, options: str | type[Options], **settings: Any) -> None:
        self._options = options
        self._params: list[click.Parameter] | None = None
        super().__init__(*args, **settings)

    @property
    def model(self) -> type[Options]:
        """The Options model."""
        if isinstance(self._options, str):
            found = resolve_name(f"quantlab.verbs.options.{self._options}")
            self._options = cast("type[Options]", found)
        return self._options

    @property
    def params(self) -> list[click.Parameter]:
        """The model's options and arguments."""
        if self._params is None:
            self._params = params_of(self.model)
        return self._params

    @params.setter
    def params(self, params: list[click.Parameter]) -> None:
        self._params = params or None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See click; flags that stand for an argument become it."""
        from quantlab.verbs.options.option import declared

        place = 0
        for each in declared(self.model).values():
            if each.option.argument and each.option.command:
                found, args = taken(args, each.instead)
                args = [*found, *args] if place == 0 else [*args, *found]
                place += 1
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            known = [name for each in self.get_params(ctx) for name in each.opts]
            known += [name for each in declared(self.model).values() for name in each.instead]
            hint = meant(error.option_name, known, cutoff=0.7)
            raise click.UsageError(f"{error.message} {hint}".rstrip(), ctx) from None

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write arguments and options under the headings of their groups, then the examples."""
        from quantlab.verbs.options.option import GROUPS, declared

        known = declared(self.model)
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        arguments: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            each = known.get(str(param.name))
            if isinstance(param, click.Argument):
                if each is not None and each.option.help:
                    words = ", ".join([param.make_metavar(ctx).strip("[]"), *each.instead])
                    arguments[each.option.group].append((words, each.option.help))
            elif (row := param.get_help_record(ctx)) is not None:
                rows[each.option.group if each else GROUPS[-1]].append(row)
        for group in GROUPS:
            if written := arguments[group] + rows[group]:
                with formatter.section(group):
                    formatter.write_dl(written)
        with formatter.section("Examples"):
            for line in self.model.EXAMPLES:
                formatter.write(_continued(line, formatter.width))


def _continued(line: str, width: int) -> str:
    """A command line over as many lines as it takes, each of which a shell goes on after."""
    parts = wrap(line, width - 6, break_long_words=False, break_on_hyphens=False)
    return "  " + " \\\n    ".join(parts) + "\n"


def taken(words: Sequence[str], flags: Sequence[str]) -> tuple[list[str], list[str]]:
    """The values of these flags among the words of a command line, and the other words."""
    values, others, rest = list[str](), list[str](), list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        if word == "--":
            return values, [*others, word, *rest]
        if flag not in flags or not (equals or rest):
            others.append(word)
        else:
            values.append(value if equals else rest.pop(0))
    return values, others


def params_of(model: type[Options]) -> list[click.Parameter]:
    """The click options and arguments of a model, in the order of its groups."""
    from quantlab.verbs.options.option import declared

    return [_param(each) for each in declared(model).values() if each.option.command]


def _param(known: Declared) -> click.Parameter:
    option, kind = known.option, _click_type(known)
    required = known.field.is_required() if option.required is None else option.required
    default: dict[str, Any] = (
        {} if required or (value := _default(known)) is None else {"default": value}
    )
    if option.argument:
        settings: dict[str, Any] = {"type": kind, "required": required, "metavar": option.metavar}
        return click.Argument([known.name], nargs=-1 if known.several else 1, **settings, **default)
    if known.kind is bool:
        flags = [f"{flag}/{option.off}" if option.off else flag for flag in known.flags]
        unset: dict[str, Any] = {} if option.off is None else {"default": None}
        return click.Option([known.name, *flags], is_flag=True, help=option.help, **unset)
    if option.bare is not None:
        default |= {"is_flag": False, "flag_value": option.bare}
    return click.Option(
        [known.name, *known.flags],
        type=Several(kind) if option.commas else kind,
        multiple=known.several,
        required=required,
        metavar=_metavar(known),
        callback=_flat if option.commas else None,
        show_default=True,
        help=_help(known),
        **default,
    )


def _metavar(known: Declared) -> str | None:
    """What stands for the value; None: what click makes of its type."""
    if known.option.metavar is None and _are_many(known.choices):
        return "WORD"
    number = known.kind in (int, float) and known.unit is None
    return known.option.metavar or ("N" if number else None)


def _are_many(choices: Sequence[str]) -> bool:
    """Whether the choices are too long to stand beside the flag."""
    return sum(map(len, choices)) > LONGEST_CHOICES


def _help(known: Declared) -> str:
    many = _are_many(known.choices) and known.option.metavar is None
    return f"{known.option.help} One of {', '.join(known.choices)}." if many else known.option.help


def _default(known: Declared) -> Any:
    """The default as it would be given on the command line; None where there is none."""
    if known.unit is not None and known.default is not None:
        return known.shown_default
    if known.option.commas:
        return tuple(map(str, known.default)) or None
    return (known.default or None) if known.several else known.default


def _click_type(known: Declared) -> AnyParam:
    kind, unit = known.kind, known.unit
    if known.choices:
        return NearestChoice(known.choices, case_sensitive=not known.option.any_case)
    if known.option.role is not None:
        return _path_type(known.kinds, known.option.role)
    if unit is not None:
        return Measure(unit)
    if kind in (int, float):
        return _number_type(kind, known.metadata)
    return click.STRING


def _path_type(kinds: tuple[Any, ...], role: Role) -> AnyParam:
    if Path not in kinds:
        return Name(role)
    return FilePath(role) if len(kinds) == 1 else Location(role)


def _number_type(kind: type, metadata: Iterable[Any]) -> AnyParam:
    bounds = {name: _bound(metadata, name) for name in ("ge", "gt", "le", "lt")}
    least, most = bounds["gt"], bounds["lt"]
    ranges: dict[str, Any] = {
        "min": bounds["ge"] if least is None else least,
        "max": bounds["le"] if most is None else most,
        "min_open": least is not None,
        "max_open": most is not None,
    }
    if ranges["min"] is None and ranges["max"] is None:
        return click.INT if kind is int else click.FLOAT
    return WholeNumber(**ranges) if kind is int else Number(**ranges)


def _bound(metadata: Iterable[Any], name: str) -> Any:
    return next((getattr(each, name) for each in metadata if hasattr(each, name)), None)
