"""Sentences for a tune that met no criterion: by how much it misses, and what to try."""

from __future__ import annotations

from quantlab.gate import Verdict, amount


def shortfall(verdict: Verdict) -> str:
    """By how much the best recipe misses the limit, or "" when it does not."""
    decline, policy = verdict.decline, verdict.policy
    if decline is None or decline <= policy.max_decline:
        return ""
    over = amount(decline - policy.max_decline, policy.kind)
    return (
        f"The best one declines by {amount(decline, policy.kind)}, {over} more than the limit of "
        f"{policy.limit_text}. It was written all the same."
    )


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
