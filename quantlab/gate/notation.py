"""The notation for what must hold, ``top1.decline <= 1%``, and its older spellings. Pure.

A line is ``NAME <= LIMIT``, ``>=`` for an agreement, with spaces around the relation, and perhaps a
level (``required``, ``advisory``, ``off``) after a comma; a name without a limit (``portable``)
stands alone. Read too, as older spellings: a line that
says what must not be (``top1.decline > 1%``, ``agree < 95%``), ``agree`` for ``agreement``, a
relation without spaces, and a decline without its relation (``1%``, ``top5 1%``).
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import get_args

from quantlab._util.deprecation import warn_deprecated
from quantlab.errors import RecipeError
from quantlab.gate.criteria.accuracy import AccuracyCriterion
from quantlab.gate.criteria.decline import DeclineCriterion, decline_amount
from quantlab.gate.criteria.metric import FUNCTION, MetricCriterion
from quantlab.gate.criterion import NUMBER, Criterion, Level, kinds, name_of

USUAL = "top1.decline <= 1%"
"""What is judged where nothing else is named."""
_LINE = re.compile(r"\s*([\w.:]+)(\s*)(>=|<=|==|=|>|<)(\s*)([^,]*?)\s*(?:,\s*(\w*)\s*)?")
_WORD = re.compile(r"\s*([^\W\d]\w*)\s*(?:,\s*(\w*)\s*)?")
_DECLINE = re.compile(rf"\s*(?:(top1|top5|{FUNCTION})\s+)?([\d.]+\s*[%\w]+)\s*")
_OLD_NAMES = {"agree": "agreement"}
_OPPOSITE = {"<=": ">", ">=": "<"}
_LEVELS: dict[str, Level] = {level: level for level in get_args(Level)}


@dataclass(frozen=True)
class RuleLine:
    """A criterion, the level that was named with it, and whether it was in an older spelling."""

    criterion: Criterion
    level: Level | None = None
    old: bool = False

    @property
    def written(self) -> str:
        """The line as it is written now."""
        return self.criterion.written + (f", {self.level}" if self.level else "")


def parse_line(text: str) -> RuleLine:
    """Read one line. Raises RecipeError that names the nearest right name, relation or level."""
    match = _LINE.fullmatch(text)
    if match is None:
        return _word(text) or RuleLine(_old_decline(text), old=True)
    given, before, relation, after, limit, level = match.groups()
    kind, name = _kind(text, given)
    if not kind.relation:
        raise RecipeError(f"{text!r}: {name} has no limit.", f"Write {name!r}.")
    opposite = _OPPOSITE[kind.relation]
    if relation not in (kind.relation, opposite):
        raise RecipeError(
            f"{text!r}: what must hold is {name} {kind.relation} LIMIT.",
            f"For example {_example(kind, name)!r}.",
        )
    known = _level(text, level)
    old = given != name or relation == opposite or not (before and after)
    try:
        return RuleLine(kind.read(name, limit), known, old)
    except ValueError:
        example = _example(kind, name)
        lacking = example[-1] not in "0123456789" and re.fullmatch(NUMBER, limit)
        problem = "has no unit" if lacking else f"is no limit for {name}"
        raise RecipeError(f"{text!r}: {limit!r} {problem}.", f"For example {example!r}.") from None


def parse_criterion(text: str, *, tolerance: float = 0.0, tuning: bool = False) -> Criterion:
    """Read a line without a level. ``tolerance`` is in the loss's own unit.

    Raises RecipeError, with ``tuning`` also for what only a gate can hold to.
    """
    line = parse_line(text)
    if line.level is not None:
        raise RecipeError(f"{text!r}: a level is for the rules of a gate.", "Leave it out.")
    found = for_tuning(line.criterion) if tuning else line.criterion
    return found.model_copy(update={"tolerance": tolerance}) if tolerance else found


def for_tuning(criterion: Criterion) -> Criterion:
    """The criterion itself. Raises RecipeError for one that only judge and gate can hold to."""
    if criterion.for_tuning:
        return criterion
    raise RecipeError(
        f"{criterion.written!r} is for judge and gate; tune and compare hold to a decline, "
        "agreement or KL.",
        f"For example {USUAL!r}.",
    )


def parse_decline(text: str, metric: str = "top1", *, tolerance: float = 0.0) -> DeclineCriterion:
    """Read the limit alone: ``1%`` (of the fp32 accuracy) or ``0.5pp`` (percentage points); or a
    whole line that limits a decline, such as ``top5.decline <= 1%``.

    Raises RecipeError for anything else.
    """
    try:
        fraction, kind = decline_amount(text)
    except ValueError:
        line = parse_line(text).criterion if _LINE.fullmatch(text) else None
        if isinstance(line, DeclineCriterion):
            return line.model_copy(update={"tolerance": tolerance})
        raise RecipeError(
            f"{text!r} is not a limit for the decline.",
            "Write 1% for one hundredth of the fp32 accuracy, or 1pp for one percentage point.",
        ) from None
    made = MetricCriterion if ":" in metric else AccuracyCriterion
    return made.model_validate(
        {"max_decline": fraction, "kind": kind, "metric": metric, "tolerance": tolerance}
    )


def spelled_now(text: str) -> str:
    """The line as it is written now; as it is where it cannot be read."""
    try:
        line = parse_line(text)
    except RecipeError:
        return text
    return line.written if line.old else text


def warn_of_old_spellings(*texts: object, stacklevel: int = 1) -> None:
    """Warn the caller of the function that calls this of texts in older spellings. Raises
    RecipeError."""
    for text in texts:
        if isinstance(text, str) and (line := parse_line(text)).old:
            warn_deprecated(
                f"the spelling {text!r}",
                since="0.2.0",
                removed_in="0.4.0",
                instead=repr(line.written),
                stacklevel=stacklevel + 1,
            )


def examples() -> dict[str, str]:
    """By every name that is no function of the user's, a line that uses it."""
    return {
        name_of(example): example
        for kind in kinds()
        for example in kind.examples
        if kind is not MetricCriterion
    }


