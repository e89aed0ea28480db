"""Temporary folders, and what killed processes leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantlab._util.files import remove_parts, write_whole
from quantlab._util.scratch import owner_of, scratch, temporary_folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_what_a_killed_process_left_is_removed_by_the_next(temporary: Path, tmp_path: Path) -> None:
    left = temporary / f"quantlab-{owner_of(tmp_path / 'run')}" / "quantlab-abc"
    left.mkdir(parents=True)
    with scratch(tmp_path / "run"), scratch(tmp_path / "another"), temporary_folder() as folder:
        assert not left.exists()
        assert folder.parent.name == f"quantlab-{owner_of(tmp_path / 'another')}"
    assert not list(temporary.iterdir())
    with temporary_folder() as folder:
        assert folder.parent == temporary


def test_unfinished_files_are_removed_but_not_those_of_others(tmp_path: Path) -> None:
    for name in (".o[1].onnx.mine-a.part", ".o[1].onnx.other-b.part", ".o1.onnx.mine-c.part"):
        (tmp_path / name).touch()
    write_whole(tmp_path / "o[1].onnx", "x", "mine")
    remove_parts(tmp_path, "o[1].onnx.mine")
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"o[1].onnx", ".o[1].onnx.other-b.part", ".o1.onnx.mine-c.part"}
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["o[1].onnx"]
