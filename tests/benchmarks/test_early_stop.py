"""The simulation in small: the promised error rates and savings of compare --early-stop."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("early_stop")


@pytest.mark.parametrize("alike", [0.97, 0.92])
@pytest.mark.parametrize("decline", [0.0, 0.04])
def test_clear_cases_err_seldom_and_save_half(
    simulation: ModuleType, decline: float, alike: float
) -> None:
    cell = simulation.decline_cell(decline, alike, pairs=100)
    assert max(cell.wrong_pass, cell.wrong_fail) <= 0.05
    assert (cell.passes if decline == 0 else cell.fails) >= 0.95
    assert cell.used <= 0.5


def test_on_the_limit_each_error_stays_below_five_percent(simulation: ModuleType) -> None:
    """Of 400 pairs; three standard errors are 3 points. The usual interval errs far more often."""
    cells = [
        simulation.decline_cell(0.01, 0.95, pairs=400, images=10_000),
        simulation.agreement_cell(0.96, pairs=400, images=10_000),
    ]
    for cell in cells:
        assert max(cell.wrong_pass, cell.wrong_fail) <= 0.05 + 0.03
        assert cell.misses <= 0.05 + 0.03
        assert cell.naive > 0.1


def test_the_page_has_all_cells(simulation: ModuleType) -> None:
    few = {"pairs": 5, "images": 2000}
    declines = {(d, 0.95): simulation.decline_cell(d, 0.95, **few) for d in (0.0, 0.04)}
    page = simulation.page(declines, {0.98: simulation.agreement_cell(0.98, **few)}, 5, 0)
    assert page.count("| 95% | ") == 2
    assert "| 98% | " in page
