"""Digests of files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from quantlab.errors import FetchError
from quantlab.fetch.digest import check_sha256, content_sha256


def test_a_file_is_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert content_sha256(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()


def test_a_folder_is_its_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"abc")
    first = content_sha256(folder)
    (folder / "a").rename(folder / "b")
    renamed = content_sha256(folder)
    (folder / "b").write_bytes(b"abd")
    assert len({first, renamed, content_sha256(folder)}) == 3


def test_both_digests_are_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    found = hashlib.sha256(b"abc").hexdigest()
    check_sha256(tmp_path / "a", "f" * 64, found)
    with pytest.raises(FetchError, match=f"refused: its sha256 is {found}, expected {'f' * 64}"):
        check_sha256(tmp_path / "a", "f" * 64)
