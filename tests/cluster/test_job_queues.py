"""The cluster of docs/scale.md that SLURM starts, with programs of SLURM's names that run a job on
this machine."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from waiting import HANGS

from quantlab.cluster.executor import open_executor
from quantlab.cluster.shards import Sharded
from quantlab.evaluate.execution import Execution

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
SBATCH = """\
#!/bin/sh
cp "$1" {folder}/job.sh
TMPDIR={folder}/node setsid bash {folder}/job.sh > {folder}/job.log 2>&1 &
echo $! >> {folder}/jobs
echo "Submitted batch job $!"
"""
SCANCEL = """\
#!/bin/sh
for job in "$@"; do kill -- -$job; done
"""


def recipe(port: int) -> str:
    """The page's program for a cluster of two cores, whose scheduler has this port."""
    (text,) = re.findall(r"```python\n(from dask_jobqueue.*?)```", PAGE.read_text(), re.S)
    changes = {"=16": "=2", '"32GB"': '"4GB"', "8786": str(port), "jobs=20": "jobs=1"}
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return str(text)


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def slurm(tmp_path: Path, port: int) -> Iterator[Path]:
    """A folder in which SLURM's doubles work, and the recipe with them."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text.format(folder=tmp_path))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "node").mkdir()
    (tmp_path / "jobs").touch()
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    said = tmp_path / "said"
    with (
        said.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", recipe(port)],
            env={**os.environ, "PATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as program,
    ):
        try:
            assert program.stdout is not None
            assert program.stdout.read(len("dask://HOST")) == "dask://HOST", said.read_text()
            yield tmp_path
            program.communicate("\n", timeout=HANGS)
            assert program.returncode == 0, said.read_text()
        finally:
            program.kill()
            for job in (tmp_path / "jobs").read_text().split():
                with suppress(ProcessLookupError):
                    os.killpg(int(job), signal.SIGKILL)


def test_workers_that_slurm_starts(slurm: Path, port: int, scene: Any) -> None:
    """They give the very bits, and keep their crops on their node."""
    with open_executor(f"dask://127.0.0.1:{port}") as executor:
        assert executor is not None
        sharded = Sharded(executor)
        crops = sharded.read(scene.dataset, scene.pipeline, 0.01, lambda done, total: None)
        order = np.arange(len(crops))
        found = list(sharded.answers(scene.model, crops, Execution(threads=1), order))
        for rows, outputs in found:
            np.testing.assert_array_equal(outputs, scene.answers[rows])
        assert sum(len(rows) for rows, _ in found) == len(crops)
    assert len((slurm / "jobs").read_text().split()) == 1
    assert "#SBATCH -t 04:00:00" in (slurm / "job.sh").read_text()
    assert (slurm / "node" / "quantlab").is_dir()
