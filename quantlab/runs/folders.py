"""Run folders on disk for the history: list, read, find and remove them.

A runs folder may hold anything: folders of other programs, records that were damaged or are of
another version, links. What cannot be read is an Entry with a problem; links are never followed to
remove something.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from quantlab.bench.measurement import BenchResult
from quantlab.errors import OutputError, RecordError
from quantlab.runs.entry import Entry, entry_of
from quantlab.runs.figures import plain
from quantlab.runs.index import Index
from quantlab.runs.record import RunRecord, load_record
from quantlab.runs.run import held

RECORD = "run.json"
_LATEST = re.compile(r"latest(?:~(\d{1,6}))?")


def refresh(index: Index, root: Path) -> None:
    """Bring the index up to date with the folders: new, changed and vanished ones. Reads only the
    records that were written since. Raises RecordError."""
    now, known = scan(root), index.stamps()
    changed = [name for name, stamp in now.items() if known.get(name) != stamp]
    gone = known.keys() - now.keys()
    index.update([(now[name], read_entry(root / name)) for name in changed], gone)


def scan(root: Path) -> dict[str, str]:
    """The names of the run folders, each with a stamp that changes when its record is written."""
    found = dict[str, str]()
    try:
        names = sorted(path.name for path in root.iterdir())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise RecordError(f"cannot read the runs folder {root}: {error.strerror}.") from error
    for name in names:
        stamp = _stamp(root / name / RECORD)
        if stamp and not name.startswith(".") and name.isprintable():
            found[name] = stamp
    return found


def _stamp(path: Path) -> str:
    """ "" where there is no such file."""
    try:
        seen = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return str(error.strerror)
    return f"{seen.st_mtime_ns} {seen.st_size} {seen.st_ino}"


def read_entry(folder: Path) -> Entry:
    """The history entry of the folder's record, or why it cannot be read."""
    try:
        record = load_record(folder / RECORD)
    except RecordError as error:
        return Entry(folder.name, problem=plain(error.problem))
    return entry_of(record, folder.name, timing_of(folder, record))


def timing_of(folder: Path, record: RunRecord) -> BenchResult | None:
    """The latencies that the run measured, where there are any."""
    path = artifact(folder, record, "measurements")
    try:
        return None if path is None else BenchResult.load(path)
    except RecordError:
        return None


def artifact(folder: Path, record: RunRecord, name: str) -> Path | None:
    """The file of that name, None unless it is an ordinary file inside the folder."""
    file = record.artifacts.get(name)
    if not file:
        return None
    path = folder / file
    inside = path.resolve().is_relative_to(folder.resolve())
    return path if inside and path.is_file() else None


def find(text: str, names: Sequence[str], root: Path) -> Path:
    """The run folder that is meant: a path, a name in ``root`` or the beginning or end of one, or
    ``latest``, ``latest~1``, … ``names`` are the folders in ``root``, the newest first.

    Raises RecordError when there is none, or when it could be several.
    """
    if (match := _LATEST.fullmatch(text)) is not None:
        back = int(match[1] or 0)
        if back < len(names):
            return root / names[back]
        raise RecordError(f"{root} holds {len(names)} runs, too few for {text}.")
    if text in names:
        return root / text
    if "/" in text and (Path(text) / RECORD).is_file():
        return Path(text)
    meant = [name for name in names if text and (name.startswith(text) or name.endswith(text))]
    if len(meant) == 1:
        return root / meant[0]
    if not meant:
        raise RecordError(f"there is no run {text!r} in {root}.", "quantlab runs ls lists them.")
    some = ", ".join(meant[:3]) + (", …" if len(meant) > 3 else "")
    raise RecordError(f"{text!r} could be {len(meant)} runs: {some}.", "Give more of the name.")


def remove(folders: Sequence[Path], root: Path) -> None:
    """Remove run folders with all that is in them, all or none; links in them are removed, not
    followed.

    Raises RecordError as ``check_removable`` does, OutputError when one cannot be removed.
    """
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(_removable(folder, root))
        for folder in folders:
            try:
                shutil.rmtree(folder)
            except OSError as error:
                raise OutputError(f"cannot remove {folder}: {error.strerror}.") from error


def check_removable(folder: Path, root: Path) -> None:
    """Raises RecordError for a link, for what is no run folder directly inside ``root``, and for a
    run that is at work."""
    with _removable(folder, root):
        pass


@contextmanager
def _removable(folder: Path, root: Path) -> Iterator[None]:
    """It stays removable within the block."""
    if folder.is_symlink():
        raise RecordError(f"{folder} is a link: it is not removed.", "Remove the link yourself.")
    inside = folder.resolve().parent == root.resolve()
    if not inside or not (folder / RECORD).is_file():
        raise RecordError(f"{folder} is not a run folder in {root}: it is not removed.")
    with ExitStack() as stack:
        try:
            stack.enter_context(held(folder))
        except RecordError as error:
            raise RecordError(f"{error.problem} Nothing was removed.", error.remedy) from error
        yield
