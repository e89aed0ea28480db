from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import FakeAttempt, front, groups

from quantlab.quantize.placement import FrontPoint
from quantlab.recipe import Recipe
from quantlab.tune import strategies
from quantlab.tune.front import Front
from quantlab.tune.ladder import ladder, ladder_of
from quantlab.tune.sampling import sampled, suggestion
from quantlab.tune.search import Search, SearchLimits, SearchOutcome, run_search
from quantlab.tune.trial_store import TrialStore

FREE = SearchLimits(budget=1e9)
START = Recipe(name="start")


def run(search: Search, attempt: FakeAttempt, folder: Path) -> SearchOutcome:
    return run_search(search, attempt, TrialStore(folder), FREE)


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


def test_the_ladder_ends_with_its_first_rung_where_that_meets_and_is_faster(
    tmp_path: Path,
) -> None:
    rungs = [Recipe(name=f"r{i}", seed=i) for i in range(4)]
    outcome = run(strategies.ladder(rungs), FakeAttempt(lambda recipe: {"faster": True}), tmp_path)
    assert [t.recipe.name for t in outcome.trials] == ["r0"]
    assert (outcome.untried, outcome.later) == ((), "")


def test_every_target_engine_and_dynamic_range_leads() -> None:
    rungs = [
        Recipe(name="a"),
        Recipe(name="a-qoperator", format="qoperator"),
        Recipe(name="a-ort", engine="ort"),
        Recipe(name="b", target="openvino"),
        Recipe(name="b-plain", target="openvino", rounding="nearest"),
        Recipe(name="c", activations="dynamic"),
    ]

    def leading(*engines: str) -> list[str]:
        return [rung.name for rung in strategies.leaders(rungs, engines)]

    assert leading("quantlab") == ["a", "b", "c"]
    assert leading("quantlab", "ort") == ["a", "a-ort", "b", "c"]
    assert leading("inc") == ["a", "c"]


def test_the_ladder_goes_on_while_none_meets_and_then_walks_the_front(tmp_path: Path) -> None:
    rungs = [Recipe(name=f"r{i}", seed=i) for i in range(3)]
    attempt = needs("conv0")
    outcome = run(strategies.ladder(rungs, front(4)), attempt, tmp_path)
    assert outcome.best is not None
    assert outcome.best.recipe.exclude == ("conv0", "relu0")
    evaluated = [t for t in outcome.trials if t.status == "done"]
    assert len(evaluated) == 4


SCORES = {"qdq": 0.1978, "qoperator": 0.1978, "ort-qdq-mean": 0.2951, "qdq-plain": 0.3459}
"""Of EfficientNet-B0."""


def of_ladder(speeds: dict[str, float]) -> FakeAttempt:
    """The ladder's scores above; a rung without a speed was not timed."""

    def answer(recipe: Recipe) -> dict[str, float]:
        speed = speeds.get(recipe.name)
        timed = {} if speed is None else {"speedup": speed, "faster": speed > 1}
        return {"kl": SCORES[recipe.name], **timed}

    return FakeAttempt(answer)


def evaluated(attempt: FakeAttempt) -> list[str]:
    names = {recipe.digest: recipe.name for recipe in ladder()}
    return [names[digest] for digest, evaluate in attempt.made if evaluate]


def test_two_formats_of_one_network_are_one_structure() -> None:
    qdq, qoperator, plain, ort = ladder()
    assert qdq.structure == qoperator.structure
    assert len({r.structure for r in (qdq, plain, ort)}) == 3


def test_what_meets_and_is_faster_ends_the_ladder(tmp_path: Path) -> None:
    attempt = of_ladder(dict.fromkeys(SCORES, 2.0))
    run(strategies.ladder(ladder()), attempt, tmp_path)
    assert evaluated(attempt) == ["qdq"]


@pytest.mark.parametrize("speeds", [{}, dict.fromkeys(SCORES, 0.8)])
def test_while_nothing_is_known_to_be_faster_than_fp32_the_others_are_tried(
    tmp_path: Path, speeds: dict[str, float]
) -> None:
    """Also where nothing is timed: then the nearest to fp32 is the best."""
    attempt = of_ladder(speeds)
    run(strategies.ladder(ladder()), attempt, tmp_path)
    assert evaluated(attempt) == ["qdq", "ort-qdq-mean", "qdq-plain", "qoperator"]


def test_what_is_faster_and_meets_the_criterion_ends_it(tmp_path: Path) -> None:
    attempt = of_ladder({**dict.fromkeys(SCORES, 0.8), "ort-qdq-mean": 1.3})
    outcome = run(strategies.ladder(ladder()), attempt, tmp_path)
    assert evaluated(attempt) == ["qdq", "ort-qdq-mean"]
    assert outcome.best is not None
    assert outcome.best.recipe.name == "ort-qdq-mean"


def test_a_resumed_ladder_goes_by_the_same_scores(tmp_path: Path) -> None:
    """An evaluation's KL does not take the place of the score that ordered the rungs."""
    rungs = [Recipe(name=f"r{i}", seed=i) for i in range(3)]

    def answer(recipe: Recipe) -> dict[str, float]:
        return {"proxy": 0.1 * (1 + recipe.seed), "kl": 1.0, "faster": False, "speedup": 0.9}

    whole, cut = FakeAttempt(answer), FakeAttempt(answer)
    run(strategies.ladder(rungs), whole, tmp_path / "whole")
    for trials in (1, 2, 3):
        limits = SearchLimits(1e9, max_trials=trials)
        run_search(strategies.ladder(rungs), cut, TrialStore(tmp_path / "cut"), limits)
    assert cut.made == whole.made


