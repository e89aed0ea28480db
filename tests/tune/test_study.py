from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from fakes import a_trial

from quantlab.errors import QuantlabError
from quantlab.recipe import Recipe
from quantlab.tune.search import Proposal, Search
from quantlab.tune.strategies import combinations, grid
from quantlab.tune.study import SharedStudy
from quantlab.tune.trials import Trial


def test_the_study_holds_every_finished_trial_once(tmp_path: Path) -> None:
    trials = [
        a_trial(Recipe(seed=1), number=1),
        a_trial(Recipe(seed=2), number=2, status="scored"),
        Trial(number=3, recipe=Recipe(seed=3), status="failed", seconds=1, error="crashed"),
    ]
    for _ in range(2):
        SharedStudy(None, tmp_path, "model").sync(trials)
    study = SharedStudy(None, tmp_path, "model")
    assert study.trials() == [trials[0], trials[2]]
    states = [t.state.name for t in study.study.get_trials()]
    assert states == ["COMPLETE", "FAIL"]


def test_optuna_finds_the_same_front(tmp_path: Path) -> None:
    study = SharedStudy(None, tmp_path, "model")
    study.sync(
        [
            a_trial(Recipe(seed=1), speedup=3.0, excess=-0.1),
            a_trial(Recipe(seed=2), speedup=1.0, excess=-0.9),
            a_trial(Recipe(seed=3), speedup=0.9, excess=-0.5),
        ]
    )
    assert [t.number for t in study.study.best_trials] == [0, 1]


def test_machines_share_a_storage_and_other_models_do_not_mix(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    here, there = (SharedStudy(url, tmp_path / name, "model") for name in ("here", "there"))
    here.put(mine := a_trial(Recipe(seed=1)))
    assert there.others() == [mine]
    assert here.others() == []
    assert SharedStudy(url, tmp_path / "x", "another model").others() == []


def test_a_wrong_storage_is_said(tmp_path: Path) -> None:
    with pytest.raises(QuantlabError, match="cannot open the study storage nonsense"):
        SharedStudy("nonsense", tmp_path, "model")
    assert optuna.__version__


def test_a_recipe_under_way_is_known_to_the_others(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    here, there = (SharedStudy(url, tmp_path / name, "model") for name in ("here", "there"))
    done, failed = a_trial(Recipe(seed=1)), Recipe(seed=2)
    for digest in (done.digest, failed.digest, done.digest):
        here.claim(digest)
    assert there.busy() == {done.digest, failed.digest}
    assert here.busy() == set()
    assert there.others() == []
    trials = [done, Trial(number=2, recipe=failed, status="failed", seconds=1, error="crashed")]
    here.sync(trials)
    assert there.busy() == set()
    assert there.others() == trials
    found = here.study.get_trials()
    assert [t.state.name for t in found] == ["COMPLETE", "FAIL"]
    assert found[0].values == [done.scores.decline, 1 / done.speedup, done.size_bytes]


def test_a_claim_of_a_killed_machine_holds_up_nobody(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    SharedStudy(url, tmp_path / "killed", "model").claim("0123456789ab")
    here = SharedStudy(url, tmp_path / "here", "model")
    space = {"ranges": ["mean", "mse"], "equalize": [True, False]}
    order = [r.digest for r in combinations(Recipe(), space)]
    here_busy = {order[1]}
    search = grid(Recipe(), space, lambda: here_busy)
    tried = [proposal.recipe.digest for proposal in answered(search)]
    assert tried == [order[0], order[2], order[3], order[1]]
    assert here.busy() == {"0123456789ab"}


def answered(search: Search) -> Iterator[Proposal]:
    """The proposals of a search that is told of a trial each time."""
    proposal = next(search)
    while True:
        yield proposal
        try:
            proposal = search.send(a_trial(proposal.recipe))
        except StopIteration:
            return