def _kind(text: str, given: str) -> tuple[type[Criterion], str]:
    """The kind of criterion with this name, and the name as it is written now."""
    name = given if ":" in given else given.lower()
    name = _OLD_NAMES.get(name, name)
    for kind in kinds():
        if kind.has(name):
            return kind, name
    near = difflib.get_close_matches(name, examples(), n=1, cutoff=0.5)
    if near:
        remedy = f"Did you mean {near[0]}, as in {examples()[near[0]]!r}?"
    else:
        remedy = f"There are {', '.join(examples())}, and module:function.decline for your own."
    raise RecipeError(f"{text!r}: there is no metric {given}.", remedy)


def _word(text: str) -> RuleLine | None:
    """A name without a limit, and perhaps its level; None for other text. Raises RecipeError that
    names the nearest."""
    match = _WORD.fullmatch(text)
    if match is None:
        return None
    given, level = match.groups()
    names = {name_of(each): kind for kind in kinds() if not kind.relation for each in kind.examples}
    if near := difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.7):
        name = near[0]
        if given.lower() != name:
            raise RecipeError(f"{text!r}: there is no {given}.", f"Did you mean {name!r}?")
        return RuleLine(names[name].read(name, ""), _level(text, level), given != name)
    return None


def _level(text: str, level: str | None) -> Level | None:
    if level is not None and level not in _LEVELS:
        raise RecipeError(f"{text!r}: the level is required, advisory or off, not {level!r}.")
    return _LEVELS.get(level or "")


def _example(kind: type[Criterion], name: str) -> str:
    return examples().get(name, f"{name} {kind.relation} 1%")


def _old_decline(text: str) -> Criterion:
    """``1%``, ``top5 1%`` or ``module:function 1%``."""
    match = _DECLINE.fullmatch(text)
    if match is not None:
        try:
            return parse_decline(match[2], match[1] or "top1")
        except RecipeError:
            pass
    raise RecipeError(
        f"{text!r} does not say what must hold.",
        f"Write for example {USUAL!r} (1% of the fp32 accuracy; 0.5pp are points), "
        "'agreement >= 96%' or 'kl <= 0.01'.",
    )
