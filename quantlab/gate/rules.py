"""Rules: what a gate requires, and the decision over all of it. Pure.

A rule is a line of the notation (``quantlab.gate.notation``): what must hold, and after a comma
``required``, ``advisory`` or ``off`` where it is not what is usual. Required rules decide; advisory
ones are judged and shown.

Several rules are one decision, and its error rate is controlled on both sides:

- The gate passes when every required rule passes. To pass wrongly, a rule that is broken must pass
  by itself, which its own interval allows in at most 2.5% of all cases, however many others there
  are: an intersection-union test (Berger 1982, Technometrics 24:295) needs no correction.
- The gate fails when any required rule fails, and every further rule is one more chance to fail by
  accident. So failures are held to Holm's step-down procedure: the chance of any wrong one is at
  most 2.5%, however the metrics depend on each other. A rule that would fail alone, but not beside
  the others, is inconclusive.

Advisory rules are a family of their own: they cannot make the gate red, and so cost it nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, computed_field, model_validator

from quantlab.compare.classes import changed
from quantlab.compare.comparison import Change, ClassChange, Comparison
from quantlab.errors import RecipeError
from quantlab.gate.criterion import AnyCriterion, Level, VerdictStatus
from quantlab.gate.notation import USUAL, parse_line
from quantlab.gate.verdict import ALPHA, EXIT_CODES, Verdict, judge
from quantlab.stats.paired import holm

DEFAULT_RULES = (USUAL,)


class Rule(BaseModel):
    """What must hold, and whether it decides.

    Examples:
        >>> from quantlab import AccuracyCriterion, Rule
        >>> rule = Rule(criterion=AccuracyCriterion(), level="required")
        >>> rule.metric, rule.text
        ('top1.decline', 'top1.decline <= 1%')
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    criterion: AnyCriterion = Field(validation_alias=AliasChoices("criterion", "limit"))
    level: Level

    @computed_field  # type: ignore[prop-decorator]
    @property
    def text(self) -> str:
        """``top1.decline <= 1%``."""
        return self.criterion.written

    @property
    def metric(self) -> str:
        """``top1.decline``."""
        return self.criterion.name


def parse_rule(text: str) -> Rule:
    """Read ``top1.decline <= 1%`` or ``latency.p50.ratio <= 1.05, required``, in older spellings
    too.

    Rules are required unless they say otherwise, those of the latency advisory. Raises RecipeError
    that names the nearest right metric, relation or level.
    """
    line = parse_line(text)
    return Rule(criterion=line.criterion, level=line.level or line.criterion.usual_level)


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Several of them. Raises RecipeError, also for one given twice, and when all are off."""
    return check_rules(parse_rule(text) for text in texts)


def check_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules themselves. Raises RecipeError for one given twice, and when all are off."""
    found = tuple(rules)
    seen: set[str] = set()
    for rule in found:
        if rule.text in seen:
            raise RecipeError(f"the rule {rule.text!r} is given twice.", "Leave one of them out.")
        seen.add(rule.text)
    if all(rule.level == "off" for rule in found):
        raise RecipeError("no rule is left to judge.", f"For example {USUAL!r}.")
    return found


class Judged(BaseModel):
    """A rule with its verdict. ``adjusted_p`` is the verdict's p after Holm's correction over the
    rules of the same level, None where it has none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rule: Rule
    verdict: Verdict
    adjusted_p: float | None = None


class Decision(BaseModel):
    """Every rule that is not off with its verdict, and what follows from the required ones.

    ``fell`` and ``rose`` are the classes that surely changed, whatever the rules ask. ``risen`` are
    the accuracies that surely rose, which nobody limited but a reader should see; ``stored`` are an
    older record's sentences of them.

    Examples:
        >>> from quantlab import compare, gate
        >>> from quantlab.testing import fake_predictions
        >>> pair = [fake_predictions(2000, 10, rate, seed=0) for rate in (0, 0.02)]
        >>> decision = gate(compare(*pair), ["top1.decline <= 3%", "agreement >= 90%"])
        >>> decision.status, len(decision.required)
        ('pass', 2)
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: VerdictStatus
    judged: tuple[Judged, ...]
    fell: tuple[ClassChange, ...] = ()
    rose: tuple[ClassChange, ...] = ()
    risen: dict[str, Change] = {}
    stored: tuple[str, ...] = Field(
        (), validation_alias=AliasChoices("stored", "alarms"), exclude=True
    )

    @model_validator(mode="before")
    @classmethod
    def _sentences_by_facts(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "risen" in data:
            return {key: value for key, value in data.items() if key != "alarms"}
        return data

    @computed_field  # type: ignore[prop-decorator]
    @property
    def alarms(self) -> tuple[str, ...]:
        """What a reader should see, in sentences."""
        from quantlab.report.verdict import alarms

        return alarms(self.risen) or self.stored

    @property
    def exit_code(self) -> int:
        """0 pass, 1 fail, 3 inconclusive."""
        return EXIT_CODES[self.status]

    def _repr_html_(self) -> str:
        from quantlab.report.notebook import decision_html

        return decision_html(self)

    @property
    def required(self) -> tuple[Judged, ...]:
        """The rules that decide."""
        return tuple(j for j in self.judged if j.rule.level == "required")


def decide(comparison: Comparison, rules: Sequence[Rule]) -> Decision:
    """The rules' verdicts on a comparison.

    Raises RecipeError when one limits a metric of the user's that the comparison does not hold.
    """
    judged = [(r, judge(comparison, r.criterion)) for r in rules if r.level != "off"]
    moved = changed(comparison.classes)
    return combine(
        judged,
        fell=tuple(c for c in moved if c.net_loss > 0),
        rose=tuple(c for c in moved if c.net_loss < 0),
        risen={
            metric: change
            for metric, change in (("top1", comparison.top1), ("top5", comparison.top5))
            if change is not None and change.difference_interval.high < 0
        },
    )


def combine(
    judged: Iterable[tuple[Rule, Verdict]],
    *,
    fell: tuple[ClassChange, ...] = (),
    rose: tuple[ClassChange, ...] = (),
    risen: Mapping[str, Change] = MappingProxyType({}),
) -> Decision:
    """What follows from the rules' own verdicts; ``judged`` holds no rule that is off."""
    pairs = list(judged)
    adjusted = _adjusted(pairs)
    found = tuple(
        Judged(rule=rule, verdict=_held(verdict, p), adjusted_p=p)
        for (rule, verdict), p in zip(pairs, adjusted, strict=True)
    )
    said = {j.verdict.status for j in found if j.rule.level == "required"}
    status: VerdictStatus = (
        "fail" if "fail" in said else "inconclusive" if "inconclusive" in said else "pass"
    )
    return Decision(status=status, judged=found, fell=fell, rose=rose, risen=dict(risen))


def _adjusted(pairs: Sequence[tuple[Rule, Verdict]]) -> list[float | None]:
    """Every verdict's p after Holm's correction over the rules of its level."""
    found: list[float | None] = [None] * len(pairs)
    for level in ("required", "advisory"):
        places = [i for i, (r, v) in enumerate(pairs) if r.level == level and v.p is not None]
        for i, p in zip(places, holm([pairs[i][1].p or 0.0 for i in places]), strict=True):
            found[i] = p
    return found


def _held(verdict: Verdict, adjusted_p: float | None) -> Verdict:
    """The verdict, or an inconclusive one when it fails alone but not beside the others."""
    if verdict.status != "fail" or adjusted_p is None or adjusted_p <= ALPHA:
        return verdict
    return verdict.model_copy(
        update={"status": "inconclusive", "held_p": adjusted_p, "classes": ()}
    )
