"""A tune that is killed at any moment loses nothing that was finished."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import psutil
from waiting import until

from quantlab.runs.record import load_record
from quantlab.testing.images import image_folder
from quantlab.testing.models import tiny_classifier
from quantlab.tune.trial_store import TrialStore
from quantlab.tune.trials import Trial

KILLS = 20
PIPELINE = (
    "resizer: pillow-bilinear\nresize: 36\ncrop: 32\nmean: [127, 127, 127]\nstd: [64, 64, 64]\n"
)


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "quantlab", "tune", "--quiet", *options]


def fresh(folder: Path) -> list[str]:
    return command(
        *("--model", "m.onnx", "--data", "images", "--pipeline", "p.yaml"),
        *("--strategy", "exhaustive", "--engine", "ort", "--max-trials", "6", "--no-bench"),
        *("--output", str(folder / "out.onnx"), "--runs-dir", str(folder)),
    )


def finished(folder: Path) -> dict[str, Trial]:
    return {t.digest: t for t in TrialStore(folder).trials() if t.status != "scored"}


def only_run(folder: Path) -> Path:
    return next(p for p in folder.iterdir() if p.is_dir())


def waited_for() -> float:
    """Seconds of CPU of all processes that have ended: however busy the machine, as many."""
    spent = os.times()
    return spent.children_user + spent.children_system


def used(pid: int) -> float:
    """Seconds of CPU of a process that runs, 0 once it has ended."""
    try:
        return float(sum(psutil.Process(pid).cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0


def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    tiny_classifier(tmp_path / "m.onnx", classes=4)
    image_folder(tmp_path / "images", 4, 6)
    (tmp_path / "p.yaml").write_text(PIPELINE)
    own = {**os.environ, "QUANTLAB_CACHE": str(tmp_path / "own-cache")}
    before = waited_for()
    subprocess.run(fresh(tmp_path / "whole"), check=True, capture_output=True, env=own)
    seconds = waited_for() - before
    whole = only_run(tmp_path / "whole")

    rng = random.Random(0)
    cut = tmp_path / "cut"
    first = subprocess.Popen(fresh(cut), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until(lambda: list(cut.glob("*/run.json")))
    run = only_run(cut)
    first.kill()
    first.wait()
    known: dict[str, Trial] = {}
    kills = 0
    while kills < KILLS:
        process = subprocess.Popen(
            command("--resume", str(run)), stderr=subprocess.PIPE, stdout=subprocess.PIPE
        )
        moment = rng.uniform(0.1, 0.5) * seconds
        until(lambda: used(process.pid) >= moment or process.poll() is not None)  # noqa: B023
        process.kill()
        _, error = process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert process.returncode in (0, -signal.SIGKILL), error.decode()
        now = finished(run)
        assert {d: now[d] for d in known} == known, "a finished trial changed or ran again"
        known = now

    subprocess.run(command("--resume", str(run)), check=True, capture_output=True)
    assert load_record(run).status == "success"
    ended, expected = finished(run), finished(whole)
    assert {d: (t.sha256, t.scores) for d, t in ended.items()} == {
        d: (t.sha256, t.scores) for d, t in expected.items()
    }
    assert {d: ended[d] for d in known} == known
    outputs = [(tmp_path / name / "out.onnx").read_bytes() for name in ("whole", "cut")]
    assert outputs[0] == outputs[1]
