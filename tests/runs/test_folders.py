"""Run folders of all kinds: read, found, removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from quantlab.errors import RecordError
from quantlab.runs.folders import artifact, check_removable, find, read_entry, refresh, remove, scan
from quantlab.runs.index import IN_MEMORY, Filter, Index
from quantlab.runs.record import load_record
from quantlab.testing.runs import fake_run

STORED = Path(__file__).parents[1] / "stored" / "run-v1.json"


def listed(index: Index) -> list[str]:
    return [each.entry.folder for each in index.entries(Filter())]


def rewrite(folder: Path, **changed: object) -> None:
    path = folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def test_new_changed_and_vanished_folders_are_noticed(url: str, root: Path) -> None:
    first = fake_run(root, n=20, started="2026-01-01T00:00:00+00:00")
    with Index(url) as index:
        refresh(index, root)
        assert listed(index) == [first.name]
        second = fake_run(root, n=20, started="2026-01-02T00:00:00+00:00")
        refresh(index, root)
        assert listed(index) == [second.name, first.name]
        rewrite(first, verb="gate")
        refresh(index, root)
        assert [x.entry.verb for x in index.entries(Filter())] == ["compare", "gate"]
        remove([second], root)
        refresh(index, root)
        assert listed(index) == [first.name]


def test_only_what_was_written_since_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [fake_run(root, n=20) for _ in range(3)]
    read: list[str] = []

    def noted(folder: Path) -> object:
        read.append(folder.name)
        return read_entry(folder)

    monkeypatch.setattr("quantlab.runs.folders.read_entry", noted)
    with Index(IN_MEMORY) as index:
        refresh(index, root)
        assert sorted(read) == sorted(f.name for f in folders)
        read.clear()
        refresh(index, root)
        assert read == []
        rewrite(folders[1], warnings=["w"])
        refresh(index, root)
        assert read == [folders[1].name]


def test_a_run_in_progress_is_read_again_when_it_has_ended(root: Path) -> None:
    folder = fake_run(root, n=20, status="started", results={}, finished=None)
    with Index(IN_MEMORY) as index:
        refresh(index, root)
        assert index.entries(Filter())[0].entry.status == "started"
        rewrite(folder, status="success")
        refresh(index, root)
        assert index.entries(Filter())[0].entry.status == "success"


DAMAGED = {
    "empty": b"",
    "half": b'{"schema_version": 1, "id": "x", "ver',
    "list": b"[1, 2]",
    "deep": b"[" * 200_000,
    "binary": bytes(range(256)),
    "newer": b'{"schema_version": 2}',
    "short": b'{"schema_version": 1}',
    "number": b'{"schema_version": 1, "id": 3, "verb": "v", "started": "", "command": ""}',
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_records_have_a_problem_and_hide_no_other(url: str, root: Path, kind: str) -> None:
    whole = fake_run(root, n=20)
    (root / kind).mkdir()
    (root / kind / "run.json").write_bytes(DAMAGED[kind])
    with Index(url) as index:
        refresh(index, root)
        assert listed(index) == [whole.name, kind]
        problem = index.entries(Filter())[1].entry.problem
    assert problem
    assert "\n" not in problem


def test_what_is_no_run_folder_is_left_out(root: Path, tmp_path: Path) -> None:
    whole = fake_run(root, n=20)
    (root / "notes.txt").write_text("x")
    (root / "empty").mkdir()
    (root / "a folder" / "run.json").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "run.json").write_text("{}")
    (root / "broken link").symlink_to(tmp_path / "nowhere")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe")).mkdir()
    (root / "line\nbreak").mkdir()
    (root / "line\nbreak" / "run.json").write_text("{}")
    with Index(IN_MEMORY) as index:
        refresh(index, root)
        entries = [each.entry for each in index.entries(Filter())]
    assert [e.folder for e in entries] == [whole.name, "a folder"]
    assert "no such run" in entries[1].problem


def test_a_record_from_anywhere_cannot_harm_the_index(url: str, root: Path) -> None:
    nasty = "a\0b\x1b[2J\ud800'; DROP TABLE quantlab_runs_v1; --"
    folder = fake_run(root, n=20)
    rewrite(folder, verb=nasty, id=nasty, started=nasty, results={}, spec={"model": nasty * 99})
    with Index(url) as index:
        refresh(index, root)
        refresh(index, root)
        (found,) = index.entries(Filter())
    assert found.entry.folder == folder.name
    assert (found.entry.verb + found.entry.model + found.entry.id).isprintable()


def test_a_record_of_version_1(root: Path) -> None:
    (root / "old").mkdir(parents=True)
    (root / "old" / "run.json").write_bytes(STORED.read_bytes())
    assert read_entry(root / "old").verdict == "inconclusive"


def test_no_folder_and_no_access(tmp_path: Path) -> None:
    assert scan(tmp_path / "none") == {}
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot read the runs folder"):
        scan(tmp_path / "file")


def test_artifacts_lie_inside_their_folder(root: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    names = {
        "out": "../../secret",
        "absolute": str(tmp_path / "secret"),
        "link": "link",
        "no": "no",
    }
    folder = fake_run(root, n=20, artifacts={"report": "run.json", **names})
    (folder / "link").symlink_to(tmp_path / "secret")
    record = load_record(folder)
    assert artifact(folder, record, "report") == folder / "run.json"
    assert [artifact(folder, record, name) for name in [*names, "unknown"]] == [None] * 5


NAMES = ("20260102-tune-bbb111", "20260101-compare-aaa111")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (NAMES[1], NAMES[1]),
        ("20260102", NAMES[0]),
        ("aaa111", NAMES[1]),
        ("latest", NAMES[0]),
        ("latest~1", NAMES[1]),
    ],
)
def test_runs_have_short_names(text: str, name: str) -> None:
    assert find(text, NAMES, Path("runs")) == Path("runs") / name


def test_a_path_names_a_run(root: Path) -> None:
    folder = fake_run(root, n=20)
    assert find(f"{folder}/", (), Path("elsewhere")) == folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("111", "could be 2 runs: 20260102-tune-bbb111, 20260101-compare-aaa111"),
        ("2026", "could be 2 runs"),
        ("", "there is no run ''"),
        ("nope", "there is no run 'nope' in runs"),
        ("latest~2", "holds 2 runs, too few"),
        ("../x", "there is no run"),
    ],
)
def test_names_that_no_run_has(text: str, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        find(text, NAMES, Path("runs"))


def test_links_in_a_removed_run_are_not_followed(root: Path, tmp_path: Path) -> None:
    folder = fake_run(root, n=20)
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("x")
    (folder / "link").symlink_to(kept)
    remove([folder], root)
    assert not folder.exists()
    assert (kept / "file").read_text() == "x"


def test_what_is_not_removed(root: Path, tmp_path: Path) -> None:
    folder = fake_run(root, n=20)
    outside = fake_run(tmp_path / "other", n=20)
    link = root / "link"
    link.symlink_to(outside)
    inner = fake_run(folder, n=20)
    (root / "notes").mkdir()
    for path in (outside, link, inner, root / "notes", root, root / ".." / "other" / outside.name):
        with pytest.raises(RecordError, match="is not removed"):
            remove([path], root)
    assert (outside / "run.json").is_file()
    with FileLock(folder / ".lock"), pytest.raises(RecordError, match="is at work"):
        check_removable(folder, root)
    remove([folder], root)
    assert not folder.exists()


def test_runs_are_removed_together_or_not_at_all(root: Path) -> None:
    idle, working = fake_run(root, n=20), fake_run(root, n=20)
    with FileLock(working / ".lock"), pytest.raises(RecordError) as found:
        remove([idle, working], root)
    assert found.value.problem == f"{working} is at work. Nothing was removed."
    assert idle.is_dir()
    remove([idle, working], root)
    assert not list(root.glob("*-*"))
