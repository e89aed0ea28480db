"""One team's day with a service, from an empty folder to a trend: everything real, by processes.

start a server → make a token → upload a model by tuning it → watch → download the int8 file →
an independent judge → a gate from a second client, as CI has it → the trend. Then the same against
PostgreSQL with two workers.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from browsers import HANGS_MS, launched
from playwright.sync_api import expect
from waiting import HANGS

from quantlab.runs.record import load_record

QUANTLAB = (sys.executable, "-m", "quantlab")
MODEL = "models/mobilenetv2-12.onnx"
SAMPLE = ("--no-bench", "--calibration-size", "20", "--recipe", "plain.yaml")
RECIPE = """
name: plain
rounding: nearest
equalize: false
bias_correction: false
range_search: false
"""
"""What is quick to quantize by."""
RULES = ("--require", "top1.decline <= 20%", "--require", "agreement >= 50%")


@contextmanager
def process(*words: object, until: str) -> Iterator[str]:
    """A command of quantlab that goes on, from when it says ``until``; what that found."""
    line = [*QUANTLAB, *map(str, words)]
    running = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    try:
        said = []
        for text in running.stderr:
            said.append(text)
            if found := re.search(until, text):
                yield found[1]
                break
        else:
            raise AssertionError("".join(said))
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            assert running.wait(HANGS) == 0
        finally:
            running.kill()
            running.stderr.close()


class Client:
    """A folder of somebody who has a token, and a recipe."""

    def __init__(self, folder: Path, url: str, token: str) -> None:
        folder.mkdir()
        (folder / "plain.yaml").write_text(RECIPE)
        self.folder, self.url, self.token = folder, url, token

    def __call__(self, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """What quantlab --server answers."""
        done = subprocess.run(
            [*QUANTLAB, "--server", self.url, *map(str, words)],
            capture_output=True, text=True, cwd=self.folder, timeout=HANGS,
            env={**os.environ, "QUANTLAB_TOKEN": self.token, "GITHUB_STEP_SUMMARY": ""},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def get(self, path: str) -> Any:
        """The API's answer."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(f"{self.url}/api/v1{path}", headers=headers, timeout=HANGS)
        assert answer.status_code == 200, answer.text
        return answer.json()


