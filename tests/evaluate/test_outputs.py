"""Room for outputs: in memory while they are few, in a file that nobody sees beyond that."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from quantlab.evaluate.outputs import IN_MEMORY, new_outputs


def test_few_outputs_are_in_memory() -> None:
    outputs = new_outputs(IN_MEMORY // 4, 1)
    assert not isinstance(outputs, np.memmap)
    assert (outputs.shape, outputs.dtype) == ((IN_MEMORY // 4, 1), np.float32)


def test_many_are_in_a_file_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    outputs = new_outputs(IN_MEMORY // 4 + 1, 1)
    assert isinstance(outputs, np.memmap)
    assert (outputs.shape, outputs.dtype) == ((IN_MEMORY // 4 + 1, 1), np.float32)
    outputs[:] = 7
    assert float(outputs.sum(dtype=np.float64)) == 7 * len(outputs)
    assert list(tmp_path.iterdir()) == []
