"""Every line that the verbs print, at 100 and at 60 columns, as it is in ``snapshots/``.

``QUANTLAB_SNAPSHOTS=write pytest tests/cli/test_snapshots.py`` writes them anew, to be read.
"""

from __future__ import annotations

import itertools
import os
import re
import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from quantlab._util.terminal import table_width
from quantlab.cli import VERBS, main, output

FOLDER = Path(__file__).parent / "snapshots"
WIDTHS = (100, 60)
WRITE = os.environ.get("QUANTLAB_SNAPSHOTS") == "write"
DATA = "--data data --pipeline pipeline.yaml"
SESSION = {
    "init": "init",
    "evaluate": f"evaluate tiny.onnx {DATA}",
    "cache-ls": "cache ls",
    "evaluate-zoo": f"evaluate tiny.onnx {DATA} --compat",
    "evaluate-inc": f"evaluate tiny.onnx {DATA} --compat inc",
    "validate": "validate config.yaml --data_dir data --pipeline pipeline.yaml",
    "predict": "predict tiny.onnx data/0/000.png data/1/000.png --pipeline pipeline.yaml --top 2",
    "quantize": f"quantize tiny.onnx {DATA}",
    "tune": f"tune tiny.onnx {DATA} --max-decline 60% --max-trials 1 -o best.onnx",
    "compare": f"compare tiny.onnx near.onnx {DATA}",
    "compare-zoo": f"compare tiny.onnx near.onnx {DATA} --compat --no-bench",
    "compare-export": f"compare tiny.onnx near.onnx {DATA} --no-bench --export c.csv -q",
    "bench": "bench tiny.onnx near.onnx --batch 1,8",
    "gate": f"gate tiny.onnx near.onnx {DATA} --require 'agreement >= 60%' --require 'size <= 1MB'",
    "gate-fails": f"gate tiny.onnx near.onnx {DATA} --require 'size <= 1kB'",
    "baseline-update": f"baseline update near.onnx {DATA}",
    "baseline-show": "baseline show",
    "baseline-diff": "baseline diff quantlab-baseline.yaml",
    "inspect": "inspect tiny.onnx",
    "inspect-int8": "inspect tiny.int8.onnx --scales",
    "inspect-layers": f"inspect --layers tiny.onnx tiny.int8.onnx {DATA} --images 8",
    "inspect-target": "inspect tiny.int8.onnx --target tensorrt",
    "data": f"data npz tiny.onnx {DATA} -o npz",
    "recipes": "recipes",
    "cache-clear": "cache clear --kind predictions",
    "runs-ls": "runs ls",
    "runs-show": "runs show latest~2",
    "runs-diff": "runs diff latest~1 latest",
    "runs-prune": "runs prune --older-than 0s --keep-best --dry-run",
    "runs-index": "runs index",
    "runs-rm": "runs rm latest --yes",
    "error-model": "evaluate nowhere.onnx",
    "error-verb": "tun tiny.onnx",
    "error-option": "tune tiny.onnx --buget 5m",
    "error-target": "quantize tiny.onnx --target tensort",
    "error-number": "bench tiny.onnx --rounds many",
    "error-rule": "gate tiny.onnx near.onnx --require 'top1.declin <= 1%'",
    "error-json": "evaluate nowhere.onnx --json",
}
"""By name, the command lines of one sitting, one after the other."""
FACTS = {
    "isa": "avx512-vnni",
    "cpu": "Some CPU",
    "os": "Linux",
    "machine": "x86_64",
    "physical_cores": "2",
    "logical_cores": "2",
    "memory": "8.0 GB",
    "quantlab": "0.0.0",
    **dict.fromkeys(("onnxruntime", "openvino", "numpy", "pillow", "onnx", "python"), "1.0.0"),
}


class Clock(datetime):
    """Every look at it is a second later."""

    seen = itertools.count()

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """See datetime."""
        return datetime(2026, 1, 1, tzinfo=tz) + timedelta(seconds=next(cls.seen))