def operator(*words: object) -> str:
    """What a command of the operator prints."""
    done = subprocess.run(
        [*QUANTLAB, *map(str, words)], capture_output=True, text=True, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.data
@pytest.mark.browser
@pytest.mark.parametrize(
    ("kind", "workers"), [("sqlite", 0), pytest.param("postgres", 2, marks=pytest.mark.postgres)]
)
def test_a_day_with_the_service(
    kind: str, workers: int, tmp_path: Path, data_root: Path, request: pytest.FixtureRequest
) -> None:
    calibration, images = data_root / "imagenet" / "calib1000", _some(tmp_path / "some", data_root)
    where: list[object] = ["--home", tmp_path / "home"]
    if kind == "postgres":
        where += ["--db", request.getfixturevalue("own_postgres")]
    token = operator("token", "create", "team", "--scope", "submit", *where).split()[-1]
    ci_token = operator("token", "create", "ci", "--scope", "submit", *where).split()[-1]
    operator("dataset", "add", "calib", calibration, *where)
    operator("dataset", "add", "val", images, *where)
    serve = ["serve", "--port", 0, *where, *(["--no-worker"] if workers else [])]
    with ExitStack() as stack:
        url = stack.enter_context(process(*serve, until=r"Serving (\S+)"))
        for _ in range(workers):
            stack.enter_context(process("worker", *where, until="Working as (.+)"))
        team = Client(tmp_path / "team", url, token)
        int8 = _tuned(team, data_root)
        if kind == "sqlite":
            _same_as_here(tmp_path / "here", int8, images, data_root)
        _judged(int8, team, images, data_root)
        ci = Client(tmp_path / "ci", url, ci_token)
        (ci.folder / int8.name).write_bytes(int8.read_bytes())
        _gated(ci, data_root)
        _trend(team, request.getfixturevalue("browser_path"))
        jobs = team.get("/jobs")["items"]
        assert [(job["verb"], job["state"], job["attempts"]) for job in jobs] == [
            ("gate", "done", 1),
            ("tune", "done", 1),
        ]


def _some(folder: Path, data_root: Path) -> Path:
    """Every fifth image of imagenette500."""
    source = data_root / "imagenet" / "imagenette500"
    lines = (source / "val.txt").read_text().splitlines(keepends=True)[::5]
    (folder / "val").mkdir(parents=True)
    for line in lines:
        shutil.copy(source / "val" / line.split()[0], folder / "val")
    (folder / "val.txt").write_text("".join(lines))
    return folder


def _tuned(team: Client, data_root: Path) -> Path:
    """The int8 file, in the client's folder."""
    done = team(
        "tune", "--model", data_root / MODEL, "--data", "calib", "--eval-data", "val", *SAMPLE
    )
    int8 = team.folder / "mobilenetv2-12.int8.onnx"
    assert "int8 model: mobilenetv2-12.int8.onnx" in done.stdout
    assert "Trial 1: plain" in done.stderr
    (run,) = (team.folder / "runs").iterdir()
    assert f"Run:    runs/{run.name}" in done.stderr
    record = load_record(run)
    assert record.status == "success"
    assert str(data_root) not in (run / "run.json").read_text()
    assert (run / "report.html").is_file()
    assert record.results["output"]["sha256"] == hashlib.sha256(int8.read_bytes()).hexdigest()
    return int8


def _same_as_here(folder: Path, int8: Path, images: Path, data_root: Path) -> None:
    """The command line without a server makes the same file."""
    folder.mkdir()
    (folder / "plain.yaml").write_text(RECIPE)
    line = ["tune", "--model", data_root / MODEL, *SAMPLE]
    line += ["--data", data_root / "imagenet" / "calib1000", "--eval-data", images]
    done = subprocess.run([*QUANTLAB, *map(str, line)], cwd=folder, timeout=HANGS, check=True,
                          capture_output=True, text=True)  # fmt: skip
    assert (folder / int8.name).read_bytes() == int8.read_bytes(), done.stdout


def _judged(int8: Path, team: Client, images: Path, data_root: Path) -> None:
    """Whoever knows nothing of quantlab finds the figures of its record."""
    line = [sys.executable, data_root / "judge" / "judge.py", data_root / MODEL, int8]
    line += ["--data", images, "--rounds", 0]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=True)
    _, judged = map(json.loads, done.stdout.splitlines())
    (run,) = (team.folder / "runs").iterdir()
    accuracy = load_record(run).results["comparison"]["int8"]["top1"]
    assert judged["top1"] == pytest.approx(100 * accuracy["value"], abs=0.1)


def _gated(ci: Client, data_root: Path) -> None:
    done = ci("gate", data_root / MODEL, "mobilenetv2-12.int8.onnx", "--data", "val", *RULES,
              "--junit", "junit.xml", "--comment", "comment.md")  # fmt: skip
    assert done.stdout.startswith("PASS")
    assert (ci.folder / "comment.md").read_text().startswith("# PASS")
    assert "<testsuite" in (ci.folder / "junit.xml").read_text()


def _trend(team: Client, browser: str) -> None:
    """By the API, and as a page that somebody looks at."""
    (series,) = team.get("/trends/mobilenetv2-12.int8?metric=top1")["series"]
    assert len(series["points"]) == 2
    with launched(browser) as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(HANGS_MS)
        page.goto(f"{team.url}/trends/mobilenetv2-12.int8")
        page.get_by_label("Token").fill(team.token)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("img")).to_be_visible()
        page.screenshot(path=team.folder / "trend.png", full_page=True)
    assert (team.folder / "trend.png").stat().st_size > 10_000
