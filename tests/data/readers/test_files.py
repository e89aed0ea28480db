from __future__ import annotations

from pathlib import Path

import pytest

from quantlab.data.readers import files
from quantlab.data.readers.files import FileSource, is_image, read_text
from quantlab.errors import DataError


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.jpg", True), ("A.JPEG", True), ("a.b.tiff", True), ("a.txt", False), (".a.png", False)],
)
def test_is_image(name: str, expected: bool) -> None:
    assert is_image(name) is expected


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    source = FileSource(["a"], [str(tmp_path)])
    assert source.read(0) == b"0123456789"
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 9)
    with pytest.raises(DataError, match=r"^a: larger than"):
        source.read(0)
    monkeypatch.setattr(files, "MAX_TEXT_BYTES", 9)
    with pytest.raises(DataError, match="not a list"):
        read_text(tmp_path / "a")


def test_an_unreadable_folder_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none cannot be read: no such file"):
        files.images_below(tmp_path / "none")
