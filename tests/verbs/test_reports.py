from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quantlab.compare.compare import compare
from quantlab.compare.comparison import Comparison
from quantlab.data.crops import Crops, load_crops
from quantlab.data.preprocess import get_pipeline
from quantlab.data.readers import open_dataset
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.notation import parse_decline
from quantlab.gate.verdict import judge
from quantlab.inspect.layers import LayerError, LayerReport
from quantlab.report.context import ReportContext
from quantlab.report.tables import FLIPS_SHOWN, shown_flips
from quantlab.runs.run import Run
from quantlab.testing import fake_predictions, image_folder
from quantlab.verbs import reports
from quantlab.verbs.checks import keep_layers

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
    reports.report(run, comparison, verdict, CONTEXT, crops)
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
    reports.report_unjudged(run, CONTEXT)
    for name in ("report.md", "report.html"):
        assert "No verdict" in (run.folder / name).read_text()
