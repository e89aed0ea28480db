"""Sentences for a tune that met no criterion: by how much it misses, and what to try."""

from __future__ import annotations

from quantlab.gate import METRIC_NAMES, AgreementPolicy, Policy, Verdict


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
