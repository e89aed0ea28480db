"""``compare --early-stop``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quantlab.testing import tiny_classifier

pytestmark = pytest.mark.usefixtures("no_plots")


@pytest.fixture
def other(scene: Any) -> Path:
    return tiny_classifier(scene.folder / "other.onnx", seed=1)


def test_a_clear_failure_stops_early(cli: Any, scene: Any, other: Path) -> None:
    data = scene.labelled_by_itself("own", 200)
    line = ("--data", data, "--pipeline", scene.pipeline, "--no-bench", "--early-stop")
    said = cli("compare", scene.model, other, *line, code=1)
    sentence = "Stopped early: certain (5%) after 64 of 200 images in a random order."
    assert said.out.startswith("FAIL: other, top-1 decline ")
    assert "(95% interval, valid whenever one stops, " in said.out
    assert sentence in said.out
    report = (said.folder / "report.md").read_text()
    assert sentence in report
    results = said.record.results
    assert results["early_stop"] == {"seen": 64, "images": 200, "decided": True}
    assert results["comparison"]["n"] == 64
    assert results["verdict"]["anytime"]
    assert cli(*said.repeat, code=1).out == said.out


def test_what_is_not_certain_gets_the_usual_verdict(cli: Any, scene: Any) -> None:
    line = (scene.model, scene.near(), *scene.words, "--no-bench")
    usual = cli("compare", *line, code=3)
    said = cli("compare", *line, "--early-stop", code=3)
    assert "Not stopped early: " in said.out
    assert said.record.results["verdict"] == usual.record.results["verdict"]


def test_agreement_needs_no_labels(cli: Any, scene: Any, other: Path) -> None:
    line = ("--data", scene.data / "3", *scene.words[2:], "--no-bench", "--early-stop")
    said = cli("compare", scene.model, other, *line, code=2)
    assert said.complaint == [
        "Error: an evaluation cannot be stopped early by accuracy: the images have no labels.",
        "Give labels (docs/data.md), or --criterion 'agreement >= 96%', which needs none.",
    ]
    cli("compare", scene.model, scene.model, *line, "--criterion", "agreement >= 1%", code=0)


@pytest.mark.parametrize("criterion", ["kl <= 0.01", "module:function.decline <= 1%"])
def test_criteria_without_a_test_are_refused_at_once(cli: Any, criterion: str) -> None:
    line = ("a.onnx", "b.onnx", "--early-stop", "--criterion", criterion)
    said = cli("compare", *line, code=2)
    assert "cannot stop an evaluation early: there is no sequential test for it." in said.err
