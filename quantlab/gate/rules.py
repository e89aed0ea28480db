"""Rules: what fails a gate, as people write it, and the decision over all of them. Pure.

A rule is ``METRIC > LIMIT`` (``<`` for agreement), and after a comma ``required``, ``advisory`` or
``off`` where it is not what is usual. It says what must not be. Required rules decide; advisory
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

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from quantlab._util import units
from quantlab.compare.classes import changed
from quantlab.compare.comparison import ClassChange, Comparison
from quantlab.errors import RecipeError
from quantlab.gate.criteria import (
    METRIC_NAMES,
    AgreementPolicy,
    ClassPolicy,
    DivergencePolicy,
    LatencyPolicy,
    Limit,
    Policy,
    SizePolicy,
    parse_criterion,
    parse_policy,
)
from quantlab.gate.verdict import ALPHA, EXIT_CODES, Status, Verdict, judge
from quantlab.stats.paired import holm

Level = Literal["required", "advisory", "off"]

DEFAULT_RULES = ("top1.decline > 1%",)
EXAMPLES = {
    "top1.decline": "top1.decline > 1%",
    "top5.decline": "top5.decline > 0.5pp",
    "class.decline": "class.decline > 10pp",
    "agree": "agree < 95%",
    "kl": "kl > 0.02",
    "latency.p50.ratio": "latency.p50.ratio > 1.05",
    "size": "size > 4MB",
}
"""Every metric with a rule that uses it."""
_OWN = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*)\.decline")
_RULE = re.compile(r"\s*([\w.:]+)\s*(>=|<=|==|=|>|<)\s*([^,]*?)\s*(?:,\s*(\w*)\s*)?")
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)")
_PERCENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*%")


class Rule(BaseModel):
    """What must not be: ``text`` is ``top1.decline > 1%``, ``limit`` what it bounds.

    Examples:
        >>> from quantlab import Policy, Rule
        >>> rule = Rule(text="top1.decline > 1%", limit=Policy(), level="required")
        >>> rule.metric
        'top1.decline'
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    text: str
    limit: Limit
    level: Level

    @property
    def metric(self) -> str:
        """``top1.decline``."""
        return self.text.split()[0]

    @property
    def criterion(self) -> str | None:
        """What ``quantlab compare --criterion`` calls it, None where that knows no such thing."""
        metric, _, limit = self.text.split(maxsplit=2)
        if isinstance(self.limit, Policy):
            return f"{metric.removesuffix('.decline')} {limit}"
        if isinstance(self.limit, AgreementPolicy):
            return f"agree>={limit}"
        return f"kl<={limit}" if isinstance(self.limit, DivergencePolicy) else None


