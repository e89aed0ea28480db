"""Memory that is freed goes back to the system."""

from __future__ import annotations

import platform

import numpy as np
import psutil
import pytest

from quantlab.runtime import memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be asked to")
def test_a_large_process_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    def resident() -> int:
        return int(psutil.Process().memory_info().rss)

    blocks = [np.ones(10_000) for _ in range(2_000)]  # 160 MB, too small to be mapped one by one
    full = resident()
    del blocks[:-1]  # the last one keeps the heap from ending earlier
    monkeypatch.setattr(memory, "MUCH", 2**60)
    memory.release()
    kept = resident()
    monkeypatch.setattr(memory, "MUCH", 0)
    memory.release()
    assert resident() < full - 100e6
    assert kept > resident() + 50e6
