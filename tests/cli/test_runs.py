"""quantlab runs ledger."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from quantlab.fetch import catalog

pytestmark = pytest.mark.usefixtures("no_timing", "no_database")


def test_the_ledger_holds_what_runs_measured(cli: Any, scene: Any, tmp_path: Path) -> None:
    accuracy = cli("evaluate", scene.model, *scene.words).record.results["accuracy"]
    figures = cli("bench", scene.model, "--batch", 8).record.results["figures"]
    p50 = next(f["value"] for f in figures if f["metric"] == "p50")
    cli("inspect", scene.model, "--runs-dir", "runs")
    Path("runs/damaged").mkdir()
    Path("runs/damaged/run.json").write_text("{")
    assert cli("runs", "ledger").out.startswith("# Ledger\n")
    assert not Path("reports").exists()
    said = cli("runs", "ledger", "-o", "reports")
    assert any("damaged/run.json is not a run record" in line for line in said.warnings)
    assert Path("reports/ledger.md").read_text().startswith("# Ledger\n")
    with Path("reports/ledger.csv").open() as file:
        rows = list(csv.DictReader(file))
    (mine,) = [row for row in rows if row["model"] == "tiny"]
    assert float(mine["acc@top1"]) == pytest.approx(100 * accuracy["top1"]["value"], rel=1e-4)
    assert (mine["images"], mine["batch size"]) == ("40", "8")
    assert float(mine["ms/step"]) == pytest.approx(p50, rel=1e-4)
    assert float(mine["params(M)"]) < 0.01
    known = {entry.name for entry in catalog().values() if entry.kind == "model"}
    assert known <= {row["model"] for row in rows}
    absent = [row for row in rows if row["weight"] == "model not available here"]
    assert len(absent) == len(known)
    assert not any(row["acc@top1"] or row["ms/step"] for row in absent)
