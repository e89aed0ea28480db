from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quantlab._util.reporter import NullReporter
from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.errors import QuantizeError
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import judge
from quantlab.inspect.layers import LayerError, LayerReport
from quantlab.report.comparison_page import unjudged_page
from quantlab.report.comparison_tables import FLIPS_SHOWN, shown_flips
from quantlab.report.context import ReportContext
from quantlab.runs.record import RunStatus, load_record
from quantlab.runs.run import Run
from quantlab.testing import fake_predictions, image_folder
from quantlab.verbs.cached_results import keep_layers
from quantlab.verbs.publish import (
    Artifact,
    Failed,
    PageConditions,
    Returned,
    VerbResult,
    comparison_report,
    publish,
    report_files,
    text_file,
    write_artifacts,
)

CONTEXT = ReportContext(command="quantlab compare a b")


@pytest.fixture
def crops(tmp_path: Path) -> Crops:
    folder = image_folder(tmp_path / "images", 8, per_class=25, size=40)
    return load_crops(open_dataset(folder), get_pipeline("tf", 32), cache_dir=tmp_path / "crops")


@pytest.fixture
def comparison(crops: Crops) -> Comparison:
    def answers(flip: float) -> Predictions:
        return replace(fake_predictions(len(crops), 8, flip, 1), names=crops.names)

    return compare(answers(0), answers(0.4))


def report(comparison: Comparison, crops: Crops, tmp_path: Path) -> Path:
    run = Run("compare", {}, "quantlab compare a b", tmp_path / "runs")
    verdict = judge(comparison, parse_decline("1%"))
    write_artifacts(run, comparison_report(comparison, verdict, CONTEXT, crops))
    assert run.record.artifacts == {"report": "report.md", "html_report": "report.html"}
    return run.folder


def test_the_lost_images_are_shown(comparison: Comparison, crops: Crops, tmp_path: Path) -> None:
    folder = report(comparison, crops, tmp_path)
    page = (folder / "report.html").read_text()
    lost = shown_flips(comparison)
    assert len(lost) == FLIPS_SHOWN
    shown = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(shown) == len(lost)
    for flip, data in zip(lost, shown, strict=True):
        crop = crops.array[crops.names.index(flip.image)]
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            mean = np.asarray(image, np.float64).mean()
        assert mean == pytest.approx(crop.mean(), abs=3)
    table = (folder / "report.md").read_text()
    assert all(re.search(rf"^\| {flip.image} +\|", table, re.M) for flip in lost)


def test_layers_where_they_are_known(comparison: Comparison, crops: Crops, tmp_path: Path) -> None:
    before = (report(comparison, crops, tmp_path) / "report.md").read_text()
    assert "## Layers" not in before
    layers = tuple(
        LayerError(
            tensor=f"t{i}", node=f"conv{i}", op_type="Conv", accumulated=20.0 + i, local=30.0 - i,
            drop=None, weight=40.0,
        )
        for i in range(12)
    )  # fmt: skip
    found = LayerReport(
        fp32="a", int8="b", images=16, layers=layers, unmatched=(), first_break="", exclude=(),
        rescaled=False,
    )  # fmt: skip
    keep_layers(comparison.fp32.sha256, comparison.int8.sha256, found)
    folder = report(comparison, crops, tmp_path)
    after = (folder / "report.md").read_text()
    rows = re.findall(r"^\| (conv\d+) ", after, re.M)
    assert rows == [f"conv{i}" for i in range(11, 1, -1)]
    assert "](layers.svg)" in after
    assert "SQNR of every layer" in (folder / "report.html").read_text()
    other = comparison.int8.model_copy(update={"sha256": "0" * 64})
    changed = comparison.model_copy(update={"int8": other})
    assert "## Layers" not in (report(changed, crops, tmp_path) / "report.md").read_text()


def test_what_is_not_judged(tmp_path: Path) -> None:
    run = Run("tune", {}, "quantlab tune", tmp_path / "runs")
    write_artifacts(run, report_files(unjudged_page(CONTEXT)))
    for name in ("report.md", "report.html"):
        assert "No verdict" in (run.folder / name).read_text()


def test_a_result_is_in_the_run_folder(tmp_path: Path) -> None:
    with Run("fetch", {}, "quantlab fetch", tmp_path) as run:
        files = (text_file("first", "a.txt", "A"), text_file("second", "b.txt", "B"))
        found = publish(Returned(7, {"figure": 7}, files), run, NullReporter())
    assert found.value == 7
    record = load_record(run.folder)
    assert (record.status, record.results) == ("success", {"figure": 7})
    assert list(record.artifacts.items()) == [("first", "a.txt"), ("second", "b.txt")]
    assert [(run.folder / file).read_text() for file in record.artifacts.values()] == ["A", "B"]


class Told(VerbResult):
    """Publishes what it is told."""

    def __init__(self) -> None:
        self.seen: list[PageConditions] = []

    def status(self) -> RunStatus:
        return "interrupted"

    def artifacts(self, conditions: PageConditions) -> Iterable[Artifact]:
        self.seen.append(conditions)
        return ()

    def deliver(self, conditions: PageConditions, reporter: Any) -> None:
        self.seen.append(conditions)


def test_a_result_is_told_of_its_run_and_decides_its_status(tmp_path: Path) -> None:
    reporter = NullReporter()
    reporter.warn("beware")
    with Run("tune", {}, "quantlab tune", tmp_path) as run:
        run.record.source = "an earlier run"
        found = publish(Told(), run, reporter)
    assert load_record(run.folder).status == "interrupted"
    first, second = found.seen
    assert first == second
    assert (first.command, first.warnings) == ("quantlab tune", ("beware",))
    assert (first.folder, first.environment) == (run.folder, run.record.environment)
    context = first.complete(ReportContext(data={"Labels": "none"}, warnings=("alone",)))
    assert context.warnings == ("beware", "alone")
    assert context.data == {"Labels": "none", "Picked from the trials of": "an earlier run"}


@dataclass(frozen=True)
class Lost(Failed):
    error: BaseException

    def facts(self) -> dict[str, Any]:
        return {"trials": 3}


@pytest.mark.parametrize(
    ("error", "status"),
    [(QuantizeError("no file."), "error"), (KeyboardInterrupt(), "interrupted")],
)
def test_a_failure_is_published_before_it_is_raised(
    error: BaseException, status: str, tmp_path: Path
) -> None:
    failed: Returned[int] | Lost = Lost(error)
    with pytest.raises(type(error)), Run("tune", {}, "quantlab tune", tmp_path) as run:
        publish(failed, run, NullReporter())
    record = load_record(run.folder)
    assert (record.status, record.results) == (status, {"trials": 3})
