"""Strategies: in which order recipes are tried. Each is a generator (see ``search``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from quantlab.quantize.groups import Group
from quantlab.recipe import Recipe
from quantlab.tune.front import Front
from quantlab.tune.search import Proposal, Search
from quantlab.tune.trials import Trial, calibration_score

Ranked = Sequence[tuple[Group, float]]
"""Groups, the costliest first, each with what it costs in int8 (KL, nats)."""
Ranking = Callable[[Recipe], Ranked]
FrontOf = Callable[[Recipe], Front]
BusyDigests = Callable[[], set[str]]
"""Gives the digests of recipes that other machines are trying now."""
SPACE: dict[str, list[Any]] = {
    "format": ["qdq", "qoperator"],
    "ranges": ["mean", "percentile", "mse"],
    "equalize": [True, False],
    "rounding": ["output-error", "nearest"],
    "bias_correction": [True, False],
}
"""What grid, random and tpe search unless the configuration names another space."""


WALKING = "leaving more layers in fp32, along the front of speed against accuracy"
FALLING_BACK = "keeping operators in fp32, first one by one, then together"
QUANTIZING = "quantizing more operators, while the criterion holds"


def _met(trial: Trial) -> bool:
    evaluated = trial.status in ("done", "stopped")
    return evaluated and trial.scores is not None and trial.scores.meets


def _pays(trial: Trial) -> bool:
    """Whether the trial meets the criterion and is known to be faster than fp32."""
    return _met(trial) and getattr(trial.scores, "faster", None) is True


def ladder(
    rungs: Sequence[Recipe],
    front_of: FrontOf | None = None,
    engines: Sequence[str] = ("quantlab",),
) -> Search:
    """Evaluate the engines' leading rungs; while none of them meets the criterion faster than fp32,
    score the others on calibration data and evaluate them, the nearest to fp32 first and each
    structure before its other formats; and when none meets it at all, walk the front of speed
    against accuracy (``sensitivity``)."""
    more = f"{WALKING}, unless a recipe meets the criterion" if front_of is not None else ""
    leading = leaders(rungs, engines)
    others = [rung for rung in rungs if rung not in leading]
    scoring = tuple(Proposal(rung, evaluate=False) for rung in others)
    tried: list[Trial] = []
    for place, rung in enumerate(leading, 1):
        pays = any(map(_pays, tried))
        rest = (*map(Proposal, leading[place:]), *(() if pays else scoring))
        later = "" if pays else more
        trial = yield Proposal(rung, evaluate=False, after=rest, later=later)
        if trial.sha256:
            trial = yield Proposal(rung, after=rest, later=later)
        tried.append(trial)
    if any(map(_pays, tried)):
        return
    scored: list[Trial] = []
    for place, rung in enumerate(others, 1):
        rest = (*scoring[place:], *_evaluations(scored))
        scored.append((yield Proposal(rung, evaluate=False, after=rest, later=more)))
    scored = sorted((t for t in scored if t.sha256), key=lambda t: t.divergence)
    first = {t.recipe.structure: t for t in (*reversed(scored), *tried)}
    waiting = sorted(scored, key=lambda t: first[t.recipe.structure] is not t)
    while waiting and not any(map(_pays, tried)):
        trial, *waiting = waiting
        later = "" if any(map(_met, tried)) else more
        tried.append((yield Proposal(trial.recipe, after=_evaluations(waiting), later=later)))
    evaluated = [trial for trial in tried if trial.scores]
    if front_of is not None and evaluated and not any(map(_met, tried)):
        nearest = min(evaluated, key=calibration_score)
        yield from sensitivity(nearest.recipe, front_of)


def leaders(rungs: Sequence[Recipe], engines: Sequence[str]) -> list[Recipe]:
    """The rungs that are evaluated whatever comes of the others: the first of each target and
    engine, and those with dynamic ranges."""
    first: dict[tuple[str, str], Recipe] = {}
    for rung in [r for r in rungs if r.engine in engines] or rungs[:1]:
        first.setdefault((rung.target, rung.engine), rung)
    return [r for r in rungs if r in first.values() or r.activations == "dynamic"]


def _evaluations(trials: Iterable[Trial]) -> tuple[Proposal, ...]:
    return tuple(Proposal(t.recipe) for t in trials if t.sha256)


def sensitivity(start: Recipe, front_of: FrontOf) -> Search:
    """From ``start``, walk the front of speed against accuracy to the fastest placement with which
    the criterion holds.

    The predicted error is halved until the criterion holds; what is between that point and the one
    before is bisected.
    """
    if _met((yield Proposal(start, later=WALKING))):
        return
    front = front_of(start)
    low, last = 0, len(front.points) - 1
    high = front.after(low)
    while low < last and not _met((yield _placed(front, high))):
        low, high = high, front.after(high)
    if low == last:
        return
    while high - low > 1:
        middle = (low + high) // 2
        if _met((yield _placed(front, middle))):
            high = middle
        else:
            low = middle


def _placed(front: Front, number: int) -> Proposal:
    point = front.points[number]
    note = f"predicted {point.time / 1000:.2f} ms, KL {point.error:.4f}"
    return Proposal(front.recipe(number), note=note, later=WALKING)


def without(recipe: Recipe, groups: Sequence[Group], note: str) -> Proposal:
    """The recipe with these groups left in fp32."""
    nodes = {node for group in groups for node in group.nodes} | set(recipe.exclude)
    name = f"{recipe.name}-minus-{len(groups)}"
    changed = recipe.model_copy(update={"exclude": tuple(sorted(nodes)), "name": name})
    return Proposal(changed, note=note)


def grid(base: Recipe, space: Mapping[str, Sequence[Any]], busy: BusyDigests = set) -> Search:
    """Every combination of the space's values, in its order."""
    yield from _each(combinations(base, space), busy)


