"""Pages that are given back are read again, and count no more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil
import pytest

from quantlab._util.pages import release_pages

MIB = 1024**2


@pytest.fixture
def mapped(tmp_path: Path) -> np.memmap:  # type: ignore[type-arg]
    np.save(tmp_path / "a.npy", np.arange(64 * MIB // 8).reshape(64, -1))
    return np.load(tmp_path / "a.npy", mmap_mode="r")  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [None, slice(0, 64), np.arange(64)])
def test_memory_does_not_keep_what_was_read(
    mapped: np.memmap,  # type: ignore[type-arg]
    rows: slice | np.ndarray | None,  # type: ignore[type-arg]
) -> None:
    process = psutil.Process()
    before = process.memory_info().rss
    total = int(mapped.sum())
    read = process.memory_info().rss
    release_pages(mapped, rows)
    after = process.memory_info().rss
    assert read - before > 48 * MIB
    assert after - before < 16 * MIB
    assert int(mapped.sum()) == total


def test_an_array_in_memory_stays_as_it_is() -> None:
    array = np.arange(12).reshape(3, 4)
    release_pages(array)
    release_pages(array, slice(0, 2))
    np.testing.assert_array_equal(array, np.arange(12).reshape(3, 4))
