"""What ``quantlab inspect --target`` prints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from quantlab.inspect.target_rules import TargetReport
from quantlab.targets import Target, find_target


def target_summary(found: TargetReport) -> str:
    """Pass or fail, then by rule the remedy and every place."""
    return "\n".join(_lines(found))


def _proof(target: Target) -> str:
    """For what the target stands, and what is known of its rules."""
    sources = ", ".join(document.title for document in target.documents)
    known = (
        "such files were run there" if target.proof == "run" else "by rule: nothing was run there"
    )
    return f"{target.summary} ({known}; {sources})."


def _lines(found: TargetReport) -> Iterator[str]:
    subject = f"{found.name} for target {found.target}"
    if found.passed:
        yield f"PASS: {subject}: none of its {len(found.rules)} rules is breached."
        yield _proof(find_target(found.target))
        return
    broken = len({breach.rule for breach in found.breaches})
    places = len(found.breaches)
    yield (
        f"FAIL: {subject}: {broken} of {len(found.rules)} rules breached, in {places} "
        f"place{'s' if places > 1 else ''}."
    )
    for rule, group in groupby(found.breaches, lambda breach: breach.rule):
        breaches = list(group)
        yield f"\n{rule} ({len(breaches)}): {breaches[0].remedy}"
        yield from (f"  {breach.node}: {breach.problem}" for breach in breaches)
