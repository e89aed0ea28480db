"""``bench --profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.usefixtures("no_timing", "no_database")


def test_it_comes_after_the_timing(cli: Any, scene: Any, tmp_path: Path) -> None:
    int8 = tmp_path / "tiny-int8.onnx"
    cli("quantize", "--model", scene.model, *scene.words, "--output", int8)
    said = cli("bench", scene.model, int8, "--profile")
    timing, profile = said.out.split("\n\nProfile: ")
    assert "tiny (A/A)" in timing
    assert profile.startswith("batch 1, threads 1, medians of 32 runs")
    assert "tiny-int8: " in profile
    results = said.record.results
    assert results["ratios"]
    for sentence in results["profile"]["answers"]:
        assert sentence in profile
    fp32, quantized = (facts["kernels"] for facts in results["profile"]["models"])
    assert fp32["int8"]["nodes"] == 0 < quantized["int8"]["nodes"]
    assert quantized["quantize"]["nodes"] >= 1
    assert {"profile", "profile plot", "measurements"} <= set(said.record.artifacts)


def test_it_is_of_the_cpu(cli: Any, scene: Any) -> None:
    said = cli("bench", scene.model, "--profile", "--provider", "cuda", code=2)
    assert "leave --provider out" in said.err
