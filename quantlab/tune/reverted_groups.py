"""Reverted groups: the groups kept in fp32, and each one's gain and cost in time. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from quantlab.quantize.groups import Group
from quantlab.recipe import Recipe
from quantlab.tune.trials import Trial

GroupFigure = Callable[[Trial, Trial], float | None]


class Reverted(BaseModel):
    """Nodes that a recipe keeps in fp32 together; None for what was not measured.

    ``kl``: by how much that makes the KL to fp32 fall on calibration images, in nats, between two
    trials that differ by just these nodes, or what the ranking found. ``top1``: by how much it
    makes the accuracy on the evaluation images rise. ``time``: how much longer the file takes, as
    a fraction, in two trials or in two plain files.
    """

    model_config = ConfigDict(frozen=True)

    nodes: tuple[str, ...]
    kl: float | None = None
    kl_by: Literal["trials", "ranking"] | None = None
    top1: float | None = None
    time: float | None = None
    time_by: Literal["trials", "plain files"] | None = None


def reverted_groups(
    chosen: Trial, trials: Sequence[Trial], groups: Sequence[Group], ranking: Mapping[str, float]
) -> tuple[Reverted, ...]:
    """Everything that the chosen recipe excludes, group by group. ``ranking`` has KLs by group."""
    return tuple(
        _reverted(nodes, chosen, trials, ranking.get(nodes[0]))
        for nodes in _together(chosen.recipe, groups)
    )


def _together(recipe: Recipe, groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    left = dict.fromkeys(recipe.exclude)
    for group in groups:
        if group.name in left:
            yield tuple(node for node in group.nodes if node in left)
            left = {node: None for node in left if node not in group.nodes}
    yield from ((node,) for node in left)


def _reverted(
    nodes: tuple[str, ...], chosen: Trial, trials: Sequence[Trial], ranked: float | None
) -> Reverted:
    pairs = sorted(_pairs(nodes, chosen, trials), key=lambda pair: _apart(chosen, pair[0]))
    kl, top1, time = (_first(pairs, figure) for figure in (_kl_gain, _top1_gain, _time_cost))
    return Reverted(
        nodes=nodes,
        kl=ranked if kl is None else kl,
        kl_by="trials" if kl is not None else None if ranked is None else "ranking",
        top1=top1,
        time=time,
        time_by=None if time is None else "trials",
    )


def _pairs(
    nodes: Sequence[str], chosen: Trial, trials: Sequence[Trial]
) -> Iterator[tuple[Trial, Trial]]:
    """Trials like the chosen one that differ by just these nodes: in fp32, in int8."""
    like = [t for t in trials if _rest(t.recipe) == _rest(chosen.recipe)]
    by_nodes = {frozenset(t.recipe.exclude): t for t in like}
    for excluded, trial in by_nodes.items():
        other = by_nodes.get(excluded - set(nodes))
        if excluded >= set(nodes) and other is not None:
            yield trial, other


def _rest(recipe: Recipe) -> str:
    return recipe.model_copy(update={"exclude": ()}).digest


def _apart(chosen: Trial, trial: Trial) -> int:
    return len(set(chosen.recipe.exclude) ^ set(trial.recipe.exclude))


def _first(pairs: Sequence[tuple[Trial, Trial]], figure: GroupFigure) -> float | None:
    return next((x for fp32, int8 in pairs if (x := figure(fp32, int8)) is not None), None)


def _kl_gain(fp32: Trial, int8: Trial) -> float | None:
    return None if fp32.proxy is None or int8.proxy is None else int8.proxy - fp32.proxy


def _top1_gain(fp32: Trial, int8: Trial) -> float | None:
    """Between trials that saw all images."""
    if (fp32.status, int8.status) != ("done", "done") or fp32.scores is None or int8.scores is None:
        return None
    a, b = fp32.scores.top1, int8.scores.top1
    return None if a is None or b is None else a - b


def _time_cost(fp32: Trial, int8: Trial) -> float | None:
    a, b = (t.scores.speedup if t.scores else None for t in (fp32, int8))
    return None if a is None or b is None else b / a - 1
