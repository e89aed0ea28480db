"""Two tunes of two processes on one Optuna study."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError
from waiting import HANGS, until

from quantlab.tune.trial_store import TrialStore

SPACE = "search: {ranges: [mean, mse, percentile], rounding: [nearest], equalize: [true, false]}\n"


@pytest.mark.parametrize("strategy", ["grid", "random"])
def test_two_tunes_share_their_trials(scene: Any, strategy: str, tmp_path: Path) -> None:
    Path("quantlab.yaml").write_text(SPACE)
    url = f"sqlite:///{tmp_path / 'study.db'}"
    words = ["tune", "--model", scene.model, *scene.words, "--strategy", strategy, "--no-bench"]
    words += ["--criterion", "agreement >= 1%", "--storage", url, "--max-trials", "100"]
    running = [_tune("a", words)]
    until(lambda: _made(url) or running[0].poll() is not None)  # now there is something to share
    assert running[0].poll() is None
    running.append(_tune("b", words))
    said = [process.communicate(timeout=HANGS) for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(err for _, err in said)
    files = {hashlib.sha256(Path(f"{name}.onnx").read_bytes()).hexdigest() for name in "ab"}
    assert len(files) == 1
    tried = [
        {trial.digest for trial in TrialStore(next(Path(f"runs-{name}").iterdir())).trials()}
        for name in "ab"
    ]
    assert tried[0] == tried[1]
    assert len(tried[0]) == 6
    made = _made(url)
    assert 6 <= made < 2 * 6
    taken = sum(err.count("done on another machine") for _, err in said)
    assert taken == 2 * 6 - made


def _tune(name: str, words: Sequence[object]) -> subprocess.Popen[str]:
    own = ("--runs-dir", f"runs-{name}", "--output", f"{name}.onnx")
    line = [sys.executable, "-m", "quantlab", *map(str, words), *own]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _made(url: str) -> int:
    """How many trials the study holds; there may be none yet."""
    try:
        return sum(summary.n_trials for summary in optuna.get_all_study_summaries(url))
    except (OptunaError, SQLAlchemyError):
        return 0
