"""Two tunes of two processes on one Optuna study."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from quantlab.tune.ledger import Ledger

SPACE = "search: {ranges: [mean, mse, percentile], rounding: [nearest], equalize: [true, false]}\n"


@pytest.mark.parametrize("strategy", ["grid", "random"])
def test_two_tunes_share_their_trials(scene: Any, strategy: str, tmp_path: Path) -> None:
    Path("quantlab.yaml").write_text(SPACE)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    words = ["tune", "--model", scene.model, *scene.words, "--strategy", strategy, "--no-bench"]
    words += ["--criterion", "agree>=1%", "--storage", url, "--max-trials", "100"]
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "quantlab", *map(str, words)),
                *("--runs-dir", f"runs-{name}", "--output", f"{name}.onnx"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "ab"
    ]
    said = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(err for _, err in said)
    files = {hashlib.sha256(Path(f"{name}.onnx").read_bytes()).hexdigest() for name in "ab"}
    assert len(files) == 1
    tried = [
        {trial.digest for trial in Ledger(next(Path(f"runs-{name}").iterdir())).trials()}
        for name in "ab"
    ]
    assert tried[0] == tried[1]
    assert len(tried[0]) == 6
    (summary,) = optuna.get_all_study_summaries(url)
    made = summary.n_trials
    assert 6 <= made <= 8
    taken = sum(err.count("done on another machine") for _, err in said)
    assert taken == 2 * 6 - made
