"""Check the arguments of the library's functions by the declarations of the verbs' options."""

from __future__ import annotations

import inspect
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Any, ParamSpec, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from quantlab.data.preprocess import Pipeline
from quantlab.errors import QuantlabError, shown
from quantlab.gate.criterion import Criterion
from quantlab.recipe import Recipe
from quantlab.verbs import roles
from quantlab.verbs.options.bench import BenchOptions
from quantlab.verbs.options.compare import CompareOptions
from quantlab.verbs.options.evaluate import EvaluateOptions
from quantlab.verbs.options.gate import GateOptions
from quantlab.verbs.options.inspect import InspectOptions
from quantlab.verbs.options.option import Declared, Option, Options, fields_of
from quantlab.verbs.options.quantize import QuantizeOptions
from quantlab.verbs.options.small import FetchOptions
from quantlab.verbs.options.tune import TuneOptions

P = ParamSpec("P")
R = TypeVar("R")
Schema = TypeVar("Schema", bound=Options)

OPTIONS: Mapping[str, type[Options]] = {
    "quantize": QuantizeOptions,
    "tune": TuneOptions,
    "evaluate": EvaluateOptions,
    "compare": CompareOptions,
    "gate": GateOptions,
    "bench": BenchOptions,
    "inspect": InspectOptions,
    "fetch": FetchOptions,
}
"""The verb's options of each function."""
_FUNCTIONS = {options: function for function, options in OPTIONS.items()}

ARGUMENTS = {
    "count": "images",
    "timing": "no_bench",
    "audit": "no_audit",
    "evaluation": "eval_data",
    "rules": "require",
    "run_dir": "runs_dir",
}
"""Arguments that are not called as their option."""


class _OtherArguments(Options):
    """Arguments that say in another way what an option says: see ``_AS_OPTIONS``."""

    timing: Annotated[bool, Option()] = True
    audit: Annotated[bool, Option()] = True
    published: Annotated[float | None, Field(gt=0, le=1), Option()] = None
    recipe: Annotated[Recipe | Path | str | None, Option()] = None
    pipeline: Annotated[Pipeline | dict[str, Any] | Path | str | None, Option()] = None


_AS_OPTIONS: Mapping[str, Callable[[Any], Any]] = {
    "timing": operator.not_,
    "audit": operator.not_,
    "published": lambda fraction: 100 * fraction,
}
_READ_ELSEWHERE = ("recipe", "pipeline")
_SUBJECTS = (roles.MODEL, roles.MODEL_OR_ANSWERS, roles.DATA, roles.OTHER_DATA, roles.FETCHES)
_FLAGS: dict[str, str] = {}
"""The argument of each flag."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The function, which raises QuantlabError for an argument that its verb's option would not
    take, before anything is read; its errors name arguments where they would name flags."""
    signature = inspect.signature(function)
    known = declarations(function.__name__, signature.parameters)
    _FLAGS.update({flag: f"{name}=" for name, each in known.items() for flag in each.flags})
    plain = {name: each for name, each in known.items() if is_plain(each)}

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs).arguments
        try:
            for name in plain:
                if name in given and given[name] is not signature.parameters[name].default:
                    _check(name, plain[name], given[name])
            return function(*args, **kwargs)
        except QuantlabError as error:
            problem, remedy = without_flags(error.problem), without_flags(error.remedy)
            QuantlabError.__init__(error, problem, remedy)
            raise

    return call


def declarations(function: str, arguments: Iterable[str]) -> dict[str, Declared]:
    """The declaration of each argument of the function that is an option's value."""
    known = fields_of(OPTIONS[function])
    options = {name: each for name, each in known.items() if name not in ARGUMENTS.values()}
    options |= {name: known[other] for name, other in ARGUMENTS.items() if other in known}
    options |= fields_of(_OtherArguments)
    return {name: options[name] for name in arguments if name in options}


def options_of(schema: type[Schema], arguments: Mapping[str, Any], **others: Any) -> Schema:
    """A verb's options from the ``arguments`` of its function, by their names; None is no value.
    ``others`` are what no plain argument says."""
    known = declarations(_FUNCTIONS[schema], arguments)
    values = {
        ARGUMENTS.get(name, name): _AS_OPTIONS.get(name, _listed)(value)
        for name, each in known.items()
        if is_plain(each) and name not in _READ_ELSEWHERE
        if (value := arguments[name]) is not None and not isinstance(value, Criterion)
    }
    return schema.model_validate({**values, **others})


def _listed(value: Any) -> Any:
    """A tuple of whatever has several values."""
    return (
        tuple(value)
        if isinstance(value, Iterable) and not isinstance(value, str | Mapping)
        else value
    )


def without_flags(text: str) -> str:
    """A message with arguments in the place of the command line's flags."""
    return re.sub(r"--[a-z]+(?:[-_][a-z]+)*", lambda flag: _FLAGS.get(flag[0], flag[0]), text)


def is_plain(known: Declared) -> bool:
    """Whether it is a value: models, images and rules are checked where they are read."""
    if known.option.role in _SUBJECTS or known.name == "require":
        return False
    return known.by_user or bool(known.choices)


def _check(name: str, known: Declared, value: Any) -> None:
    """Raises QuantlabError that says what is allowed."""
    reader = known.option.reader
    if reader is not None and isinstance(value, Criterion):
        return
    value = _listed(value) if known.several else value
    problem = f"{name}={shown(repr(value), 60)} is not allowed"
    try:
        _validator(known.annotation).validate_python(value)
        if reader is not None:
            resolve_name(reader)(value)
    except ValidationError as error:
        raise QuantlabError(f"{problem}.", f"{name} is {known.allowed}.") from error
    except QuantlabError as error:
        remedy = error.remedy or f"{name} is {known.allowed}."
        QuantlabError.__init__(error, f"{problem}: {error.problem}", remedy)
        raise


@cache
def _validator(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)