def parse_rule(text: str) -> Rule:
    """Read ``top1.decline > 1%`` or ``latency.p50.ratio > 1.05, required``.

    Rules are required unless they say otherwise, those of the latency advisory. Raises RecipeError
    that names the nearest right metric, relation or level.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise RecipeError(
            f"{text!r} is not a rule.",
            f"A rule is METRIC > LIMIT, such as {DEFAULT_RULES[0]!r}; a level may follow a comma.",
        )
    metric, relation, written, level = match.groups()
    own = _OWN.fullmatch(metric)
    if metric not in EXAMPLES and own is None:
        raise RecipeError(f"{text!r}: there is no metric {metric}.", _nearest(metric))
    good = "<" if metric == "agree" else ">"
    example = EXAMPLES.get(metric, f"{metric} > 1%")
    if relation != good:
        raise RecipeError(
            f"{text!r}: a rule says what must not be, which is {metric} {good} LIMIT.",
            f"For example {example!r}.",
        )
    if level is not None and level not in ("required", "advisory", "off"):
        raise RecipeError(f"{text!r}: the level is required, advisory or off, not {level!r}.")
    limit = _own_limit(own[1], written) if own else _limit(metric, written)
    if limit is None:
        lacking = example[-1] not in "0123456789" and _NUMBER.fullmatch(written)
        problem = "has no unit" if lacking else f"is no limit for {metric}"
        raise RecipeError(f"{text!r}: {written!r} {problem}.", f"For example {example!r}.")
    usual: Level = "advisory" if isinstance(limit, LatencyPolicy) else "required"
    # The level was checked above; what is left of it is one of the three.
    return Rule.model_validate(
        {"text": f"{metric} {good} {written}", "limit": limit, "level": level or usual}
    )


def parse_requirement(text: str) -> Rule:
    """Read what must hold: ``top1.decline <= 1%``, ``agreement >= 96%``, ``size <= 4MB``, perhaps
    with a level after a comma; or a rule of ``parse_rule``, which says what must not be.

    Raises RecipeError.
    """
    match = _RULE.fullmatch(text)
    if match is None or match[2] not in ("<=", ">="):
        return parse_rule(text)
    metric = "agree" if match[1] == "agreement" else match[1]
    holds, fails = (">=", "<") if metric == "agree" else ("<=", ">")
    if match[2] != holds:
        raise RecipeError(
            f"{text!r}: what must hold is {match[1]} {holds} LIMIT.",
            f"For example {EXAMPLES.get(metric, f'{metric} > 1%').replace(fails, holds)!r}.",
        )
    if metric == "size" and _NUMBER.fullmatch(match[3]):
        raise RecipeError(f"{text!r}: the size has no unit.", "For example 'size <= 4MB'.")
    level = "" if match[4] is None else f", {match[4]}"
    return parse_rule(f"{metric} {fails} {match[3]}{level}")


def parse_limit(text: str) -> Limit:
    """What ``parse_requirement`` reads, without a level, or a criterion as ``parse_criterion`` has
    it: ``1%``, ``0.5pp``, ``top5 1%``, ``agree>=96%``.

    Raises RecipeError.
    """
    match = _RULE.fullmatch(text)
    return parse_requirement(text).limit if match else parse_criterion(text)


def _nearest(metric: str) -> str:
    near = difflib.get_close_matches(metric, EXAMPLES, n=1, cutoff=0.5)
    if near:
        return f"Did you mean {near[0]}, as in {EXAMPLES[near[0]]!r}?"
    return f"Metrics: {', '.join(EXAMPLES)}, or module:function.decline for one of your own."


def _own_limit(metric: str, text: str) -> Limit | None:
    try:
        return parse_policy(text, metric)
    except RecipeError:
        return None


def _limit(metric: str, text: str) -> Limit | None:
    """What a metric's limit bounds, None when it cannot be read."""
    if metric in ("top1.decline", "top5.decline"):
        return _own_limit(metric.removesuffix(".decline"), text)
    if metric == "class.decline":
        found = _own_limit("top1", text)
        points = isinstance(found, Policy) and found.kind == "absolute" and found.limit > 0
        return ClassPolicy(of_class=found.limit) if found and points else None
    if metric == "agree":
        share = _PERCENT.fullmatch(text)
        usable = share is not None and 0 < float(share[1]) <= 100
        return AgreementPolicy(least=float(share[1]) / 100) if share and usable else None
    if metric == "size":
        try:
            size = units.size_bytes(text)
        except ValueError:
            return None
        return SizePolicy(most_bytes=size) if size else None
    number = _NUMBER.fullmatch(text)
    if number is None:
        return None
    if metric == "kl":
        return DivergencePolicy(most=float(number[1]))
    return LatencyPolicy(ratio=float(number[1])) if float(number[1]) > 0 else None


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Several of them. Raises RecipeError, also for one given twice, and when all are off."""
    rules = tuple(parse_rule(text) for text in texts)
    seen: set[str] = set()
    for rule in rules:
        if rule.text in seen:
            raise RecipeError(f"the rule {rule.text!r} is given twice.", "Leave one of them out.")
        seen.add(rule.text)
    if all(rule.level == "off" for rule in rules):
        raise RecipeError("no rule is left to judge.", f"For example {DEFAULT_RULES[0]!r}.")
    return rules


class Judged(BaseModel):
    """A rule with its verdict. ``adjusted_p`` is the verdict's p after Holm's correction over the
    rules of the same level, None where it has none."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    rule: Rule
    verdict: Verdict
    adjusted_p: float | None = None


