from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from quantlab._util.terminal import table_width
from quantlab.inspect.kernels import KernelKind
from quantlab.inspect.profile import NodeTime, Profile
from quantlab.report.plots import save_profiles
from quantlab.report.profile import OPERATORS_SHOWN, profile_summary


def profile(name: str, operators: int, kind: KernelKind) -> Profile:
    nodes = tuple(
        NodeTime(name=f"a/long/name/of/a/node/{i}" * 3, op_type=f"Op{i}", kind=kind, ms=1 + i)
        for i in range(operators)
    )
    run_ms = sum(node.ms for node in nodes) + 2
    return Profile(model=name, batch_size=1, threads=1, runs=32, run_ms=run_ms, nodes=nodes)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_summary_is_narrow_and_whole(count: int) -> None:
    found = [profile(f"net{i}", 1 + 10 * i, "int8" if i else "fp32") for i in range(count)]
    with table_width(99):
        text = profile_summary(found)
    assert max((len(x) for x in text.splitlines() if x.startswith("|")), default=0) < 100
    for part in ("what profiling costs included", "between operators", "whole run"):
        assert part in text
    assert all(f"slowest in net{i}" in text for i in range(count))
    assert (" others " in text) == (10 * (count - 1) + 1 > OPERATORS_SHOWN)


def test_the_plot(tmp_path: Path) -> None:
    path = tmp_path / "profile.png"
    save_profiles([profile("net", 3, "fp32"), profile("net-int8", 12, "int8")], path)
    with Image.open(path) as image:
        assert image.size[0] > 500
    save_profiles([profile("net", 1, "fp32")], path)
