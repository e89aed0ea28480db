"""Release the memory pages of file-backed arrays once they are used, so that memory does not grow
with the number of rows."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray


def release_pages(array: NDArray[Any], rows: slice | NDArray[np.intp] | None = None) -> None:
    """The pages of these rows, or of all, to the system where a file holds them: they are read
    again when needed. Rows are those of a memory map that is whole, C-contiguous and not sliced."""
    if not (isinstance(array.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")):
        return
    if rows is None or not isinstance(array, np.memmap):
        array.base.madvise(mmap.MADV_DONTNEED)
        return
    size = array[:1].nbytes
    for row in range(*rows.indices(len(array))) if isinstance(rows, slice) else rows.tolist():
        start = array.offset % mmap.ALLOCATIONGRANULARITY + row * size
        first = start - start % mmap.PAGESIZE
        array.base.madvise(mmap.MADV_DONTNEED, first, start + size - first)
