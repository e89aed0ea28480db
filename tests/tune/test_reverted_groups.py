import pytest
from fakes import a_trial

from quantlab.quantize.groups import Group
from quantlab.recipe import Recipe
from quantlab.tune.reverted_groups import Reverted, reverted_groups
from quantlab.tune.trials import Trial

GROUPS = [Group("Conv", (f"conv{i}", f"relu{i}")) for i in range(4)]
RANKING = {"conv0": 0.5, "conv1": 0.25}


def trial(*reverted: int, kl: float, speedup: float, status: str = "done", seed: int = 0) -> Trial:
    nodes = tuple(sorted(n for i in reverted for n in GROUPS[i].nodes))
    recipe = Recipe(exclude=nodes, seed=seed)
    return a_trial(recipe, kl=kl, speedup=speedup, status=status)


def test_two_trials_that_differ_by_just_the_group_tell_all() -> None:
    chosen, without = trial(0, kl=0.01, speedup=2.0), trial(kl=0.03, speedup=2.2)
    (found,) = reverted_groups(chosen, [without, chosen], GROUPS, RANKING)
    assert found.nodes == ("conv0", "relu0")
    assert found.kl == pytest.approx(0.02)
    assert found.time == pytest.approx(0.1)
    assert found.top1 == 0.0
    assert (found.kl_by, found.time_by) == ("trials", "trials")


def test_trials_of_another_recipe_tell_nothing() -> None:
    chosen, other = trial(0, kl=0.01, speedup=2.0), trial(kl=0.03, speedup=2.2, seed=1)
    (found,) = reverted_groups(chosen, [other, chosen], GROUPS, RANKING)
    assert found == Reverted(nodes=("conv0", "relu0"), kl=0.5, kl_by="ranking")


def test_the_pair_nearest_to_the_chosen_recipe_counts() -> None:
    chosen = trial(0, 1, 2, kl=0.01, speedup=1.5)
    pairs = [
        (trial(1, kl=0.5, speedup=2.0), trial(kl=0.9, speedup=2.0)),
        (trial(1, 2, kl=0.04, speedup=1.8), trial(2, kl=0.05, speedup=1.9)),
    ]
    trials = [t for pair in pairs for t in pair]
    found = {x.nodes[0]: x for x in reverted_groups(chosen, [*trials, chosen], GROUPS, {})}
    assert found["conv0"].kl == pytest.approx(0.03)
    assert found["conv1"].kl == pytest.approx(0.01)
    assert found["conv2"].kl == pytest.approx(0.46)


def test_what_a_stopped_trial_did_not_measure_is_not_made_up() -> None:
    chosen = trial(0, kl=0.01, speedup=2.0)
    stopped = trial(kl=0.03, speedup=2.2, status="stopped")
    assert stopped.scores is not None
    scores = stopped.scores.model_copy(update={"speedup": None})
    trials = [chosen, stopped.model_copy(update={"scores": scores})]
    (found,) = reverted_groups(chosen, trials, GROUPS, {})
    assert (found.top1, found.time, found.time_by) == (None, None, None)
    assert found.kl == pytest.approx(0.02)


def test_nodes_of_no_group_stand_alone_and_parts_of_one_together() -> None:
    recipe = Recipe(exclude=("pool", "relu3", "conv1"))
    found = reverted_groups(a_trial(recipe), [], GROUPS, RANKING)
    assert [x.nodes for x in found] == [("conv1",), ("pool",), ("relu3",)]
    assert [x.kl for x in found] == [0.25, None, None]


def test_nothing_reverted() -> None:
    assert reverted_groups(trial(kl=0.1, speedup=2.0), [], GROUPS, RANKING) == ()
