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
    said = cli("compare", "a.onnx", "b.onnx", "--data", "x", "--criterion", "96% agree", code=2)
    assert "'96% agree' does not say what must hold." in said.err
    assert "'kl <= 0.01'" in said.err


def test_compare_takes_one_limit(cli: Any, scene: Any) -> None:
    line = ("--criterion", "kl <= 0.01", "--max-decline", "2%")
    said = cli("compare", scene.model, scene.model, *scene.words, *line, code=2)
    assert "Give --criterion or --max-decline, not both." in said.err


def test_an_older_spelling_is_read_and_told_and_recorded_as_it_is_now(
    cli: Any, scene: Any, no_plots: None
) -> None:
    near = scene.near()
    line = (scene.model, near, *scene.words)
    said = cli("compare", *line, "--no-bench", "--criterion", "agree>=50%", code=None)
    told = "Warning: 'agree>=50%' is an older spelling of 'agreement >= 50%'."
    assert said.warnings.count(told) == 1
    assert said.repeat[said.repeat.index("--criterion") + 1] == "agreement >= 50%"
    assert said.record.spec["criterion"] == "agreement >= 50%"
    assert cli(*said.repeat, code=None).warnings == []
    quiet = cli("compare", *line, "--no-bench", "--max-decline", "0.5pp", code=None)
    assert quiet.warnings == []


@pytest.mark.parametrize("where", ["flag", "file"])
def test_what_must_not_be_is_the_older_way_to_say_what_a_gate_requires(
    cli: Any,
    scene: Any,
    no_plots: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ("gate", scene.model, scene.near(), *scene.words)
    if where == "flag":
        said = cli(*line, "--fail-if", "kl > 9", "--fail-if", "agreement >= 1%", code=None)
        assert said.repeat.count("--require") == 2
        assert said.record.spec["require"] == ["kl <= 9", "agreement >= 1%"]
    else:
        Path("quantlab.yaml").write_text("gate: {fail_if: [kl > 9, agreement >= 1%]}")
        said = cli(*line, code=None)
    assert [w for w in said.warnings if "spelling" in w] == [
        "Warning: 'kl > 9' is an older spelling of 'kl <= 9'."
    ]
    rules = [j["rule"]["text"] for j in said.record.results["gate"]["judged"]]
    assert rules == ["kl <= 9", "agreement >= 1%"]
