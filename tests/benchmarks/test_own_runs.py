"""The repository's own runs: commands that exist, and the page over them."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import click
import pytest

from quantlab.cli import main
from quantlab.fetch import catalog
from quantlab.testing.runs import fake_run

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def own_runs(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("own_runs")


def test_every_command_is_one_of_quantlabs(own_runs: ModuleType) -> None:
    every = list(own_runs.commands())
    assert len(every) == len({tuple(words) for words in every})
    for verb, *words in every:
        command = main.get_command(click.Context(main), verb)
        assert command is not None
        command.make_context(verb, list(words))
    assert set(own_runs.RECIPES) <= set(catalog())


def test_the_page_holds_the_last_run_of_each_command(own_runs: ModuleType, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = "quantlab compare tiny.onnx tiny-int8.onnx"
    first = fake_run(runs, n=50, started="2026-01-01T12:00:00+00:00", command=f"{command} --quiet")
    fake_run(runs, n=60, started="2026-01-02T12:00:00+00:00", command=command)
    fake_run(runs, n=50, status="error", results={}, command="quantlab evaluate x.onnx")
    fake_run(runs, n=50, name="other", command="quantlab compare tiny.onnx other.onnx")
    (runs / "damaged").mkdir()
    (runs / "damaged" / "run.json").write_text("{")
    assert command in {record.command for record in own_runs.finished(runs)}
    page = own_runs.page(runs)
    assert page.count("| compare |") == 2
    assert "2026-01-02" in page
    assert page.count(f"`{command}`\n\n> ") == 1
    assert "on 60 images" in page
    assert "error" not in page
    assert str(tmp_path) not in page
    assert first.is_dir()


def test_what_has_been_run_is_not_run_again(
    own_runs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    class Done:
        returncode = 0

    def run(words: list[str], **_: object) -> Done:
        asked.append(words[3:])
        return Done()

    monkeypatch.setattr(own_runs.subprocess, "run", run)
    fake_run(tmp_path / "runs", n=20, command="quantlab inspect a.onnx --quiet")
    every = [["inspect", "a.onnx"], ["inspect", "b.onnx"]]
    assert own_runs.run_all(tmp_path, every, fresh=False) == []
    assert asked == [["inspect", "b.onnx", "--quiet"]]
    Done.returncode = 2
    assert own_runs.run_all(tmp_path, every, fresh=True) == [
        "quantlab inspect a.onnx",
        "quantlab inspect b.onnx",
    ]
