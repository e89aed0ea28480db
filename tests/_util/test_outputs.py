"""Outputs against inputs, by what lies where."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantlab._util.outputs import FileKind, Input, Output, check
from quantlab.errors import OutputError

MINE = FileKind("file of mine", lambda path: path.read_text().startswith("mine"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_text("mine")
    return path


def spelled(file: Path, execution: str) -> Path:
    """The same file, called otherwise."""
    folder, other = file.parent, file.parent.parent / "other"
    if execution == "symbolic link":
        other.symlink_to(file)
    elif execution == "link to its folder":
        other.symlink_to(folder)
    elif execution == "hard link":
        other.hardlink_to(file)
    names = {
        "itself": file,
        "dots": folder / ".." / folder.name / file.name,
        "link to its folder": other / file.name,
    }
    return names.get(execution, other)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    "execution", ["itself", "dots", "symbolic link", "hard link", "link to its folder"]
)
def test_an_input_is_never_written(execution: str, force: bool, file: Path) -> None:
    output = Output(spelled(file, execution), "--output", MINE)
    with pytest.raises(OutputError) as found:
        check([output], [Input(file, "--model")], force=force)
    assert str(found.value).startswith(f"--output {output.path} would write what --model reads")
    assert found.value.remedy.startswith("Name another place")


def test_what_is_read_with_an_input_is_an_input(file: Path) -> None:
    source = Input(file.parent, "--data", lambda folder: folder.iterdir())
    with pytest.raises(OutputError, match="what --data reads"):
        check([Output(file, "--output", MINE)], [source])
    check([Output(file.parent / "new", "--output", MINE)], [source])


def test_parts_are_not_looked_for_where_no_output_exists(tmp_path: Path) -> None:
    def parts(path: Path) -> list[Path]:
        raise AssertionError

    check([Output(tmp_path / "new", "--output", MINE)], [Input(tmp_path, "--data", parts)])


def test_parts_are_not_looked_for_where_all_outputs_are_folders(tmp_path: Path) -> None:
    """They are files: a folder of runs that is there costs no look at each image."""

    def parts(path: Path) -> list[Path]:
        raise AssertionError

    (tmp_path / "runs").mkdir()
    check([Output(tmp_path / "runs", "--runs-dir")], [Input(tmp_path, "--data", parts)])


def test_a_folder_that_is_read_is_not_filled(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="what --data reads"):
        check([Output(tmp_path, "--runs-dir")], [Input(tmp_path, "--data")])
    check([Output(tmp_path / "runs", "--runs-dir")], [Input(tmp_path, "--data")])


def test_only_what_quantlab_wrote_is_replaced(file: Path) -> None:
    output = Output(file, "--output", MINE)
    check([output], [])
    file.write_text("yours")
    with pytest.raises(OutputError) as found:
        check([output], [])
    assert str(found.value).splitlines() == [
        f"--output {file}: it is there already, and no file of mine.",
        "Name another file, or replace it: --force",
    ]
    check([output], [], force=True)
    check([Output(file, "--summary")], [])


def test_a_link_to_nothing_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="there already"):
        check([Output(tmp_path / "link", "--output", MINE)], [])


@pytest.mark.parametrize("exists", [False, True])
def test_two_outputs_are_not_one_file(exists: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    if exists:
        path.write_text("mine")
    pair = [Output(path, "--junit"), Output(tmp_path / "." / "a.xml", "--comment")]
    with pytest.raises(OutputError, match="--junit and --comment would both write"):
        check(pair, [])
