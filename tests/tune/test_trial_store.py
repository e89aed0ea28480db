import hashlib
from pathlib import Path

import pytest
from fakes import a_trial

from quantlab.errors import RecordError
from quantlab.recipe import Recipe
from quantlab.tune.trial_store import TrialStore


def test_trials_come_back_in_order_and_are_found_by_recipe(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    second = a_trial(Recipe(name="b", seed=1), number=2)
    first = a_trial(Recipe(name="a"), number=1)
    for trial in (second, first):
        store.put(trial)
    assert TrialStore(tmp_path).trials() == [first, second]
    assert store.find(Recipe(name="renamed").digest) == first
    assert store.find(Recipe(seed=9).digest) is None


def test_a_trial_is_replaced_by_what_is_known_later(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    store.put(a_trial(Recipe(), status="scored"))
    store.put(done := a_trial(Recipe()))
    assert store.trials() == [done]


def test_models_are_kept_by_content(tmp_path: Path) -> None:
    store = TrialStore(tmp_path)
    sha256 = store.store_model(b"model")
    assert sha256 == hashlib.sha256(b"model").hexdigest() == store.store_model(b"model")
    assert store.model_path(sha256).read_bytes() == b"model"
    assert len(list((tmp_path / "models").iterdir())) == 1


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "x.json").write_text('{"number": 1')
    with pytest.raises(RecordError, match=r"x\.json is not a stored trial"):
        TrialStore(tmp_path).trials()