def normal(text: str, folder: Path) -> str:
    """The text without what differs from machine to machine: figures become zeros."""
    text = text.replace(folder.resolve().as_uri(), "file:///HERE").replace(str(folder), "HERE")
    text = re.sub(r"\b[0-9a-f]{12,64}\b", lambda found: "0" * len(found[0]), text)
    text = re.sub(r"\d{8}T\d{6}Z", "00000000T000000Z", text)
    number = r"(?<![A-Za-z0-9.])(?<![A-Za-z]-)(\d[\d,.]*\d|\d(?=%))"
    return re.sub(number, lambda found: re.sub(r"\d", "0", found[0]), text)


def compared(name: str, width: int, text: str) -> str:
    """The name of a snapshot that has another text, or nothing."""
    path = FOLDER / f"{name}-{width}.txt"
    if WRITE:
        path.write_text(text, encoding="utf-8")
    there = path.read_text(encoding="utf-8") if path.is_file() else ""
    return "" if there == text else path.name


@pytest.fixture
def sitting(scene: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, images and a configuration, on a machine that is always the same."""
    scene.near()
    (scene.folder / "config.yaml").write_text("model: tiny.onnx\n")
    numbers = itertools.count()
    monkeypatch.chdir(scene.folder)
    monkeypatch.setenv("QUANTLAB_CACHE", "cache")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("quantlab.runtime.environment._facts", lambda: FACTS)
    monkeypatch.setattr("quantlab.runs.run.datetime", Clock)
    monkeypatch.setattr("quantlab.runs.run.secrets.token_hex", lambda _: f"{next(numbers):06}")
    monkeypatch.setattr("quantlab.verbs.tune._other_runtime", lambda spec: None)
    monkeypatch.setattr("quantlab.report.text._local", lambda stamp: "2026-01-01 00:00")
    return scene.folder


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.usefixtures("no_timing", "no_database", "no_plots")
def test_what_the_verbs_print(width: int, sitting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantlab.cli.terminal_width", lambda: width)
    other = []
    for name, line in SESSION.items():
        said = CliRunner().invoke(main, shlex.split(line), prog_name="quantlab")
        parts = [f"$ quantlab {line}\n", said.stdout, f"[exit {said.exit_code}]\n", said.stderr]
        text = normal("".join(parts), sitting)
        rows = said.stdout.splitlines() if not name.startswith(("init", "error")) else []
        assert all(len(row) <= width or "|" not in row for row in rows), f"{name}: {said.stdout}"
        other += [compared(name, width, text)]
    assert [name for name in other if name] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_what_help_says(width: int) -> None:
    within, other = min(width, 80) - 2, []  # as click has it on a terminal
    for words in ((), *((verb,) for verb in VERBS), ("runs", "prune"), ("baseline", "update")):
        said = CliRunner().invoke(
            main, [*words, "--help"], prog_name="quantlab", terminal_width=within
        )
        assert all(len(row) <= width for row in said.stdout.splitlines()), said.stdout
        other += [compared("-".join(["help", *words]), width, said.stdout)]
    assert [name for name in other if name] == []


def test_no_snapshot_is_left_over() -> None:
    found = {path.name for path in FOLDER.glob("*.txt")}
    helps = {"help", "help-runs-prune", "help-baseline-update", *(f"help-{v}" for v in VERBS)}
    assert found == {f"{name}-{width}.txt" for name in {*SESSION, *helps} for width in WIDTHS}


@pytest.mark.parametrize(
    ("line", "colour"), [("PASS: a", "green"), ("FAIL: a", "red"), ("INCONCLUSIVE: a", "yellow")]
)
def test_the_verdict_has_a_colour(line: str, colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(output.click, "echo", said.append)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with table_width(80):
        output.print_result(f"{line}\nPlain text.")
        assert said == [click.style(line, fg=colour, bold=True) + "\nPlain text."]
        monkeypatch.setenv("NO_COLOR", "1")
        output.print_result(line)
    monkeypatch.delenv("NO_COLOR")
    output.print_result(line)
    assert said[1:] == [line, line]
