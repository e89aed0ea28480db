import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantlab._util.files import atomic_path, check_writable, write_whole
from quantlab.errors import DataError, OutputError, RecordError, ResumeError
from quantlab.runs.record import load_record
from quantlab.runs.run import Run, held


def test_atomic_path_replaces_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with contextlib.suppress(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        _ = 1 / 0
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"


def test_written_files_have_the_usual_mode(tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        write_whole(tmp_path / "a", "x")
    finally:
        os.umask(mask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_full_disk_and_forbidden_folder_are_said_in_plain_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="the disk is full") as caught:
        write_whole(tmp_path / "a", "x")
    assert caught.value.remedy
    assert not list(tmp_path.iterdir())


def test_check_writable_names_the_place(tmp_path: Path) -> None:
    check_writable(tmp_path / "sub" / "out.onnx")
    assert not list((tmp_path / "sub").iterdir())
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match=r"file/out\.onnx"):
        check_writable(blocked / "out.onnx")
    with pytest.raises(OutputError, match="it is a folder"):
        check_writable(tmp_path)


def test_a_run_is_on_disk_from_its_first_moment_and_ends_with_its_status(tmp_path: Path) -> None:
    with Run("compare", {"seed": 0}, "quantlab compare a b", tmp_path) as run:
        assert load_record(run.folder).status == "started"
        run.artifact("report", "report.md").write_text("# x")
    record = load_record(run.folder)
    assert (record.status, record.artifacts, record.spec) == (
        "success",
        {"report": "report.md"},
        {"seed": 0},
    )
    assert record.finished is not None


@pytest.mark.parametrize(
    ("error", "status"), [(DataError("no images"), "error"), (KeyboardInterrupt(), "interrupted")]
)
def test_a_run_that_breaks_says_why_and_lets_the_error_pass(
    tmp_path: Path, error: BaseException, status: str
) -> None:
    with pytest.raises(type(error)), Run("tune", {}, "quantlab tune", tmp_path) as run:
        raise error
    record = load_record(run.folder)
    assert record.status == status
    assert record.error


def test_a_run_is_at_work_until_its_block_ends(tmp_path: Path) -> None:
    with Run("evaluate", {}, "", tmp_path) as run:
        with pytest.raises(RecordError, match="is at work"), held(run.folder):
            pass
        with pytest.raises(ResumeError, match="by another process"):
            Run.resume(run.folder)
        assert load_record(run.folder).status == "started"
    with held(run.folder), pytest.raises(ResumeError):
        Run.resume(run.folder)
    assert load_record(run.folder).status == "success"


def test_the_run_of_a_killed_process_is_not_at_work(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from quantlab.runs.run import Run\n"
        f"run = Run('bench', {{}}, '', Path({str(tmp_path)!r})); print(run.folder, flush=True)\n"
        "time.sleep(600)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        with pytest.raises(RecordError), held(folder):
            pass
        process.kill()
    with held(folder):
        assert load_record(folder).status == "started"