def left(outcome: SearchOutcome) -> list[str]:
    return [p.recipe.name for p in outcome.untried]


def test_the_ladder_knows_what_a_limit_leaves_untried(tmp_path: Path) -> None:
    limits = SearchLimits(1e9, max_trials=1)

    def ended(attempt: FakeAttempt, folder: str, limits: SearchLimits = limits) -> SearchOutcome:
        search = strategies.ladder(ladder(), front(2))
        return run_search(search, attempt, TrialStore(tmp_path / folder), limits)

    quick = ended(of_ladder(dict.fromkeys(SCORES, 2.0)), "a")
    assert (quick.stop, left(quick)) == ("finished", [])
    slow = of_ladder(dict.fromkeys(SCORES, 0.8))
    first = ended(slow, "b")
    assert left(first) == ["qoperator", "qdq-plain", "ort-qdq-mean"]
    scored = ended(slow, "b", SearchLimits(1e9, max_trials=2))
    assert left(scored) == ["qdq-plain", "qoperator"]
    assert scored.later == ""
    missing = ended(FakeAttempt(lambda recipe: {"excess": 1.0}), "c")
    assert strategies.WALKING in missing.later


@pytest.mark.parametrize(
    ("search", "names", "later"),
    [
        (lambda: strategies.grid(START, {"ranges": ["mean", "mse", "minmax"]}), 2, ""),
        (lambda: strategies.basic(ladder(), lambda r: groups(3)), 3, strategies.FALLING_BACK),
        (lambda: strategies.sensitivity(START, front(3)), 1, strategies.WALKING),
        (lambda: strategies.conservative(START, lambda r: groups(3)), 1, strategies.QUANTIZING),
        (lambda: sampled(START, {"ranges": ["mean", "mse", "minmax"]}, "random", 0, list), 2, ""),
    ],
)
def test_every_strategy_knows_what_a_limit_leaves_untried(
    search: Callable[[], Search], names: int, later: str, tmp_path: Path
) -> None:
    attempt = FakeAttempt(lambda recipe: {"excess": 1.0})
    outcome = run_search(search(), attempt, TrialStore(tmp_path), SearchLimits(1e9, max_trials=1))
    assert (len(outcome.untried), outcome.later) == (names, later)


@pytest.mark.parametrize("needed", range(9))
def test_sensitivity_ends_with_the_fastest_placement_that_meets(
    tmp_path: Path, needed: int
) -> None:
    """Whatever number of groups the criterion needs in fp32, out of eight."""
    attempt = needs(*(f"conv{i}" for i in range(needed)))
    outcome = run(strategies.sensitivity(START, front(8)), attempt, tmp_path)
    assert outcome.best is not None
    assert outcome.best.recipe == front(8)(START).recipe(needed)
    assert len(outcome.trials) == needed + 1, "each point has half the error of the one before"


def test_the_error_is_halved_and_then_bisected(tmp_path: Path) -> None:
    """A front of thousandths: the first half is passed at once."""
    points = tuple(
        FrontPoint(exclude=(f"conv{i:03}",), time=i, error=(1000 - i) / 1000, weight=1.0)
        for i in range(1000)
    )

    def answer(recipe: Recipe) -> dict[str, float]:
        number = int(recipe.name.rpartition("-")[2]) if recipe.exclude else 0
        return {"excess": 1.0 if number < 600 else -1.0, "speedup": 1.04**-number}

    walked = strategies.sensitivity(START, lambda recipe: Front(start=recipe, points=points))
    outcome = run(walked, FakeAttempt(answer), tmp_path)
    assert outcome.best is not None
    assert outcome.best.recipe.name == "start-front-600"
    tried = [t.recipe.name.rpartition("-")[2] for t in outcome.trials]
    assert tried[:4] == ["start", "500", "750", "625"]
    assert len(tried) < 12


def test_sensitivity_gives_up_at_the_end_of_the_front(tmp_path: Path) -> None:
    attempt = FakeAttempt(lambda recipe: {"excess": 1.0})
    outcome = run(strategies.sensitivity(START, front(5)), attempt, tmp_path)
    assert [len(t.recipe.exclude) // 2 for t in outcome.trials] == [0, 1, 2, 3, 4, 5]
    alone = run(strategies.sensitivity(START, front(0)), attempt, tmp_path / "alone")
    assert [t.recipe for t in alone.trials] == [START]


def test_the_front_keeps_what_the_start_excludes() -> None:
    start = START.model_copy(update={"exclude": ("conv9",)})
    found = front(2)(start)
    assert found.recipe(0) == start
    assert found.recipe(1).exclude == ("conv0", "conv9", "relu0")


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

    def search(folder: Path, limits: SearchLimits) -> SearchOutcome:
        strategy = sampled(START, space, sampler, 7, list)  # type: ignore[arg-type]
        return run_search(strategy, attempt, TrialStore(folder), limits)

    whole = search(tmp_path / "whole", FREE)
    assert len(whole.trials) == 6
    search(tmp_path / "cut", SearchLimits(1e9, max_trials=3))
    resumed = search(tmp_path / "cut", FREE)
    assert [t.digest for t in resumed.trials] == [t.digest for t in whole.trials]
    assert suggestion(START, space, whole.trials, sampler, 7) is None  # type: ignore[arg-type]


def test_a_variant_follows_the_defaults_of_its_types() -> None:
    made = strategies.variant(Recipe(name="start"), {"activations": "u16"})
    assert made is not None
    assert (made.ranges, made.range_search) == ("minmax", False)
