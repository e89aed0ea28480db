from pathlib import Path

import pytest
from fakes import FakeAttempt, groups

from quantlab.recipe import Recipe
from quantlab.tune import strategies
from quantlab.tune.ladder import ladder, ladder_of
from quantlab.tune.ledger import Ledger
from quantlab.tune.sampling import sampled, suggestion
from quantlab.tune.search import Limits, Outcome, Search, run_search

FREE = Limits(budget=1e9)
START = Recipe(name="start")


def run(search: Search, attempt: FakeAttempt, folder: Path) -> Outcome:
    return run_search(search, attempt, Ledger(folder), FREE)


def needs(*costly: str) -> FakeAttempt:
    """The criterion holds once these nodes are in fp32; fp32 nodes cost speed."""

    def answer(recipe: Recipe) -> dict[str, float]:
        missing = len(set(costly) - set(recipe.exclude))
        return {"excess": missing - 0.5, "speedup": 2.0 - 0.05 * len(recipe.exclude)}

    return FakeAttempt(answer)


def test_the_ladder_has_distinct_rungs_at_full_speed_types() -> None:
    rungs = ladder()
    assert len({r.digest for r in rungs}) == len({r.name for r in rungs}) == len(rungs)
    assert {(r.activations, r.weights, r.fp32_output) for r in rungs} == {("u8", "s8", True)}
    assert {r.engine for r in ladder_of("inc")} == {"inc"}


def test_the_ladder_scores_all_and_evaluates_the_promising(tmp_path: Path) -> None:
    rungs = [Recipe(name=f"r{i}", seed=i) for i in range(4)]
    kl = {0: 0.03, 1: 0.01, 2: 0.015, 3: 0.2}
    attempt = FakeAttempt(lambda recipe: {"kl": kl[recipe.seed]})
    outcome = run(strategies.ladder(rungs), attempt, tmp_path)
    assert [t.status for t in outcome.trials] == ["scored", "done", "done", "scored"]


def test_the_ladder_goes_on_while_none_meets_and_then_reverts(tmp_path: Path) -> None:
    rungs = [Recipe(name=f"r{i}", seed=i) for i in range(3)]
    attempt = needs("conv0")
    outcome = run(strategies.ladder(rungs, lambda recipe: groups(4)), attempt, tmp_path)
    assert outcome.best is not None
    assert outcome.best.recipe.exclude == ("conv0", "relu0")
    evaluated = [t for t in outcome.trials if t.status == "done"]
    assert len(evaluated) == 4


@pytest.mark.parametrize("costly", [["conv0"], ["conv2"], ["conv0", "conv5"], ["conv7"]])
def test_sensitivity_ends_with_just_the_groups_that_are_needed(
    tmp_path: Path, costly: list[str]
) -> None:
    attempt = needs(*costly)
    outcome = run(strategies.sensitivity(START, lambda recipe: groups(8)), attempt, tmp_path)
    assert outcome.best is not None
    assert [n for n in outcome.best.recipe.exclude if n.startswith("conv")] == costly


def test_sensitivity_gives_up_when_all_in_fp32_does_not_help(tmp_path: Path) -> None:
    attempt = FakeAttempt(lambda recipe: {"excess": 1.0})
    outcome = run(strategies.sensitivity(START, lambda recipe: groups(5)), attempt, tmp_path)
    assert [len(t.recipe.exclude) // 2 for t in outcome.trials] == [0, 1, 2, 4, 5]


def test_basic_falls_back_one_by_one_and_then_together(tmp_path: Path) -> None:
    outcome = run(
        strategies.basic([START], lambda recipe: groups(4)), needs("conv1", "conv2"), tmp_path
    )
    counts = [len(t.recipe.exclude) // 2 for t in outcome.trials]
    assert counts == [0, 1, 1, 1, 1, 2]
    assert outcome.best is not None
    assert set(outcome.best.recipe.exclude) >= {"conv1", "conv2"}


def test_basic_stops_at_the_first_recipe_that_meets(tmp_path: Path) -> None:
    rungs = [START, Recipe(seed=1)]
    outcome = run(strategies.basic(rungs, lambda recipe: groups(4)), needs(), tmp_path)
    assert len(outcome.trials) == 1


def test_conservative_quantizes_what_holds(tmp_path: Path) -> None:
    outcome = run(
        strategies.conservative(START, lambda recipe: groups(4)), needs("conv1"), tmp_path
    )
    assert outcome.best is not None
    assert outcome.best.recipe.exclude == ("conv1", "relu1")


def test_grid_and_exhaustive_cover_the_space_once(tmp_path: Path) -> None:
    space = {"ranges": ["mean", "mse"], "format": ["qdq", "qoperator"]}
    attempt = FakeAttempt(lambda recipe: {})
    outcome = run(strategies.grid(START, space), attempt, tmp_path / "a")
    assert {(t.recipe.ranges, t.recipe.format) for t in outcome.trials} == {
        ("mean", "qdq"), ("mean", "qoperator"), ("mse", "qdq"), ("mse", "qoperator"),
    }  # fmt: skip
    both = run(strategies.exhaustive(ladder(), START, space), attempt, tmp_path / "b")
    assert len(both.trials) == len({t.digest for t in both.trials})


def test_combinations_leave_out_what_does_not_go_together() -> None:
    found = strategies.combinations(START, {"format": ["qoperator"], "activations": ["u8", "u16"]})
    assert [r.activations for r in found] == ["u8"]


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_sampling_is_a_function_of_the_trials_and_the_seed(tmp_path: Path, sampler: str) -> None:
    space = {"ranges": ["mean", "mse", "percentile"], "equalize": [True, False]}
    attempt = FakeAttempt(lambda r: {"kl": 0.1 if r.equalize else 0.2, "excess": -1.0})

    def search(folder: Path, limits: Limits) -> Outcome:
        strategy = sampled(START, space, sampler, 7, list)  # type: ignore[arg-type]
        return run_search(strategy, attempt, Ledger(folder), limits)

    whole = search(tmp_path / "whole", FREE)
    assert len(whole.trials) == 6
    search(tmp_path / "cut", Limits(1e9, max_trials=3))
    resumed = search(tmp_path / "cut", FREE)
    assert [t.digest for t in resumed.trials] == [t.digest for t in whole.trials]
    assert suggestion(START, space, whole.trials, sampler, 7) is None  # type: ignore[arg-type]


def test_a_variant_follows_the_defaults_of_its_types() -> None:
    made = strategies.variant(Recipe(name="start"), {"activations": "u16"})
    assert made is not None
    assert (made.ranges, made.range_search) == ("minmax", False)
