"""quantlab bench: its modes and what it refuses, from the command line to the files it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from quantlab.bench import instances, load, machine
from quantlab.bench.harness import bench
from quantlab.bench.instances import throughput
from quantlab.bench.load import offered_load
from quantlab.bench.measurement import BenchResult
from quantlab.cli.bench import command
from quantlab.cli.recorded_run import repeat_command
from quantlab.runtime.environment import available_cpus
from quantlab.testing.models import tiny_classifier, with_boxes

CPUS = len(available_cpus())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Real processes for a moment; what the harness was asked for."""
    asked: dict[str, Any] = {}

    def brief(function: Any, **fewer: Any) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            asked.update(options)
            return function(*args, **{**options, **fewer})

        return call

    monkeypatch.setattr("quantlab.verbs.bench.bench", brief(bench, rounds=2, turns=2))
    monkeypatch.setattr("quantlab.verbs.bench.throughput", brief(throughput, rounds=2))
    monkeypatch.setattr("quantlab.verbs.bench.offered_load", brief(offered_load, rounds=1))
    monkeypatch.setattr(instances, "LEAST_SECONDS", 0.01)
    monkeypatch.setattr(load, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(load, "LEAST_REQUESTS", 1)
    return asked


def test_batch_sizes_with_commas(cli: Any, scene: Any, quick: dict[str, Any]) -> None:
    said = cli("bench", scene.model, "--batch", "1,2", "--batch", 4, "--seconds", 0.1)
    assert quick["batch_sizes"] == (1, 2, 4)
    assert quick["isolation"] == "fresh"
    table = said.out.split("\n\n")[0].splitlines()[2:]
    assert [row.split("|")[2].strip() for row in table] == ["1", "2", "4"] * 2
    conditions = said.record.results["conditions"]
    assert conditions["providers"] == ["CPUExecutionProvider"]
    assert len(conditions["steal"]) <= 2
    stored = BenchResult.load(said.folder / "measurements.json")
    assert stored.batch_sizes == (1, 2, 4)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("m.onnx --batch 1,8", "quantlab bench m.onnx --batch 1 --batch 8"),
        ("m.onnx --rate 5,7.5", "quantlab bench m.onnx --rate 5.0 --rate 7.5"),
        ("m.onnx --export a.csv", "quantlab bench m.onnx --export a.csv"),
    ],
)
def test_the_repeat_command(words: str, expected: str) -> None:
    context = command.make_context("bench", words.split())
    assert repeat_command(context) == expected
    assert command.make_context("bench", expected.split()[2:]).params == context.params


def test_exports(cli: Any, scene: Any, tmp_path: Path) -> None:
    files = [tmp_path / f"new/b.{ending}" for ending in ("json", "csv", "md")]
    line = [word for file in files for word in ("--export", file)]
    said = cli("bench", scene.model, *line, "--seconds", 0.1)
    assert json.loads(files[0].read_text())[0]["name"] == "tiny p50, batch 1"
    assert files[1].read_text().startswith("model,batch,threads,provider,metric,unit,value")
    assert files[2].read_text() == f"{said.out}\n<!-- quantlab bench -->\n"


def test_instances(cli: Any, scene: Any) -> None:
    said = cli("bench", scene.model, scene.model, "--instances", CPUS, "--seconds", 0.1)
    assert f"{CPUS} instance" in said.out
    assert said.record.results["ratios"][0]["noise_floor"] >= 0


def test_a_model_with_boxes_is_timed_where_its_output_is_named(
    cli: Any, tmp_path: Path, quick: dict[str, Any]
) -> None:
    path = tiny_classifier(tmp_path / "boxes.onnx")
    classes = onnx.load(path).graph.output[0].name
    onnx.save(with_boxes(onnx.load(path)), path)
    assert "--output-name names the one of classes" in cli("bench", path, code=2).err
    assert cli("bench", path, "--output-name", classes).out


def test_a_load(cli: Any, scene: Any) -> None:
    line = ("--rate", "20,40", "--seconds", 0.1, "--batch", 2, "--provider", "cpu")
    said = cli("bench", scene.model, *line)
    assert "Poisson arrivals, one queue, 1 instance of 1 core" in said.out
    figures = said.record.results["figures"]
    assert {figure["rate"] for figure in figures} == {20, 40}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (("--instances", CPUS + 1), f"this process may use {CPUS} CPUs"),
        (("--rate", 5, "--threads", CPUS + 1), f"this process may use {CPUS} CPUs"),
        (("--provider", "moon"), "no execution provider moon"),
        (("--export", "b.txt"), "ending says no format"),
    ],
)
def test_refusals_are_two_lines(line: Any, words: str, cli: Any, scene: Any) -> None:
    said = cli("bench", scene.model, *line, code=2)
    assert said.out == ""
    assert len(said.complaint) == 2
    assert words in said.complaint[0]


@pytest.mark.parametrize(
    "line",
    [
        ("--cores-per-instance", 2),
        ("--instances", 1, "--threads", 2),
        ("--batch", "1,x"),
        ("--batch", "0"),
        ("--rate", "0"),
        ("--rounds", 1),
    ],
)
def test_usage(line: Any, cli: Any, scene: Any) -> None:
    said = cli("bench", scene.model, *line, code=2)
    assert "Usage: " in said.err


def test_steal_and_a_moving_clock_are_warned_of(
    cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = iter([1000.0, 2000.0])
    monkeypatch.setattr(machine, "steal_share", lambda *_: 0.25)
    monkeypatch.setattr(machine, "frequency_mhz", lambda cpus: next(rates))
    said = cli("bench", scene.model, "--seconds", 0.1)
    assert "25% of the" in said.warnings[0]
    assert "1,000 and 2,000 MHz" in said.warnings[1]
