"""evaluate --results, compare with results, data npz: what goes to other devices and comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.evaluate.predictions import Predictions

pytestmark = pytest.mark.usefixtures("no_timing", "no_database", "no_plots")


@pytest.fixture
def known(cli: Any, scene: Any) -> Predictions:
    """The model's own answers on the scene."""
    said = cli("evaluate", scene.model, *scene.words)
    return Predictions.load(said.folder / "predictions.npz")


@pytest.fixture
def results(known: Predictions, tmp_path: Path) -> Path:
    """These answers as another device would give them: one float32 file an image."""
    folder = tmp_path / "results"
    for name, row in zip(known.names, known.outputs, strict=True):
        path = folder / f"{name}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        row.tofile(path)
    return folder


def test_inputs_evaluate_to_the_same(
    cli: Any, scene: Any, known: Predictions, tmp_path: Path
) -> None:
    said = cli("data", "npz", "--model", scene.model, *scene.words, "--output", tmp_path / "npz")
    assert said.out == f"Wrote 40 inputs and npz_datalist.txt to {tmp_path / 'npz'}\n"
    for place in ("npz", "npz/npz_datalist.txt"):
        line = ("--data", tmp_path / place, "--pipeline", scene.pipeline)
        again = cli("evaluate", scene.model, *line)
        found = Predictions.load(again.folder / "predictions.npz")
        assert np.array_equal(found.outputs, known.outputs)
        assert np.array_equal(found.labels, known.labels)
    assert cli("evaluate", scene.model, *scene.words).out == again.out


def test_accuracy_of_results(cli: Any, scene: Any, known: Predictions, tmp_path: Path) -> None:
    here = cli("evaluate", scene.model, *scene.words)
    labels = tmp_path / "labels.txt"
    rows = zip(known.names, known.labels, strict=True)  # type: ignore[arg-type]
    labels.write_text("".join(f"{name} {label}\n" for name, label in rows))
    np.savez(tmp_path / "device.npz", names=known.names, outputs=known.outputs)
    for label in (labels, scene.data):
        said = cli("evaluate", "--results", tmp_path / "device.npz", "--label", label)
        assert said.out == here.out
        assert said.warnings == []
        accuracy = said.record.results["accuracy"]
        assert accuracy == here.record.results["accuracy"]
        assert cli(*said.repeat).out == said.out


def test_results_of_one_class_have_no_top5(cli: Any, known: Predictions, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("a.jpg 3\nb.jpg 2 1\nd.jpg 0\n")
    (tmp_path / "labels.txt").write_text("a.jpg 3\nb.jpg 1\nc.jpg 0\n")
    said = cli("evaluate", "--results", tmp_path / "r.txt", "--label", tmp_path / "labels.txt")
    assert said.out.startswith("Top-1 50.00%")
    assert said.out.endswith("(1 of 2)\n")
    assert said.out.count("\n") == 1
    (warning,) = said.warnings
    assert "2 images count: " in warning
    assert said.record.results["accuracy"]["top5"] is None
    assert json.loads((said.folder / "run.json").read_text())["status"] == "success"


@pytest.mark.parametrize(
    ("results", "labels", "message"),
    [
        ("a 0.5 1.5\n", "b 0\n", "none is of the same name"),
        ("a 0.5 1.5\n", "a 2\n", "Labels out of range"),
        ("a 1 2\n", "a -1\n", "Labels out of range"),
    ],
)
def test_results_that_do_not_fit(
    cli: Any, tmp_path: Path, results: str, labels: str, message: str
) -> None:
    (tmp_path / "r.txt").write_text(results)
    (tmp_path / "labels.txt").write_text(labels)
    line = ("--results", tmp_path / "r.txt", "--label", tmp_path / "labels.txt")
    said = cli("evaluate", *line, code=2)
    assert message in said.err
    assert len(said.complaint) == 2


def test_labels_are_needed(cli: Any, scene: Any, tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_text("000 1\n")
    line = ("evaluate", "--results", tmp_path / "r.txt")
    assert "--results FILE and --label LABELS go together." in cli(*line, code=2).err
    assert "go together" in cli("evaluate", scene.model, "--label", "l.txt", code=2).err
    assert "give one of MODEL and --results" in cli("evaluate", scene.model, *line[1:], code=2).err
    said = cli(*line, "--label", scene.data, *scene.words, code=2)
    assert "--results cannot be combined with --data, --pipeline." in said.err
    said = cli(*line, "--label", scene.data / "0", code=2)
    assert (
        said.err
        == f"Error: {scene.data / '0'} has no labels.\nGive a list of lines `name label`.\n"
    )


def test_compare_with_results(cli: Any, scene: Any, results: Path) -> None:
    said = cli("compare", scene.model, results, *scene.words)
    comparison = said.record.results["comparison"]
    assert comparison["fidelity"]["identical"]
    assert (comparison["n"], comparison["unmatched"]) == (40, 0)
    assert comparison["speeds"] == []
    assert comparison["int8"]["name"] == "results"
    predictions = {"fp32_predictions", "int8_predictions"}
    assert set(said.record.artifacts) == {"report", "html_report", *predictions}
    report = (said.folder / "report.md").read_text()
    assert "another device's; nothing was timed" in report
    assert cli(*said.repeat).out == said.out


def test_compare_with_one_file_of_results(
    cli: Any, scene: Any, known: Predictions, tmp_path: Path
) -> None:
    names = [f"device/{name}" for name in known.names]
    np.savez(tmp_path / "device.npz", names=names[1:], outputs=known.outputs[1:] * 2)
    said = cli("compare", scene.model, tmp_path / "device.npz", *scene.words, code=2)
    assert "none is of the same name" in said.err
    np.savez(tmp_path / "device.npz", names=known.names[1:], outputs=known.outputs[1:] * 2)
    said = cli("compare", scene.model, tmp_path / "device.npz", *scene.words, code=3)
    comparison = said.record.results["comparison"]
    assert (comparison["n"], comparison["unmatched"]) == (39, 1)
    assert comparison["fidelity"]["agreement"]["value"] == 1
    assert not comparison["fidelity"]["identical"]
    assert "39 images count" in said.warnings[0]


def test_what_cannot_be_compared(cli: Any, scene: Any, results: Path, tmp_path: Path) -> None:
    line = ("compare", scene.model, results, *scene.words)
    assert "--early-stop needs two models" in cli(*line, "--early-stop", code=2).err
    (tmp_path / "classes.txt").write_text("0/000.png 1\n")
    said = cli("compare", scene.model, tmp_path / "classes.txt", *scene.words, code=2)
    assert "holds classes, and a comparison needs the scores" in said.err
    assert "quantlab evaluate --results" in said.err
    (tmp_path / "few.txt").write_text("0/000.png 1.5 2.5\n")
    said = cli("compare", scene.model, tmp_path / "few.txt", *scene.words, code=2)
    assert "holds 2 scores an image, tiny.onnx has 10 classes" in said.err
