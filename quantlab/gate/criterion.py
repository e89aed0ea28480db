"""Criterion and Finding: what an int8 file must keep to, and what was measured of it.

Every criterion bounds a loss, a figure that is larger for a worse int8 model, such as a decline,
the share of changed answers or a latency. ``limit`` is the most that may be lost. ``tolerance`` is
what a measured loss may exceed it by and still count as met (``Verdict.meets``); the verdict's own
interval test knows none. The kinds of criteria are in ``quantlab.gate.criteria``, one a file.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from inspect import isabstract, isclass
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    SerializerFunctionWrapHandler,
    ValidationError,
    WrapSerializer,
)

from quantlab.compare.comparison import ClassChange, Comparison, Where
from quantlab.stats.anytime import DeclineKind, Values, decline_values, share_values
from quantlab.stats.paired import Interval, Share

VerdictStatus = Literal["pass", "fail", "inconclusive"]
Level = Literal["required", "advisory", "off"]
Leads = Literal["accuracy", "agreement"]
NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"
_PERCENT = re.compile(rf"{NUMBER}\s*%")


class Finding(BaseModel):
    """What a criterion measured: facts alone.

    ``measured`` and ``interval`` are the loss that the criterion limits, in the criterion's
    ``unit``; None where it has none. ``status`` is given where something else than the interval, or
    without one ``measured``, settles it. ``p`` says how likely at least such a loss is if the limit
    is just kept, None where no chance is involved. ``images_needed`` would decide at 80% power if
    the models really differ as they seem to, None when that is hopeless; ``smallest_decline`` is
    the smallest true decline that so many ``images`` tell from none.

    ``cause`` is what was found, by which a report chooses its words, ``counts`` are counts of
    images by what happened on them, and ``facts`` what else the words need. ``unchanged``: int8 is
    fp32, or gives all of its outputs. ``classes`` are those that surely fall beyond the limit,
    where it is one of classes, and ``shown`` those to name: they, or the one that fell most.
    ``leads_with`` is what a reader should be told first.

    Examples:
        >>> from quantlab import SizeCriterion, compare
        >>> from quantlab.testing import fake_predictions
        >>> pair = [fake_predictions(200, 10, rate, seed=0) for rate in (0, 0.02)]
        >>> SizeCriterion(most_bytes=9000).measure(compare(*pair)).cause
        'no file'
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    cause: str = "measured"
    measured: float | None = Field(None, validation_alias=AliasChoices("measured", "decline"))
    interval: Interval | None = None
    status: VerdictStatus | None = None
    p: float | None = None
    images: int = 0
    images_needed: int | None = None
    smallest_decline: float | None = None
    leads_with: Leads = "accuracy"
    anytime: bool = False
    unchanged: bool = False
    counts: dict[str, int] = {}
    facts: dict[str, bool | int | float | str] = {}
    classes: tuple[ClassChange, ...] = ()
    shown: tuple[ClassChange, ...] = ()


@dataclass(frozen=True)
class Stopping:
    """What a sequential test watches on each image: whether the label is among the first ``depth``
    answers, whose decline is of a ``kind``; without a depth, whether the first answers agree."""

    depth: int | None = None
    kind: DeclineKind = "relative"

    @property
    def values(self) -> Values:
        """What each outcome of an image counts for."""
        return share_values if self.depth is None else decline_values(self.kind)


@dataclass(frozen=True)
class Unpaired:
    """All that is known where the first model's answers are not at hand: ``before`` and ``now`` are
    accuracies by metric, ``same_file`` whether both are one file, of this ``sha256``, that answers
    the same here; ``where`` is the second model's."""

    before: Mapping[str, tuple[int, int]]
    now: Mapping[str, Share | None]
    size_bytes: int | None = None
    sha256: str = ""
    same_file: bool = False
    where: Where | None = None


@dataclass(frozen=True)
class Trend:
    """A figure for a chart of many runs: smaller is better."""

    name: str
    unit: str
    value: float
    span: tuple[float, float] | None = None


