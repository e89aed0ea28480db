"""The simulation in small: the gate's promised error rates, and those of other ways."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import binom

from quantlab.compare.compare import compare
from quantlab.gate.criteria import AccuracyCriterion
from quantlab.gate.verdict import judge
from quantlab.testing import fake_predictions

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 1000


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("verdicts")


def most(rate: float, pairs: int = PAIRS) -> float:
    """What a true ``rate`` exceeds in one of 10,000 tries."""
    return float(binom.ppf(0.9999, pairs, rate)) / pairs


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("n", [100, 1800, 50_000])
@pytest.mark.parametrize("changed", [0.03, 0.08])
@pytest.mark.parametrize("decline", [0.0, 0.01, 0.03])
def test_wrong_verdicts_and_coverage(
    simulation: ModuleType, decline: float, changed: float, n: int, relative: bool
) -> None:
    cell = simulation.decline_cell(decline, changed, n, relative=relative, pairs=PAIRS)
    assert max(cell.wrong_pass, cell.wrong_fail) <= most(0.04)
    assert 1 - cell.coverage <= most(0.06)


def test_it_decides_once_there_are_enough_images(simulation: ModuleType) -> None:
    assert simulation.decline_cell(0.0, 0.08, 50_000, relative=True, pairs=PAIRS).passes > 0.99
    assert simulation.decline_cell(0.03, 0.08, 50_000, relative=True, pairs=PAIRS).fails > 0.99


def test_other_ways_are_wrong_far_more_often(simulation: ModuleType) -> None:
    """On the limit a threshold is a coin; a plain z test cannot see a decline that pairs show."""
    cell = simulation.decline_cell(0.01, 0.08, 10_000, relative=True, pairs=PAIRS)
    _, threshold, lm_eval = cell.others
    assert min(threshold[:2]) > 0.3
    assert lm_eval[0] > 0.5
    paired = simulation.decline_cell(0.03, 0.03, 1800, relative=True, pairs=PAIRS)
    assert paired.others[0][2] > 0.9 > 0.1 > paired.undecided


@pytest.mark.parametrize("n", [100, 10_000])
def test_agreement(simulation: ModuleType, n: int) -> None:
    for least, agreement in ((0.95, 0.95), (0.95, 0.97), (0.99, 0.99)):
        cell = simulation.agreement_cell(least, agreement, n, pairs=PAIRS)
        assert max(cell.wrong_pass, cell.wrong_fail) <= most(0.025)


def test_kl(simulation: ModuleType) -> None:
    cell = simulation.kl_cell(0.05, 50, pairs=300)
    assert max(cell.wrong_pass, cell.wrong_fail) <= most(0.05, 300)


def test_a_thousand_classes_and_several_rules(simulation: ModuleType) -> None:
    wrong, found = simulation.class_errors(10, pairs=60, classes=300)
    assert wrong <= most(0.025, 60)
    assert simulation.class_errors(50, pairs=60, classes=300)[1] > 0.4 > found
    alone, held = simulation.family_error(4, 10_000, pairs=PAIRS)
    assert alone > 0.06
    assert held <= most(0.025)


def test_the_page_has_every_row(simulation: ModuleType) -> None:
    execution = {"pairs": 20, "seed": 0}
    cell = {
        (100, 0.08, 0.01, relative): simulation.decline_cell(
            0.01, 0.08, 100, relative=relative, **execution
        )
        for relative in (True, False)
    }
    page = simulation.page(
        cell,
        {(100, 0.95, 0.95): simulation.agreement_cell(0.95, 0.95, 100, **execution)},
        {(50, 0.05): simulation.kl_cell(0.05, 50, **execution)},
        {(60, 0.5): simulation.unchanged_cell(0.5, simulation.LOSING, 60, **execution)},
        {5: (0.01, 0.5)},
        {2: (0.05, 0.025)},
        **execution,
    )
    rows = [line for line in page.splitlines() if line.startswith("| ") and "--:" not in line]
    assert len(rows) == 7 + 7
    tables = [line.count("|") for line in rows]
    assert tables[0] == tables[1] == 13


def test_a_model_that_differs_is_seldom_taken_for_unchanged(simulation: ModuleType) -> None:
    for n, share in simulation.UNCHANGED:
        alone, wrong = simulation.unchanged_cell(share, simulation.LOSING, n, pairs=10_000)
        assert alone == pytest.approx((1 - share) ** n, abs=0.01)
        assert alone <= most(0.025, 10_000)
        assert wrong <= most(0.04, 10_000)


def test_the_gate_judges_models_that_differ_as_simulated() -> None:
    """By their outputs: with a decline of 3% on 60 images, few pass, and few have to fail."""
    rng, passes = np.random.default_rng(0), 0
    for number in range(300):
        fp32 = fake_predictions(60, 10, 0, number, accuracy=0.72)
        assert fp32.labels is not None
        lost = (fp32.top(1)[:, 0] == fp32.labels) & (rng.random(60) < 0.03)
        differs = lost | (rng.random(60) < 0.1)
        outputs = fp32.outputs + 0.01 * differs[:, None] * rng.standard_normal((60, 10))
        outputs[lost, fp32.labels[lost]] -= 100
        int8 = replace(fp32, model_sha256="f" * 64, outputs=outputs.astype(np.float32))
        passes += judge(compare(fp32, int8), AccuracyCriterion()).status == "pass"
    assert passes / 300 <= most(0.025, 300)
