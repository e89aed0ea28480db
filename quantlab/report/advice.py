"""Sentences for a tune that met no criterion, or that a limit ended: what is missing, and what to
try."""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.gate.verdict import METRIC_NAMES, AgreementPolicy, Policy, Verdict
from quantlab.report.context import Unfinished

NAMED = 6
"""So many recipes are named of those that were not tried."""


def unfinished(end: Unfinished) -> str:
    """Which limit ended the tune, what was not tried, and the command that goes on."""
    left = [
        f"not tried: {_listed(end.untried)}" if end.untried else "",
        f"only scored, not evaluated: {_listed(end.unevaluated)}" if end.unevaluated else "",
        f"not begun: {end.later}" if end.later else "",
    ]
    told = "; ".join(text for text in left if text) or "every recipe was tried"
    return f"Ended by {end.limit}: {told}. To go on: {end.command}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def shortfall(verdict: Verdict) -> str:
    """By how much the best recipe misses the limit, or "" when it does not."""
    if verdict.meets:
        return ""
    written = "It was written all the same."
    if verdict.decline is None:
        return f"{verdict.reason} {written}"
    policy, lost = verdict.policy, verdict.policy.amount(verdict.decline)
    if isinstance(policy, Policy):
        where = "" if policy.metric == "top1" else METRIC_NAMES.get(policy.metric, policy.metric)
        found = f"The best one declines by {lost}{where and f' in {where}'}"
    else:
        found = f"The best one's {policy.title} is {lost}"
    side = "less" if isinstance(policy, AgreementPolicy) else "more"
    over = policy.gap(verdict.decline - policy.limit)
    return f"{found}, {over} {side} than the limit of {policy.limit_text}. {written}"


def suggestions(verdict: Verdict, stop: str) -> tuple[str, ...]:
    """What to try next."""
    ideas = [
        "More calibration images: `--images-per-class 2` or more.",
        "Make sure that the pipeline is the one the model was trained with (`--pipeline`): a wrong "
        "one costs both models accuracy.",
        "Keep the most sensitive nodes in fp32: `exclude:` in a recipe file.",
    ]
    if verdict.status == "inconclusive":
        ideas.append("More evaluation images: the decline may be smaller than it seems.")
    if stop == "budget":
        ideas.insert(0, "A larger `--budget`: not every recipe was tried.")
    return tuple(ideas)
