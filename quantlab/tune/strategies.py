"""Strategies: in which order recipes are tried. Each is a generator (see ``search``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from quantlab.recipe import Recipe
from quantlab.tune.groups import Group
from quantlab.tune.search import Proposal, Search
from quantlab.tune.trials import Trial

PROMISING = 2
"""So many of the ladder's rungs are evaluated at first, the nearest to fp32 on calibration data."""
NEAR = 2.0
"""A rung whose score is more than so many times the best one's is not promising."""

Ranked = Sequence[tuple[Group, float]]
"""Groups, the costliest first, each with what it costs in int8 (KL, nats)."""
Ranking = Callable[[Recipe], Ranked]
Busy = Callable[[], set[str]]
"""Gives the digests of recipes that other machines are trying now."""
SPACE: dict[str, list[Any]] = {
    "format": ["qdq", "qoperator"],
    "ranges": ["mean", "percentile", "mse"],
    "equalize": [True, False],
    "rounding": ["output-error", "nearest"],
    "bias_correction": [True, False],
}
"""What grid, random and tpe search unless the configuration names another space."""


def _met(trial: Trial) -> bool:
    return trial.status == "done" and trial.scores is not None and trial.scores.meets


def ladder(rungs: Sequence[Recipe], rank: Ranking | None = None) -> Search:
    """Score every rung on calibration data, evaluate the promising ones, then, while none meets the
    criterion, the others; and when none does at all, revert what costs most (``sensitivity``)."""
    scored = []
    for rung in rungs:
        scored.append((yield Proposal(rung, evaluate=False)))
    scored = sorted((t for t in scored if t.sha256), key=lambda t: t.divergence)
    tried: list[Trial] = []
    for place, trial in enumerate(scored):
        near = trial.divergence <= NEAR * scored[0].divergence
        if any(map(_met, tried)) and (place >= PROMISING or not near):
            return
        tried.append((yield Proposal(trial.recipe)))
    if rank is not None and tried and not any(map(_met, tried)):
        yield from sensitivity(tried[0].recipe, rank)


def sensitivity(start: Recipe, rank: Ranking) -> Search:
    """From ``start``, revert the costliest groups until the criterion holds, then try to take each
    back, the cheapest first.

    The number reverted is doubled until the criterion holds and then bisected, so that it takes
    about 2 log2(groups) evaluations.
    """
    if _met((yield Proposal(start))):
        return
    groups = [group for group, _ in rank(start)]

    def reverted(count: int) -> Proposal:
        return without(start, groups[:count], f"{count} costliest groups in fp32")

    low, high = 0, 1
    while not _met((yield reverted(high))):
        if high == len(groups):
            return
        low, high = high, min(2 * high, len(groups))
    while high - low > 1:
        middle = (low + high) // 2
        if _met((yield reverted(middle))):
            high = middle
        else:
            low = middle
    yield from _take_back(start, groups[:high])


def _take_back(start: Recipe, reverted: list[Group]) -> Search:
    kept = list(reverted)
    for group in reversed(reverted[:-1]):
        fewer = [g for g in kept if g is not group]
        if _met((yield without(start, fewer, f"{group.name} back in int8"))):
            kept = fewer


def without(recipe: Recipe, groups: Sequence[Group], note: str) -> Proposal:
    """The recipe with these groups left in fp32."""
    nodes = {node for group in groups for node in group.nodes} | set(recipe.exclude)
    name = f"{recipe.name}-minus-{len(groups)}"
    changed = recipe.model_copy(update={"exclude": tuple(sorted(nodes)), "name": name})
    return Proposal(changed, note=note)


def grid(base: Recipe, space: Mapping[str, Sequence[Any]], busy: Busy = set) -> Search:
    """Every combination of the space's values, in its order."""
    yield from _each(combinations(base, space), busy)


def exhaustive(
    rungs: Sequence[Recipe],
    base: Recipe,
    space: Mapping[str, Sequence[Any]],
    busy: Busy = set,
) -> Search:
    """The ladder's rungs and every combination; bound it with --max-trials or --budget."""
    yield from _each([*rungs, *combinations(base, space)], busy)


def _each(recipes: Sequence[Recipe], busy: Busy) -> Search:
    """In their order, but those that another machine is busy with last."""
    left = list(recipes)
    while left:
        taken = busy()
        chosen = next((recipe for recipe in left if recipe.digest not in taken), left[0])
        left.remove(chosen)
        yield Proposal(chosen)


def combinations(base: Recipe, space: Mapping[str, Sequence[Any]]) -> list[Recipe]:
    """The valid recipes of the space, each once."""
    found: dict[str, Recipe] = {}
    for values in itertools.product(*space.values()):
        recipe = variant(base, dict(zip(space, values, strict=True)))
        if recipe is not None:
            found.setdefault(recipe.digest, recipe)
    return list(found.values())


def variant(base: Recipe, changes: Mapping[str, Any]) -> Recipe | None:
    """``base`` with these fields changed, or None when they do not go together."""
    named = "-".join(str(value) for value in changes.values())
    fields = base.model_dump(exclude_unset=True) | dict(changes) | {"name": named[:60]}
    try:
        return Recipe.model_validate(fields)
    except ValueError:
        return None


def basic(rungs: Sequence[Recipe], rank: Ranking) -> Search:
    """Neural Compressor's ``basic``: the recipes one after the other until one meets the criterion;
    else fall back the operators one by one, and then together, the most useful first."""
    tried = []
    for rung in rungs:
        trial = yield Proposal(rung)
        if _met(trial):
            return
        tried.append(trial)
    start = min((t for t in tried if t.scores), key=_miss, default=None)
    if start is None:
        return
    singles = []
    for group, _ in rank(start.recipe):
        trial = yield without(start.recipe, [group], f"{group.name} in fp32")
        if _met(trial):
            return
        singles.append((_miss(trial), group))
    order = [group for _, group in sorted(singles, key=lambda pair: pair[0])]
    for count in range(2, len(order) + 1):
        if _met((yield without(start.recipe, order[:count], f"{count} groups in fp32"))):
            return


def _miss(trial: Trial) -> float:
    return trial.scores.excess if trial.scores else float("inf")


def conservative(start: Recipe, rank: Ranking) -> Search:
    """Neural Compressor's ``conservative``: from fp32, quantize one kind of operator after the
    other, and within a kind that does not hold the criterion one operator after the other, keeping
    what holds it."""
    groups = [group for group, _ in reversed(rank(start))]
    fp32 = list(groups)
    for kind in ("MatMul", "Gemm", "Conv"):
        of_kind = [g for g in groups if g.kind == kind]
        steps = [of_kind] if of_kind else []
        for step in steps:
            rest = [g for g in fp32 if g not in step]
            names = f"all {kind}" if len(step) > 1 else step[0].name
            if _met((yield without(start, rest, f"{names} in int8"))):
                fp32 = rest
            elif len(step) > 1:
                steps.extend([g] for g in step)
