"""cache: what is kept is listed, and goes when asked; what is known is not computed again."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import HANGS

from quantlab.runtime.runner import Runner
from quantlab.testing import tiny_classifier

pytestmark = pytest.mark.usefixtures("no_timing", "no_database", "no_plots")
FAIL = 1

KEPT = ("--runs-dir", "runs")


def forbid_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model was run")

    monkeypatch.setattr(Runner, "__init__", fail)


@pytest.fixture
def other(scene: Any) -> Path:
    return tiny_classifier(scene.folder / "other.onnx", seed=1)


@pytest.fixture
def filled(cli: Any, scene: Any, other: Path) -> Path:
    """The cache folder, once the scene's images and two models' answers are in it."""
    cli("compare", scene.model, other, *scene.words, code=FAIL)
    return Path("cache").resolve()


def test_compare_and_evaluate_of_known_models_run_nothing(
    cli: Any, scene: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ("compare", scene.model, other, *scene.words, "--no-bench")
    first = cli(*line, code=FAIL)
    accuracy = cli("evaluate", other, *scene.words).out
    forbid_inference(monkeypatch)
    again = cli(*line, code=FAIL)
    assert again.out.replace(str(again.folder), str(first.folder)) == first.out
    assert "tiny: answers from the cache\nother: answers from the cache\n" in again.err
    assert cli("evaluate", other, *scene.words).out == accuracy
    same = (again.record.results["comparison"], first.record.results["comparison"])
    assert same[0] == same[1]


def test_a_second_tune_runs_no_whole_evaluation(
    cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.untaught()
    own = scene.labelled_by_itself("own")
    line = ("tune", "--model", scene.model, *scene.words, "--eval-data", own, "--no-bench")
    first = cli(*line, code=None)
    monkeypatch.setattr("quantlab.verbs.evaluate.ParallelRunner", None)
    again = cli(*line, code=None)
    assert "tiny: answers from the cache" in again.err
    trials = [
        [{**trial, "seconds": 0} for trial in said.record.results["trials"]]
        for said in (first, again)
    ]
    assert trials[0] == trials[1]


def test_ls_names_what_is_kept(cli: Any, scene: Any, filled: Path) -> None:
    said = cli("cache", "ls", *KEPT)
    lines = [line.split(" | ") for line in said.out.splitlines() if line.startswith("| ")]
    assert [line[0].strip("| ") for line in lines[2:]].count("predictions") == 2
    assert re.search(r"crops +\| +\d+\.\d\d MB \| \d{4}-\d\d-\d\d \d\d:\d\d \| 40 images", said.out)
    total = sum(p.stat().st_size for p in filled.rglob("*") if p.is_file())
    assert f"4 entries, {total / 1e6:.2f} MB of at most 10.00 GB in {filled}" in said.out
    rows = said.record.results["entries"]
    assert sum(row["bytes"] for row in rows) == said.record.results["bytes"] == total
    assert {row["of"] for row in rows} == {
        f"40 images of {scene.data} (pillow-bilinear, 32 pixels)",
        f"tiny on 40 images of {scene.data} (tiny)",
        f"other on 40 images of {scene.data} (tiny)",
        "MACs of other",
    }


def test_ls_of_one_kind_and_as_json(cli: Any, filled: Path, parsed: Any) -> None:
    listed = parsed(cli("cache", "ls", "--kind", "predictions", "--json"))["results"]["entries"]
    assert [row["kind"] for row in listed] == ["predictions"] * 2
    assert all(len(row["key"]) == 32 for row in listed)


def test_clear_of_one_kind(cli: Any, filled: Path) -> None:
    said = cli("cache", "clear", "--kind", "predictions")
    assert re.fullmatch(rf"Removed 2 entries, .* from {re.escape(str(filled))}\n", said.out)
    assert {p.name for p in filled.iterdir() if list(p.iterdir())} == {"checks", "crops"}


def test_clear_leaves_published_models_and_all_else(cli: Any, filled: Path) -> None:
    published = filled / "published" / "model.onnx"
    published.parent.mkdir()
    published.write_bytes(b"model")
    freed = cli("cache", "clear", *KEPT).record.results
    assert [row["kind"] for row in freed["removed"]].count("crops") == 1
    assert [p for p in filled.rglob("*") if p.is_file()] == [published]
    empty = cli("cache", "ls")
    assert empty.out == f"0 entries, 0 bytes of at most 10.00 GB in {filled}\n"
    assert cli("cache", "clear").out == f"Removed 0 entries, 0 bytes from {filled}\n"


def test_the_limit_is_kept_after_each_write(
    cli: Any, scene: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "150kB")
    for model in (scene.model, other, scene.model):
        cli("evaluate", model, *scene.words)
    results = cli("cache", "ls", *KEPT).record.results
    assert results["bytes"] <= results["limit"] == 150_000
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "0")
    cli("evaluate", other, *scene.words)
    assert cli("cache", "ls", *KEPT).record.results["bytes"] == 0


@pytest.mark.parametrize("words", [("cache", "ls"), ("evaluate", "MODEL", "DATA")])
def test_a_limit_that_is_none_is_said(
    words: tuple[str, ...], cli: Any, scene: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "large")
    named = {"MODEL": (scene.model,), "DATA": scene.words}
    said = cli(*(part for word in words for part in named.get(word, (word,))), code=2)
    assert said.complaint == [
        "Error: QUANTLAB_CACHE_SIZE: 'large' is not a size such as 10GB or 500MB."
    ]


def test_two_processes_that_evict_each_other(scene: Any, other: Path, tmp_path: Path) -> None:
    def start(model: Path, data: Path) -> subprocess.Popen[str]:
        line = ["compare", model, other, "--data", data, *scene.words[2:], "--no-bench", "--quiet"]
        return subprocess.Popen(
            [sys.executable, "-m", "quantlab", *map(str, line)],
            env={"QUANTLAB_CACHE": str(tmp_path / "cache"), "QUANTLAB_CACHE_SIZE": "1B"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    own = scene.labelled_by_itself("own")
    processes = [start(scene.model, data) for data in (scene.data, own)]
    ended = [(*process.communicate(timeout=HANGS), process.returncode) for process in processes]
    assert [code for *_, code in ended] == [FAIL, FAIL], ended
    left = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert left == []
