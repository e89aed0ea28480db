import pytest
from fakes import a_trial

from quantlab.recipe import Recipe
from quantlab.stats.paired import Interval
from quantlab.tune.trials import Trial, best, pareto_front, picked

A, B, C = (Recipe(name=n, seed=i) for i, n in enumerate("abc"))


def test_best_meets_first_then_speed_then_fidelity() -> None:
    broken = a_trial(A, excess=2.0, speedup=9.0, kl=0.001)
    near = a_trial(B, speedup=2.0, kl=0.02)
    same_speed_more_faithful = a_trial(C, speedup=1.96, kl=0.01)
    assert best([broken, near]) is near
    assert best([broken, near, same_speed_more_faithful]) is same_speed_more_faithful
    slower = a_trial(C, speedup=1.5, kl=0.0001)
    assert best([broken, near, slower]) is near


def timed(recipe: Recipe, kl: float, low: float, speedup: float, high: float) -> Trial:
    trial = a_trial(recipe, speedup=speedup, kl=kl)
    assert trial.scores is not None
    scores = trial.scores.model_copy(update={"speed_interval": Interval(low, high)})
    return trial.model_copy(update={"scores": scores})


def test_speeds_that_the_machine_cannot_tell_apart_are_equal() -> None:
    lucky = timed(A, 0.02, 1.4, 2.4, 3.0)
    faithful = timed(B, 0.01, 1.3, 1.5, 1.7)
    surely_slower = timed(C, 0.001, 1.0, 1.2, 1.3)
    assert best([lucky, faithful]) is faithful
    assert best([lucky, surely_slower]) is lucky


def test_when_none_meets_the_least_miss_is_best() -> None:
    assert best([a_trial(A, excess=2.0), b := a_trial(B, excess=1.0)]) is b


def test_before_any_evaluation_the_nearest_on_calibration_images_is_best() -> None:
    first, second = a_trial(A, kl=0.2, status="scored"), a_trial(B, kl=0.1, status="scored")
    assert best([first, second]) is second
    assert best([first, done := a_trial(C, excess=3.0)]) is done
    assert best([Trial(number=1, recipe=A, status="failed", seconds=1, error="x")]) is None
    assert best([]) is None


def test_files_that_were_not_evaluated_are_ranked_by_one_kind_of_kl() -> None:
    """One stopped early has a KL of evaluation images as well; both have one of calibration."""
    stopped = a_trial(A, excess=0.1, kl=0.01, proxy=0.3, status="stopped")
    assert best([stopped, scored := a_trial(B, kl=0.2, status="scored")]) is scored


def test_as_scored_is_what_it_was_before_its_evaluation() -> None:
    done = a_trial(A, kl=0.5, proxy=0.1)
    assert (done.as_scored.status, done.as_scored.scores) == ("scored", None)
    assert (done.divergence, done.as_scored.divergence) == (0.5, 0.1)
    failed = Trial(number=1, recipe=A, status="failed", seconds=1, error="x")
    assert failed.as_scored is failed


def test_the_front_holds_what_nothing_beats_in_everything() -> None:
    fast = a_trial(A, speedup=3.0, excess=-0.1, size=900)
    faithful = a_trial(B, speedup=1.0, excess=-0.9, size=900)
    beaten = a_trial(C, speedup=0.9, excess=-0.5, size=950)
    assert pareto_front([fast, beaten, faithful]) == [fast, faithful]


@pytest.mark.parametrize(
    ("pick", "expected"), [("fastest", 0), ("most-accurate", 1), ("smallest", 2), ("best", 0)]
)
def test_picks(pick: str, expected: int) -> None:
    trials = [
        a_trial(A, speedup=3.0, excess=-0.1, size=900),
        a_trial(B, speedup=1.0, excess=-0.9, size=900),
        a_trial(C, speedup=2.0, excess=-0.2, size=100),
    ]
    assert picked(trials, pick) is trials[expected]  # type: ignore[arg-type]


def test_picking_prefers_what_meets_the_criterion() -> None:
    misses = a_trial(A, speedup=9.0, excess=1.0)
    assert picked([misses, ok := a_trial(B, speedup=2.0)], "fastest") is ok
    assert picked([misses], "fastest") is misses
