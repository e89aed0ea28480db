"""``compare --criterion``: every kind of criterion from the command line to the record."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from quantlab.testing import tiny_classifier

METRIC = "def margin(outputs, labels):\n    return outputs.max(1) - outputs.min(1)\n"


@pytest.mark.usefixtures("no_plots")
@pytest.mark.parametrize(
    ("criterion", "code", "line"),
    [
        ("agreement >= 99%", 1, "FAIL: other, agreement with fp32 "),
        ("kl <= 100", 0, "PASS: other, KL divergence from fp32 "),
        ("kl <= 0.0001", 1, "FAIL: other, KL divergence from fp32 "),
        ("margin_of_a_test:margin 1%", 0, "PASS: other, margin_of_a_test:margin decline "),
    ],
)
def test_criteria(
    criterion: str,
    code: int,
    line: str,
    cli: Any,
    scene: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    (tmp_path / "margin_of_a_test.py").write_text(METRIC)
    other = tiny_classifier(scene.folder / "other.onnx", seed=1)
    data = ("--data", scene.labelled_by_itself("own"), "--pipeline", scene.pipeline)
    words = (scene.model, other, *data, "--no-bench", "--criterion", criterion)
    said = cli("compare", *words, code=None)
    assert (said.code, said.out[: len(line)]) == (code, line)
    results = said.record.results
    assert set(results["comparison"]["custom"]) == (
        {"margin_of_a_test:margin"} if "margin" in criterion else set()
    )
    assert results["verdict"]["reason"] in (said.folder / "report.md").read_text()


def test_a_wrong_criterion_is_told_before_anything_runs(cli: Any) -> None:
    said = cli("compare", "a.onnx", "b.onnx", "--data", "x", "--criterion", "agree=96%", code=2)
    assert "'agree=96%' is not a criterion." in said.err
    assert "'kl <= 0.01'" in said.err


def test_compare_takes_one_limit(cli: Any, scene: Any) -> None:
    line = ("--criterion", "kl <= 0.01", "--max-decline", "2%")
    said = cli("compare", scene.model, scene.model, *scene.words, *line, code=2)
    assert "Give --criterion or --max-decline, not both." in said.err
