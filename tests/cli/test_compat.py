"""The flags and lines of other projects' commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from quantlab.bench import instances
from quantlab.bench.harness import bench
from quantlab.model.model import Model


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "quantlab.verbs.bench.bench",
        lambda *args, **options: bench(*args, **{**options, "rounds": 2, "turns": 2}),
    )
    monkeypatch.setattr(instances, "LEAST_SECONDS", 0.01)


@pytest.fixture
def listed(scene: Any) -> Path:
    """Images the model is always right about, with a list."""
    found: Path = scene.labelled_by_itself("own", 20)
    return found


def test_neural_compressors_benchmark_of_accuracy(cli: Any, scene: Any, listed: Path) -> None:
    flags = ("--input_model", scene.model, "--dataset_location", listed)
    flags += ("--label_path", listed / "val.txt", "--batch_size", 1)
    monkey = ("--compat", "inc", "--mode", "accuracy")
    Path("quantlab.yaml").write_text(f"pipeline: {scene.pipeline}\n")
    said = cli("bench", *flags, *monkey)
    assert said.out == "Batch size = 1\nAccuracy: 1.00000\n"
    assert said.repeat[:2] == ["evaluate", str(scene.model)]
    assert cli(*said.repeat).out == said.out
    assert cli("evaluate", *flags, "--compat", "inc").out == said.out


def test_neural_compressors_benchmark_of_performance(cli: Any, scene: Any) -> None:
    flags = ("--input_model", scene.model, "--mode", "performance", "--batch_size", 4)
    said = cli("bench", *flags, "--compat", "inc", "--seconds", 0.1)
    size, latency, throughput = re.fullmatch(
        r"Batch size = (\d+)\nLatency: ([\d.]+) ms\nThroughput: ([\d.]+) images/sec\n", said.out
    ).groups()  # type: ignore[union-attr]
    assert size == "4"
    figures = said.record.results["figures"]
    p50, rate = (
        next(f["value"] for f in figures if f["metric"] == metric)
        for metric in ("p50", "throughput")
    )
    assert float(latency) == pytest.approx(p50 / 4, abs=0.001)
    assert float(throughput) == pytest.approx(rate, abs=0.001)


def test_several_models_are_named_by_arguments_and_flag(cli: Any, scene: Any) -> None:
    said = cli("bench", scene.model, "--input_model", scene.model, "--seconds", 0.1)
    assert said.out.count("| tiny ") == 3  # one of them A/A
    assert said.record.spec["models"] == [str(scene.model)] * 2


@pytest.mark.parametrize(("given", "expected"), [("QDQ", "qdq"), ("qoperator", "qoperator")])
def test_quant_format_narrows_a_tune(
    given: str, expected: str, cli: Any, scene: Any, tmp_path: Path
) -> None:
    output = tmp_path / "int8.onnx"
    words = ("--input_model", scene.model, "--output_model", output, "--no-bench", "--no-audit")
    flags = ("--dataset_location", scene.data, "--quant_format", given, "--max-trials", 1)
    said = cli("tune", *words, *flags, "--pipeline", scene.pipeline, code=None)
    made = Model.load(output)
    assert ("QLinearConv" in made.op_census) == (expected == "qoperator")
    assert said.record.spec["search"] == {"format": [expected]}


def test_the_npus_instances_are_products(cli: Any, scene: Any) -> None:
    said = cli("bench", scene.model, "-i", 1, "-p", 1, "-b", 2, "--seconds", 0.1)
    assert "1 instance of 1 core at once" in said.out
    said = cli("bench", scene.model, "-i", 999, "-p", 2, code=2)
    assert "cannot pin 1998 instances" in said.complaint[0]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--compat", "inc", "--instances", "1", "m.onnx"), "--compat inc is of one instance"),
        ((), "Missing argument 'MODELS...'"),
    ],
)
def test_what_does_not_fit_is_refused(words: tuple[str, ...], complaint: str, cli: Any) -> None:
    assert complaint in cli("bench", *words, code=2).err