class Decision(BaseModel):
    """Every rule that is not off with its verdict, and what follows from the required ones.

    ``fell`` and ``rose`` are the classes that surely changed, whatever the rules ask. ``alarms``
    are sentences of what nobody limited but a reader should see: accuracies that surely rose.

    Examples:
        >>> from quantlab import compare, gate
        >>> from quantlab.testing import fake_predictions
        >>> pair = [fake_predictions(2000, 10, rate, seed=0) for rate in (0, 0.02)]
        >>> decision = gate(compare(*pair), ["top1.decline <= 3%", "agreement >= 90%"])
        >>> decision.status, len(decision.required)
        ('pass', 2)
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status
    judged: tuple[Judged, ...]
    fell: tuple[ClassChange, ...] = ()
    rose: tuple[ClassChange, ...] = ()
    alarms: tuple[str, ...] = ()

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

    @property
    def family(self) -> str:
        """How the error rate over all rules is controlled, in a sentence; empty for one rule."""
        count = sum(j.verdict.p is not None for j in self.required)
        if count < 2:
            return ""
        return (
            f"{count} required rules rest on samples and are one decision: any wrong failure has "
            f"a chance of at most {ALPHA:.1%} (Holm), a wrong pass of at most {ALPHA:.1%} (every "
            "rule must pass)."
        )


def decide(comparison: Comparison, rules: Sequence[Rule]) -> Decision:
    """The rules' verdicts on a comparison.

    Raises RecipeError when one limits a metric of the user's that the comparison does not hold.
    """
    judged = [(r, judge(comparison, r.limit)) for r in rules if r.level != "off"]
    moved = changed(comparison.classes)
    return combine(
        judged,
        fell=tuple(c for c in moved if c.net_loss > 0),
        rose=tuple(c for c in moved if c.net_loss < 0),
        alarms=_rises(comparison),
    )


def combine(
    judged: Iterable[tuple[Rule, Verdict]],
    *,
    fell: tuple[ClassChange, ...] = (),
    rose: tuple[ClassChange, ...] = (),
    alarms: tuple[str, ...] = (),
) -> Decision:
    """What follows from the rules' own verdicts; ``judged`` holds no rule that is off."""
    pairs = list(judged)
    adjusted = _adjusted(pairs)
    found = tuple(
        Judged(rule=rule, verdict=_held(verdict, p), adjusted_p=p)
        for (rule, verdict), p in zip(pairs, adjusted, strict=True)
    )
    said = {j.verdict.status for j in found if j.rule.level == "required"}
    status: Status = (
        "fail" if "fail" in said else "inconclusive" if "inconclusive" in said else "pass"
    )
    return Decision(status=status, judged=found, fell=fell, rose=rose, alarms=alarms)


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
        update={
            "status": "inconclusive",
            "reason": f"{verdict.reason} Alone it would fail; beside the other rules that is not "
            f"sure enough (p {adjusted_p:.2g} after Holm's correction, {ALPHA:.2g} is needed).",
            "remedy": "More images decide it, or fewer required rules.",
            "classes": (),
        }
    )


def _rises(comparison: Comparison) -> tuple[str, ...]:
    """A sentence for every accuracy that surely rose: that is rarely quantization's doing."""
    changes = {"top1": comparison.top1, "top5": comparison.top5}
    return tuple(
        f"The {METRIC_NAMES[name]} accuracy surely rose, by {-100 * change.difference:.2f} points "
        f"(95% interval {-100 * change.difference_interval.high:.2f} to "
        f"{-100 * change.difference_interval.low:.2f}, McNemar p {change.mcnemar_p:.2g}). "
        "Quantization seldom does that: check that both are the same model, and that these images "
        "did not calibrate or train it."
        for name, change in changes.items()
        if change is not None and change.difference_interval.high < 0
    )
