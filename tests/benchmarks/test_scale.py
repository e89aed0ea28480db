"""The paper plan's arithmetic."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_hours_cost_and_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    scale = import_module("scale")
    found = "\n".join(
        scale.plan(
            scale.Constants(decode=100, fp32=50, int8=200, quantize=36, bytes=1e5, task=0.002)
        )
    )
    rows = re.findall(r"^\| \**(\w+)[^|]*\| \**([\d,]+)\** \| \**([\d,]+)\** \|$", found, re.M)
    hours = {name: int(hour.replace(",", "")) for name, hour, _ in rows}
    # 5e7 images at 50/s and 1e9 at 200/s; 2e4 files of 36 s; 100 nodes of 5e4 images at 100/s
    assert (hours["fp32"], hours["int8"], hours["quantizing"]) == (278, 1389, 200)
    assert hours["all"] == round(5e7 / 50 / 3600 + 1e9 / 200 / 3600 + 200 + 5e6 / 100 / 3600)
    assert "500 tasks/s | 32,000 images/s, 160 cores in int8" in found
    assert "10,000 images/s | 100 cores" in found
