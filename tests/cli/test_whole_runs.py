"""Runs with nothing made up: real timing, real plots, real processes, a real Ctrl-C."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from waiting import HANGS, until

from quantlab.bench.harness import bench
from quantlab.model.model import Model

QUANTLAB = (sys.executable, "-m", "quantlab")


@pytest.fixture
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real latencies, few of them."""

    def quick(models: Any, **settings: Any) -> Any:
        return bench(models, **{**settings, "seconds": 0.05, "rounds": 4})

    monkeypatch.setattr("quantlab.verbs.bench.bench", quick)


@pytest.mark.usefixtures("quick_timing")
def test_tune_then_compare(cli: Any, scene: Any, tmp_path: Path) -> None:
    before = scene.snapshot()
    output = tmp_path / "int8.onnx"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: plain\nengine: ort\n")
    tuned = cli(
        "tune", "--model", scene.model, *scene.words, "--output", output, "--recipe", recipe
    )
    assert "x fp32" in tuned.err
    compared = cli("compare", scene.model, output, *scene.words, code=3)
    for said in (tuned, compared):
        report = (said.folder / "report.md").read_text()
        for picture in ("latency.svg", "confidence.svg"):
            assert f"({picture})" in report
            assert (said.folder / picture).read_text().startswith("<svg ")
        page = (said.folder / said.record.artifacts["html_report"]).read_text()
        assert page.startswith("<!doctype html>")
        assert said.record.results["verdict"]["reason"] in page
        assert said.record.results["comparison"]["speeds"]
    assert scene.snapshot() == before


@pytest.mark.usefixtures("quick_timing")
def test_bench_in_a_process_of_its_own(cli: Any, scene: Any) -> None:
    said = cli("bench", scene.model, scene.model, "--batch", 2)
    assert "tiny (A/A)" in said.out
    (ratio,) = said.record.results["ratios"]
    assert 0.2 < ratio["speedup"] < 5


def test_the_installed_command_from_outside(scene: Any, tmp_path: Path) -> None:
    line = [*QUANTLAB, "evaluate", str(scene.model), *scene.words]
    run = partial(subprocess.run, capture_output=True, text=True, cwd=tmp_path, timeout=HANGS)
    first = run(line)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("Top-1 ")
    repeat = first.stderr.splitlines()[-1].removeprefix("Repeat: ")
    again = run([*QUANTLAB, *shlex.split(repeat)[1:]])
    assert (again.returncode, again.stdout) == (0, first.stdout)
    coloured = run(line, env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b" not in coloured.stdout
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_at_any_time_leaves_a_whole_file(scene: Any, tmp_path: Path) -> None:
    """The signal goes to the whole group, as from a terminal: the timing process hears it too."""
    output, config = tmp_path / "best.onnx", tmp_path / "long.yaml"
    config.write_text("bench:\n  rounds: 10000\n  seconds: 120\n")  # never done by itself
    line = ["tune", "--config", config, "--model", scene.model, *scene.words, "--output", output]
    with (tmp_path / "stderr").open("w+") as said:
        process = subprocess.Popen(
            [*QUANTLAB, *line],
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=tmp_path,
            start_new_session=True,
            env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        )
        try:
            until(lambda: output.exists() or process.poll() is not None)
            time.sleep(0.3)
            os.killpg(process.pid, signal.SIGINT)
            _wait_or_say_where(process)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        err = said.read()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert f"written to {output}" in err
    assert Model.load(output).is_quantized
    (folder,) = (tmp_path / "runs").iterdir()
    record = json.loads((folder / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert not list(tmp_path.glob(".best*"))


def _wait_or_say_where(process: subprocess.Popen[bytes]) -> None:
    """What hangs is asked for its stacks before it is killed."""
    try:
        process.wait(timeout=HANGS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        process.wait(timeout=HANGS)
