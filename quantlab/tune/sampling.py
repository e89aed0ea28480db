"""Strategies that sample a space with Optuna: random and TPE.

The next recipe is a pure function of the trials so far and the seed: an in-memory study is filled
with them and asked once. So a resumed search, or one on another machine that shares the trials,
needs no sampler's inner state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, Literal

import optuna

from quantlab.recipe import Recipe
from quantlab.tune.search import Proposal, Search
from quantlab.tune.strategies import BusyDigests, combinations, variant
from quantlab.tune.trials import Trial

Sampler = Literal["random", "tpe"]
_RETRIES = 50
"""Draws before a space counts as exhausted."""


def sampled(
    base: Recipe,
    space: Mapping[str, Sequence[Any]],
    sampler: Sampler,
    seed: int,
    known: Callable[[], Sequence[Trial]],
    busy: BusyDigests = set,
) -> Search:
    """Propose recipes of the space until all of it, or a limit, is reached. ``known`` gives the
    trials of other machines that share the study, which are used as they arrive; the recipes that
    these are trying (``busy``) come last."""
    left = {recipe.digest: recipe for recipe in combinations(base, space)}
    own: list[Trial] = []
    while left:
        if (other := next((t for t in known() if t.digest in left), None)) is not None:
            recipe: Recipe | None = other.recipe
        else:
            taken = busy()
            avoided = taken if left.keys() - taken else set()
            recipe = suggestion(base, space, own, sampler, seed, avoided)
        if recipe is None:
            return
        left.pop(recipe.digest, None)
        own.append((yield Proposal(recipe, after=tuple(map(Proposal, left.values())))))


def suggestion(
    base: Recipe,
    space: Mapping[str, Sequence[Any]],
    trials: Sequence[Trial],
    sampler: Sampler,
    seed: int,
    avoided: Set[str] = frozenset(),
) -> Recipe | None:
    """A recipe of the space that no trial has had and that is not avoided, by its digest, or None
    when there is no other."""
    tried = {t.digest for t in trials} | avoided
    study = _study(space, trials, sampler, seed + len(trials))
    distributions = _distributions(space)
    for _ in range(_RETRIES):
        params = study.ask(distributions).params
        recipe = variant(base, {key: space[key][index] for key, index in params.items()})
        if recipe is not None and recipe.digest not in tried:
            return recipe
    return next((r for r in combinations(base, space) if r.digest not in tried), None)


def _study(
    space: Mapping[str, Sequence[Any]], trials: Sequence[Trial], sampler: Sampler, seed: int
) -> optuna.Study:
    chosen: optuna.samplers.BaseSampler = (
        optuna.samplers.TPESampler(seed=seed, n_startup_trials=4)
        if sampler == "tpe"
        else optuna.samplers.RandomSampler(seed=seed)
    )
    study = optuna.create_study(sampler=chosen)
    for trial in trials:
        params = _params(space, trial.recipe)
        if params is not None and trial.scores is not None:
            study.add_trial(
                optuna.trial.create_trial(
                    params=params, distributions=_distributions(space), value=objective(trial)
                )
            )
    return study


def objective(trial: Trial) -> float:
    """The value that TPE minimizes: by how far the criterion is missed, then time, then
    infidelity."""
    excess = max(0.0, trial.scores.excess) if trial.scores else 10.0
    return 10 * excess + 1 / trial.speedup + min(trial.divergence, 10.0)


def _distributions(
    space: Mapping[str, Sequence[Any]],
) -> dict[str, optuna.distributions.BaseDistribution]:
    """Each field's values by their index, so that any value will do."""
    return {
        key: optuna.distributions.CategoricalDistribution(range(len(values)))
        for key, values in space.items()
    }


def _params(space: Mapping[str, Sequence[Any]], recipe: Recipe) -> dict[str, int] | None:
    try:
        return {key: list(values).index(getattr(recipe, key)) for key, values in space.items()}
    except ValueError:
        return None
