"""Trials without models: what a strategy sees."""

from __future__ import annotations

from collections.abc import Callable

from quantlab.quantize.groups import Group
from quantlab.quantize.placement import FrontPoint
from quantlab.recipe import Recipe
from quantlab.tune.front import Front
from quantlab.tune.search import Proposal
from quantlab.tune.trials import Scores, Trial


def a_trial(
    recipe: Recipe,
    *,
    number: int = 1,
    excess: float = -1.0,
    speedup: float = 2.0,
    kl: float = 0.01,
    size: int = 1000,
    status: str = "done",
    proxy: float | None = None,
    faster: bool | None = None,
) -> Trial:
    scores = Scores(
        meets=excess <= 0,
        excess=excess,
        status="inconclusive",
        images=100,
        top1=0.8,
        decline=0.01 * (1 + excess),
        agreement=0.95,
        kl=kl,
        speedup=speedup,
        faster=faster,
    )
    return Trial(
        number=number,
        recipe=recipe,
        status=status,
        seconds=1.0,
        sha256=f"{recipe.digest}",
        size_bytes=size,
        proxy=kl if proxy is None else proxy,
        scores=scores if status in ("done", "stopped") else None,
    )


class FakeAttempt:
    """Answers proposals by a function of the recipe, and counts."""

    def __init__(self, answer: Callable[[Recipe], dict[str, float]]) -> None:
        self.answer = answer
        self.made: list[tuple[str, bool]] = []

    def __call__(self, number: int, proposal: Proposal, known: Trial | None) -> Trial:
        self.made.append((proposal.recipe.digest, proposal.evaluate))
        facts = self.answer(proposal.recipe)
        status = "done" if proposal.evaluate else "scored"
        return a_trial(proposal.recipe, number=number, status=status, **facts)


def front(count: int) -> Callable[[Recipe], Front]:
    """Of each recipe: itself, then one more of ``groups`` in fp32 each, with half the error."""
    points = [
        FrontPoint(
            exclude=tuple(n for i in range(less) for n in (f"conv{i}", f"relu{i}")),
            time=1000.0 + 100 * less,
            error=0.5**less,
            weight=200.0 * less,
        )
        for less in range(count + 1)
    ]
    return lambda recipe: Front(start=recipe, points=tuple(points))


def groups(count: int) -> list[tuple[Group, float]]:
    return [(Group("Conv", (f"conv{i}", f"relu{i}")), 1.0 / (i + 1)) for i in range(count)]
