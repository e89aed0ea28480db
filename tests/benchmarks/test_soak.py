"""The soak in small: crashes, a kill and, where a disk can be mounted, a full one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def deadline() -> int:
    """Seconds by which an engine that does not hang is done, as busy as the machine is."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import quantlab.verbs.quantize"], check=True)
    return 8 + round(20 * (time.perf_counter() - start))


def test_a_small_soak_loses_nothing(tmp_path: Path) -> None:
    options = ["--trials", "6", "--kills", "1", "--full", "1", "--seed", "7"]
    options += ["--deadline", str(deadline())]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "soak.py"), *options, "--out", "soak.md"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "soak.md").read_text()
    assert "| trials | 6 |" in page
    assert "failed: the engine's" in page
