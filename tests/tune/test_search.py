from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeAttempt, a_trial

from quantlab.recipe import Recipe
from quantlab.tune.search import Proposal, Search, SearchLimits, SearchOutcome, run_search
from quantlab.tune.trial_store import TrialStore
from quantlab.tune.trials import Trial

RECIPES = [Recipe(name=f"r{i}", seed=i) for i in range(6)]
FREE = SearchLimits(budget=1e9)


def all_of(recipes: list[Recipe], *, evaluate: bool = True) -> Search:
    for recipe in recipes:
        yield Proposal(recipe, evaluate=evaluate)


def ticking() -> Iterator[float]:
    seconds = 0.0
    while True:
        yield seconds
        seconds += 10


def test_everything_is_tried_once_and_kept(tmp_path: Path) -> None:
    attempt = FakeAttempt(lambda recipe: {"kl": 1.0 / (1 + recipe.seed)})
    heard: list[int] = []
    store = TrialStore(tmp_path)
    outcome = run_search(
        all_of(RECIPES), attempt, store, FREE, on_trial=lambda o: heard.append(len(o.trials))
    )
    assert (outcome.stop, outcome.attempted, heard) == ("finished", 6, [1, 2, 3, 4, 5, 6])
    assert outcome.best is not None
    assert outcome.best.recipe == RECIPES[-1]
    again = run_search(all_of(RECIPES), attempt, store, FREE)
    assert (again.attempted, again.trials) == (0, outcome.trials)


def test_a_search_that_was_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    attempt = FakeAttempt(lambda recipe: {})
    run_search(all_of(RECIPES), attempt, TrialStore(tmp_path), SearchLimits(1e9, max_trials=2))
    outcome = run_search(all_of(RECIPES), attempt, TrialStore(tmp_path), FREE)
    assert outcome.attempted == 4
    assert len(attempt.made) == len(set(attempt.made)) == 6
    assert [t.number for t in outcome.trials] == [1, 2, 3, 4, 5, 6]


def test_a_scored_trial_is_only_evaluated(tmp_path: Path) -> None:
    attempt = FakeAttempt(lambda recipe: {})

    def search() -> Search:
        yield Proposal(RECIPES[0], evaluate=False)
        yield Proposal(RECIPES[0])

    outcome = run_search(search(), attempt, TrialStore(tmp_path), FREE)
    assert [t.status for t in outcome.trials] == ["done"]
    assert [evaluate for _, evaluate in attempt.made] == [False, True]


def test_the_budget_ends_it_but_one_is_always_evaluated(tmp_path: Path) -> None:
    clock = ticking()
    attempt = FakeAttempt(lambda recipe: {})
    outcome = run_search(
        all_of(RECIPES, evaluate=False),
        attempt,
        TrialStore(tmp_path),
        SearchLimits(budget=15),
        clock=lambda: next(clock),
    )
    assert outcome.stop == "budget"
    assert outcome.attempted < len(RECIPES)
    assert outcome.best is not None
    assert outcome.best.status == "done"


def test_ctrl_c_leaves_what_was_under_way_untried(tmp_path: Path) -> None:
    def attempt(number: int, proposal: Proposal, known: Trial | None) -> Trial:
        if proposal.recipe == RECIPES[1]:
            raise KeyboardInterrupt
        return a_trial(proposal.recipe, number=number)

    def search() -> Search:
        for i, recipe in enumerate(RECIPES):
            after = tuple(map(Proposal, RECIPES[i + 1 :]))
            yield Proposal(recipe, after=after, later="something else")

    outcome = run_search(search(), attempt, TrialStore(tmp_path), FREE)
    assert outcome.stop == "interrupted"
    assert [p.recipe for p in outcome.untried] == RECIPES[1:]
    assert outcome.later == "something else"


def test_the_target_speedup_ends_it(tmp_path: Path) -> None:
    attempt = FakeAttempt(lambda recipe: {"speedup": 1.0 + recipe.seed, "excess": -1.0})
    limits = SearchLimits(1e9, target_speedup=3.0)
    outcome = run_search(all_of(RECIPES), attempt, TrialStore(tmp_path), limits)
    assert (outcome.stop, outcome.attempted) == ("target", 3)


@pytest.mark.parametrize("moment", [0, 1, 3])
def test_ctrl_c_ends_the_search_and_keeps_what_is_done(tmp_path: Path, moment: int) -> None:
    made = FakeAttempt(lambda recipe: {})

    def attempt(number: int, proposal: Proposal, known: Trial | None) -> Trial:
        if len(made.made) == moment:
            raise KeyboardInterrupt
        return made(number, proposal, known)

    outcome = run_search(all_of(RECIPES), attempt, TrialStore(tmp_path), FREE)
    assert outcome.stop == "interrupted"
    assert len(TrialStore(tmp_path).trials()) == moment


def test_a_failed_trial_is_not_tried_again(tmp_path: Path) -> None:
    tries = []

    def attempt(number: int, proposal: Proposal, known: Trial | None) -> Trial:
        tries.append(number)
        return Trial(number=number, recipe=proposal.recipe, status="failed", seconds=0, error="no")

    for _ in range(2):
        outcome: SearchOutcome = run_search(
            all_of(RECIPES[:2]), attempt, TrialStore(tmp_path), FREE
        )
    assert tries == [1, 2]
    assert outcome.best is None


def test_fakes_make_what_they_say() -> None:
    assert a_trial(RECIPES[0], excess=0.5).scores.meets is False  # type: ignore[union-attr]


def failing(number: int, proposal: Proposal, known: Trial | None) -> Trial:
    return Trial(number=number, recipe=proposal.recipe, status="failed", seconds=0, error="no")


def test_failures_count_as_trials(tmp_path: Path) -> None:
    outcome = run_search(
        all_of(RECIPES), failing, TrialStore(tmp_path), SearchLimits(1e9, max_trials=2)
    )
    assert (outcome.stop, outcome.attempted, outcome.best) == ("max-trials", 2, None)


def test_a_search_in_which_everything_fails_keeps_to_its_budget(tmp_path: Path) -> None:
    outcome = run_search(all_of(RECIPES), failing, TrialStore(tmp_path), SearchLimits(budget=0))
    assert (outcome.stop, outcome.attempted, outcome.best) == ("budget", 3, None)
