"""Sentences for a tune that met no criterion, or that a limit ended: what is missing, and what to
try."""

from __future__ import annotations

from collections.abc import Sequence

from quantlab.gate.verdict import Verdict
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
    if verdict.measured is None:
        return f"{verdict.reason} {written}"
    criterion, lost = verdict.criterion, verdict.criterion.amount(verdict.measured)
    found = f"The best one's {criterion.title} is {lost}"
    if criterion.declines:
        of = criterion.title.removesuffix(" decline")
        found = f"The best one declines by {lost}{'' if of == 'top-1' else f' in {of}'}"
    side = "less" if criterion.relation == ">=" else "more"
    over = criterion.gap(verdict.measured - criterion.limit)
    return f"{found}, {over} {side} than the limit of {criterion.limit_text}. {written}"


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