def exhaustive(
    rungs: Sequence[Recipe],
    base: Recipe,
    space: Mapping[str, Sequence[Any]],
    busy: BusyDigests = set,
) -> Search:
    """The ladder's rungs and every combination; bound it with --max-trials or --budget."""
    yield from _each([*rungs, *combinations(base, space)], busy)


def _each(recipes: Sequence[Recipe], busy: BusyDigests) -> Search:
    """In their order, but those that another machine is busy with last."""
    left = list(recipes)
    while left:
        taken = busy()
        chosen = next((recipe for recipe in left if recipe.digest not in taken), left[0])
        left.remove(chosen)
        yield Proposal(chosen, after=tuple(map(Proposal, left)))


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
    fields = base.given | dict(changes) | {"name": named[:60]}
    try:
        return Recipe.model_validate(fields)
    except ValueError:
        return None


def basic(rungs: Sequence[Recipe], rank: Ranking) -> Search:
    """Neural Compressor's ``basic``: the recipes one after the other until one meets the criterion;
    else fall back the operators one by one, and then together, the most useful first."""
    tried = []
    for place, rung in enumerate(rungs, 1):
        rest = tuple(map(Proposal, rungs[place:]))
        trial = yield Proposal(rung, after=rest, later=FALLING_BACK)
        if _met(trial):
            return
        tried.append(trial)
    start = min((t for t in tried if t.scores), key=_miss, default=None)
    if start is None:
        return
    singles = []
    for group, _ in rank(start.recipe):
        proposal = without(start.recipe, [group], f"{group.name} in fp32")
        trial = yield replace(proposal, later=FALLING_BACK)
        if _met(trial):
            return
        singles.append((_miss(trial), group))
    order = [group for _, group in sorted(singles, key=lambda pair: pair[0])]
    for count in range(2, len(order) + 1):
        proposal = without(start.recipe, order[:count], f"{count} groups in fp32")
        if _met((yield replace(proposal, later=FALLING_BACK if count < len(order) else ""))):
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
            proposal = without(start, rest, f"{names} in int8")
            if _met((yield replace(proposal, later=QUANTIZING))):
                fp32 = rest
            elif len(step) > 1:
                steps.extend([g] for g in step)
