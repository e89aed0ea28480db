"""The cache folder: what goes when it is too large, and that nothing else ever goes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from quantlab._util.cache import (
    ABANDONED,
    DEFAULT_LIMIT,
    CacheEntry,
    EntryKind,
    Store,
    cache_limit,
    entries,
    key_of,
    remove,
    subject,
    surplus,
    touch,
    trim,
)
from quantlab.errors import QuantlabError

KEYS = [f"{i:032x}" for i in range(4)]


def entry(used: float, size: int) -> CacheEntry:
    return CacheEntry("crops", (), size, used)


@pytest.mark.parametrize(
    ("sizes", "limit", "left"),
    [
        ((3, 3, 3), 9, [0, 1, 2]),
        ((3, 3, 3), 8, [1, 2]),
        ((3, 3, 3), 3, [2]),
        ((3, 3, 3), 0, []),
        ((1, 9, 2), 5, [0, 2]),
        ((1, 2, 9), 2, [1]),
        ((), 0, []),
    ],
)
def test_the_least_recently_used_go_first(
    sizes: tuple[int, ...], limit: int, left: list[int]
) -> None:
    rows = [entry(used, size) for used, size in enumerate(sizes)]
    gone = surplus(reversed(rows), limit)
    assert [row.used for row in rows if row not in gone] == left


def put(
    root: Path, key: str, kind: EntryKind = "crops", size: int = 1000, age: float = 100
) -> Path:
    """An entry that was used ``age`` seconds ago."""
    path = root / kind / f"{key}.{'npy' if kind == 'crops' else 'npz'}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    path.with_suffix(".json").write_text(json.dumps({"of": f"entry {key[-1]}"}))
    for file in (path, path.with_suffix(".json")):
        os.utime(file, (time.time() - age,) * 2)
    return path


def keys(root: Path) -> list[str]:
    return [e.files[0].stem for e in entries(root)]


def test_entries_are_the_files_of_one_key(tmp_path: Path) -> None:
    first = put(tmp_path, KEYS[0], age=300)
    second = put(tmp_path, KEYS[1], "predictions", age=200)
    found = entries(tmp_path)
    assert [e.kind for e in found] == ["predictions", "crops"]
    assert found[1].files == (first.with_suffix(".json"), first)
    assert found[1].size == 1000 + first.with_suffix(".json").stat().st_size
    assert [subject(e) for e in found] == ["entry 1", "entry 0"]
    touch(first)
    assert [e.kind for e in entries(tmp_path)] == ["crops", "predictions"]
    assert entries(tmp_path, ["predictions"])[0].files[1] == second


@pytest.mark.parametrize("text", ["", "[]", "{}", "\x00"])
def test_an_entry_without_a_note_is_of_nothing_known(text: str, tmp_path: Path) -> None:
    path = put(tmp_path, KEYS[0])
    path.with_suffix(".json").write_text(text)
    assert subject(entries(tmp_path)[0]) == ""
    path.with_suffix(".json").unlink()
    assert subject(entries(tmp_path)[0]) == ""


def test_there_may_be_no_cache_folder(tmp_path: Path) -> None:
    assert entries(tmp_path / "none") == []
    trim(tmp_path / "none", 0)
    assert not (tmp_path / "none").exists()


def test_both_kinds_share_one_limit(tmp_path: Path) -> None:
    put(tmp_path, KEYS[0], "predictions", age=300)
    put(tmp_path, KEYS[1], "crops", age=200)
    put(tmp_path, KEYS[2], "predictions", age=100)
    trim(tmp_path, 2100)
    assert keys(tmp_path) == [KEYS[2], KEYS[1]]


def test_nothing_but_entries_is_removed(tmp_path: Path) -> None:
    root, outside = tmp_path / "cache", tmp_path / "outside"
    strangers = [
        root / "published" / "model.onnx",
        root / "crops" / "mine.npy",
        root / "crops" / f"{KEYS[0]}.txt",
        root / "predictions" / f"{KEYS[0]}.npz" / "file",
        root / "crops" / f".{KEYS[1]}.npy.abcd",
        outside / f"{KEYS[2]}.npy",
    ]
    for path in strangers:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(100))
    link = root / "crops" / f"{KEYS[3]}.npy"
    link.symlink_to(strangers[-1])
    put(root, KEYS[0])
    trim(root, 0)
    assert entries(root) == []
    assert all(path.stat().st_size == 100 for path in strangers)
    assert link.is_symlink()


def test_a_folder_elsewhere_is_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", KEYS[0])
    root = tmp_path / "cache"
    root.mkdir()
    (root / "crops").symlink_to(tmp_path / "elsewhere" / "crops")
    trim(root, 0)
    assert entries(root) == []
    assert keys(tmp_path / "elsewhere") == [KEYS[0]]


def test_what_killed_processes_left_is_swept_once_it_is_old(tmp_path: Path) -> None:
    folder = tmp_path / "crops"
    folder.mkdir()
    names = [f".{KEYS[0]}.npy.x1y2", f".{KEYS[1]}.json.part", ".hidden"]
    for name in names:
        (folder / name).write_bytes(b"part")
        os.utime(folder / name, (time.time() - ABANDONED - 1,) * 2)
    (folder / f".{KEYS[2]}.npy.new").write_bytes(b"part")
    trim(tmp_path, DEFAULT_LIMIT)
    assert sorted(p.name for p in folder.iterdir()) == [f".{KEYS[2]}.npy.new", ".hidden"]


def test_what_is_gone_already_counts_as_removed(tmp_path: Path) -> None:
    path = put(tmp_path, KEYS[0])
    found = entries(tmp_path)
    path.unlink()
    assert remove(found) == found


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    put(tmp_path, KEYS[0])
    monkeypatch.setattr(Path, "unlink", refuse)
    assert remove(entries(tmp_path)) == []


def test_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUANTLAB_CACHE_SIZE", raising=False)
    assert cache_limit() == DEFAULT_LIMIT
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "1.5 GB")
    assert cache_limit() == 1_500_000_000
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "much")
    with pytest.raises(QuantlabError, match="QUANTLAB_CACHE_SIZE: 'much' is not a size"):
        cache_limit()


class TestStore:
    def test_what_was_kept_is_found_with_its_facts(self, tmp_path: Path) -> None:
        store, key = Store(tmp_path / "models", ".onnx"), key_of("a", 1)
        assert store.find(key, lambda path, facts: path.read_bytes()) is None
        store.keep(key, "a model", lambda path: path.write_bytes(b"whole"), size=5)
        found = store.find(key, lambda path, facts: (path.read_bytes(), facts))
        assert found == (b"whole", {"of": "a model", "size": 5})
        assert [subject(entry) for entry in entries(tmp_path)] == ["a model"]

    def test_what_is_found_counts_as_used(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "checks")
        store.keep(key_of(1), "one", value=1)
        os.utime(store.path(key_of(1)), (0, 0))
        assert store.find(key_of(1), lambda _, facts: facts["value"]) == 1
        assert entries(tmp_path)[0].used > 0

    @pytest.mark.parametrize("content", [b"", b"[]", b'{"of": "other"}', b"\xff"])
    def test_what_is_damaged_is_not_found(self, content: bytes, tmp_path: Path) -> None:
        store = Store(tmp_path / "checks")
        store.keep(key_of(1), "one", value=1)
        store.path(key_of(1)).write_bytes(content)
        assert store.find(key_of(1), lambda _, facts: facts["value"]) is None

    def test_a_place_that_cannot_be_written_is_no_error(self, tmp_path: Path) -> None:
        (tmp_path / "checks").write_text("a file")
        Store(tmp_path / "checks").keep(key_of(1), "one", value=1)

    def test_what_is_over_the_limit_goes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "0")
        Store(tmp_path / "checks").keep(key_of(1), "one", value=1)
        assert entries(tmp_path) == []