class Criterion(BaseModel, ABC):
    """What an int8 file must keep to.

    A kind of criterion is a subclass in a file of ``quantlab.gate.criteria``, where it is found by
    itself. It is a model of its limit, and says how it is measured, written and shown.

    Examples:
        >>> from quantlab import AgreementCriterion, Criterion
        >>> criterion = AgreementCriterion(least=0.96)
        >>> isinstance(criterion, Criterion), criterion.name, criterion.relation, criterion.unit
        (True, 'agreement', '>=', 'fraction of the answers that changed')
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    examples: ClassVar[tuple[str, ...]]
    """How it is written, one for each name that it has."""
    what: ClassVar[str]
    """What is judged, its usual title."""
    measured_in: ClassVar[str]
    """Its usual unit."""
    relation: ClassVar[Literal["<=", ">=", ""]] = "<="
    """What must hold between the figure as it is written and the limit; "" where its name says all
    and there is no limit to write."""
    usual_level: ClassVar[Level] = "required"
    """The level of a rule that names none."""
    for_tuning: ClassVar[bool] = False
    """Whether compare and tune can hold to it."""
    declines: ClassVar[bool] = False
    """Whether it bounds the decline of a score."""
    needs_labels: ClassVar[bool] = False
    needs_timing: ClassVar[bool] = False
    needs_other_runtime: ClassVar[bool] = False
    leads_with: ClassVar[Leads] = "accuracy"
    """What a reader should be told first where nothing changed."""

    if TYPE_CHECKING:

        @property
        def tolerance(self) -> float:
            """A field of every criterion, its last: records have it there."""

    @property
    @abstractmethod
    def limit(self) -> float:
        """The most that may be lost, in the ``unit``."""

    @property
    def unit(self) -> str:
        """What ``limit`` and a Finding's ``measured`` count."""
        return self.measured_in

    @property
    def title(self) -> str:
        """What is judged: ``top-1 decline``."""
        return self.what

    @abstractmethod
    def amount(self, loss: float) -> str:
        """A loss with its unit, as people read it: ``0.25%``."""

    @abstractmethod
    def span(self, interval: Interval) -> str:
        """An interval of losses: ``-0.37% to 0.37%``."""

    @abstractmethod
    def measure(self, comparison: Comparison, *, anytime: bool = False) -> Finding:
        """What a comparison says about it. ``anytime``: see ``judge``."""

    @classmethod
    @abstractmethod
    def read(cls, name: str, limit: str) -> Self:
        """The criterion of a ``name`` that is its own and a written limit. Raises ValueError."""

    @property
    @abstractmethod
    def written_limit(self) -> str:
        """The limit as ``read`` takes it."""

    @property
    def name(self) -> str:
        """The figure's name in the notation: ``kl``."""
        return name_of(self.examples[0])

    @property
    def written(self) -> str:
        """The criterion in the notation: ``kl <= 0.02``, ``portable``."""
        return f"{self.name} {self.relation} {self.written_limit}".strip()

    @property
    def limit_text(self) -> str:
        """The limit, as people read it."""
        return self.amount(self.limit)

    def gap(self, loss: float) -> str:
        """A difference of two losses, as people read it."""
        return self.amount(loss)

    @property
    def metric_function(self) -> str | None:
        """The function of the user's that it needs, ``module:function``."""
        return None

    @property
    def stopping(self) -> Stopping | None:
        """What a sequential test of it watches, None where there is none."""
        return None

    def is_unchanged(self, comparison: Comparison, *, anytime: bool = False) -> bool:
        """Whether no image shows any change. What ended because of what was seen is left to its own
        test, but for one and the same file, which needs none."""
        return comparison.fidelity.unchanged and (comparison.same_file or not anytime)

    def measure_unpaired(self, known: Unpaired) -> Finding:
        """What can be said without the first model's answers."""
        if known.same_file:
            return self.nothing_changed("same file", sha256=known.sha256)
        return Finding(cause="no answers")

    def nothing_changed(self, cause: str, **facts: bool | float | str) -> Finding:
        """No loss, for both are the ``same file`` or give the ``same outputs``."""
        return Finding(
            cause=cause,
            measured=0.0,
            status="pass",
            unchanged=True,
            leads_with=self.leads_with,
            facts=facts,
        )

    def trend(self, finding: Finding) -> Trend | None:
        """The figure that a chart shows; None where nothing was measured."""
        if finding.measured is None:
            return None
        name, unit, scale = self.charted
        ends = finding.interval
        return Trend(
            name,
            unit,
            round(scale * finding.measured, 6),
            None if ends is None else (scale * ends.low, scale * ends.high),
        )

    @property
    def charted(self) -> tuple[str, str, float]:
        """What ``trend`` calls the figure, its unit there, and how many of those one is here."""
        return self.name, self.unit, 1.0

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether a name in the notation is one of its own."""
        return name in map(name_of, cls.examples)


@cache
def kinds() -> tuple[type[Criterion], ...]:
    """Every kind of criterion: the classes in the files of ``quantlab.gate.criteria``."""
    package = import_module("quantlab.gate.criteria")
    modules = [
        import_module(f"{package.__name__}.{m.name}") for m in iter_modules(package.__path__)
    ]
    return tuple(
        kind
        for module in modules
        for kind in vars(module).values()
        if isclass(kind) and issubclass(kind, Criterion)
        if kind.__module__ == module.__name__ and not isabstract(kind)
    )


def _read(value: Any) -> Any:
    """A criterion of a record: of the kind that it names, or, in a record of a version that named
    none, the first kind whose fields these are."""
    if not isinstance(value, Mapping):
        return value
    named = value.get(_KIND)
    fields = {key: each for key, each in value.items() if key != _KIND}
    for kind in kinds():
        if kind.__name__ == named:
            return kind.model_validate(fields)
        if named is None:
            try:
                return kind.model_validate(fields)
            except ValidationError:
                continue
    raise ValueError(
        "no kind of criterion has these fields"
        if named is None
        else f"there is no kind of criterion {named!r}"
    )


def _write(criterion: Criterion, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
    return {_KIND: type(criterion).__name__, **fields(criterion)}


_KIND = "type"
"""The key of a stored criterion's kind; kinds may have the same fields."""
AnyCriterion = Annotated[SerializeAsAny[Criterion], BeforeValidator(_read), WrapSerializer(_write)]
"""A field that holds a criterion of any kind; what is stored of it names the kind."""


def name_of(example: str) -> str:
    """The name that a line of the notation begins with."""
    return example.split()[0]


def amount(fraction: float, kind: DeclineKind) -> str:
    """``0.25%`` or ``0.2 points``, with no more decimals than it has, two at most."""
    number = f"{100 * fraction:.2f}".rstrip("0").rstrip(".")
    number = "0" if number == "-0" else number
    if kind == "relative":
        return f"{number}%"
    return f"{number} point" if number in ("1", "-1") else f"{number} points"


def number(text: str) -> float:
    """A plain number without a sign. Raises ValueError."""
    if not re.fullmatch(NUMBER, text):
        raise ValueError(f"{text!r} is no number")
    return float(text)


def percentage(text: str) -> float:
    """``96%`` as a fraction. Raises ValueError."""
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no share")
    return float(match[1]) / 100


def plain(value: float) -> str:
    """A number as people write it: ``0.5``."""
    return f"{value:.10g}"
