"""benchmarks/noise.py: what it plants, and what its page says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from quantlab.compare.speeds import Contrast
from quantlab.model.model import Model
from quantlab.runtime.runner import Runner
from quantlab.stats.paired import Interval
from quantlab.testing.models import tiny_classifier

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The benchmark, which lies in no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import noise

    yield noise
    sys.modules.pop("noise")


def test_a_slowed_file_answers_the_same(noise: ModuleType, tmp_path: Path) -> None:
    model = Model.load(tiny_classifier(tmp_path / "tiny.onnx"))
    slow = noise.planted_file(model, tmp_path, 3)
    assert sum(node.op_type == "Neg" for node in slow.proto().graph.node) == 6
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with Runner(model) as first, Runner(slow) as second:
        np.testing.assert_array_equal(first(batch), second(batch))


def made(ratio: float, conclusion: str, resolution: float) -> Contrast:
    around = Interval(ratio - 0.01, ratio + 0.01)
    return Contrast(ratio, around, around, 0.01, conclusion, resolution, 15, 42)


def test_the_page_counts(noise: ModuleType) -> None:
    aa = [made(1.0, "same", 0.02), made(1.02, "faster", 0.02)]
    planted = [
        made(0.97, "slower", 0.02),
        made(0.99, "same", 0.05),
        made(0.99, "same", 0.02),
    ]
    page = noise.page(aa, planted, made(0.97, "slower", 0.01), "Facts.")
    cells = [line.split("|") for line in page.splitlines() if line.startswith("| ")]
    found = {row[1].strip(): row[2].strip() for row in cells}
    assert found["A/A: intervals that miss 1 (at most 4 of 40)"] == "1 of 2"
    assert found["A/A: a difference claimed where there is none"] == "1 of 2"
    assert found["planted: found (at least 90%)"] == "1 of 3"
    assert found["planted: not found, and said that 3% cannot be seen"] == "1 of 3"
    assert found["planted: not found, nothing said"] == "1 of 3"
    assert "needs 42 rounds" in page


def test_it_runs_in_small(tmp_path: Path) -> None:
    model = tiny_classifier(tmp_path / "tiny.onnx")
    line = [sys.executable, str(ROOT / "benchmarks" / "noise.py"), "--quick", "--aa", "1"]
    more = ["--planted", "1", "--model", str(model), "--out", str(tmp_path / "noise.md")]
    subprocess.run([*line, *more], check=True, capture_output=True)
    assert "| planted: found (at least 90%) " in (tmp_path / "noise.md").read_text()
