"""Roles of options that name files or folders: whether a command reads or writes there.

An option is declared with its role; ``outputs.check`` then needs to know nothing of verbs. What
quantlab writes it knows again by content: a stamp, a marker, or the loader that accepts it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from quantlab._util.outputs import FileKind
from quantlab._util.paths import is_url
from quantlab.errors import QuantlabError

Values = Mapping[str, Any]
"""Every option's value, by the name of its parameter."""
_MOST_TEXT = 64 * 1024**2


def itself(path: Path) -> Iterable[Path]:
    """Nothing is read with it."""
    return ()


def place(value: object) -> Path | None:
    """The path that an option's value is; None for a URL of something that is no file here."""
    text = str(value)
    if text.startswith(("sqlite:", "file:")):
        path = unquote(urlsplit(text).path).partition("?")[0]
        path = path.removeprefix("/") if text.startswith("sqlite:") else path
        return Path(path) if path else None
    return None if is_url(text) else Path(text)


@dataclass(frozen=True)
class Reads:
    """An input; ``parts`` are the files that are read with it. ``usual`` is the one that stands in
    where none is named, and what names it."""

    parts: Callable[[Path], Iterable[Path]] = itself
    usual: Callable[[Values], tuple[str, str] | None] = lambda values: None


@dataclass(frozen=True)
class Writes:
    """An output file. ``kind`` is what it holds, by its path, None where it is added to and never
    replaced; ``usual`` the path where none is named; ``beside`` what is written with it; ``at``
    where an option's value puts it."""

    kind: Callable[[Path], FileKind | None] = lambda path: None
    usual: Callable[[Values], Path | str | None] = lambda values: None
    beside: Callable[[Path, Values], Iterable[Path]] = lambda path, values: ()
    at: Callable[[object], Path | None] = place


@dataclass(frozen=True)
class Fills:
    """An output folder: what is in it stays, but for the ``files`` of these names; ``parts`` where
    it is read as well."""

    files: Callable[[Path], Iterable[tuple[Path, FileKind]]] = lambda path: ()
    parts: Callable[[Path], Iterable[Path]] = itself
    usual: Callable[[Values], Path | str | None] = lambda values: None


Role = Reads | Writes | Fills


# --- what is read ---


def fetched_path(name: object) -> Path | None:
    """Where a published file lies in the cache, None for a name that is none."""
    from quantlab.fetch import catalog
    from quantlab.fetch.fetcher import cached_path

    entry = catalog().get(str(name).removesuffix(".onnx"))
    return None if entry is None else cached_path(catalog().get(entry.same_as or "", entry))


def model_path(name: str) -> Path:
    """The file that stands for a model's name: itself, or in the cache that of a published one;
    without the runtime that may stand behind it."""
    from quantlab.model.kinds import with_runtime

    name = with_runtime(name)[0]
    path = Path(name)
    if path.exists() or path.parent != Path():
        return path
    return fetched_path(name) or path


def model_parts(path: Path) -> Iterable[Path]:
    """The file of a published model; the external data of any, and IR's weights."""
    from quantlab.model.ir import is_ir, weights_path
    from quantlab.model.model import external_files, read_proto

    file = model_path(str(path))
    yield file
    with suppress(QuantlabError):
        yield from [weights_path(file)] if is_ir(file) else external_files(read_proto(file), file)


def below(path: Path) -> Iterator[Path]:
    """Every file below a folder, each folder once: links may loop."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(path, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (Path(folder, name) for name in names)


def dataset_parts(path: Path) -> Iterator[Path]:
    """What the readers of images take from a place: images, lists, class lists, other formats."""
    from quantlab.data.readers import LIST_NAMES, NPZ_LIST, endings, webdataset
    from quantlab.data.readers.classes import find_synsets
    from quantlab.data.readers.files import is_image

    named, known = {*LIST_NAMES, "synset_words.txt", "synsets.txt"}, endings()
    if path.is_file() or webdataset.is_pattern(path):
        with suppress(QuantlabError, OSError):
            yield from webdataset.shards(path)
        yield path.with_suffix(".idx")
        path = path.parent if path.name == NPZ_LIST else path
    for file in below(path) if path.is_dir() else ():
        if is_image(file.name) or file.suffix.lower() in known or file.name in named:
            yield file
    with suppress(QuantlabError, OSError):
        if (found := find_synsets(path)) is not None:
            yield found.path


def run_parts(runs: Path) -> Iterator[Path]:
    """The files of all run folders in a runs folder."""
    with suppress(OSError):
        for folder in runs.iterdir():
            if (folder / "run.json").is_file():
                yield from below(folder)


def data_of_environment(values: Values) -> tuple[str, str] | None:
    """QUANTLAB_DATA holds the images where none are named."""
    return _named("QUANTLAB_DATA")


def _named(variable: str) -> tuple[str, str] | None:
    value = os.environ.get(variable)
    return (value, variable) if value else None


FILE = Reads()
MODEL = Reads(model_parts)
DATA = Reads(dataset_parts, data_of_environment)
OTHER_DATA = Reads(dataset_parts)
FOLDER = Reads(below)
MIRROR = Reads(below, lambda values: _named("QUANTLAB_MIRROR"))
MODEL_OR_ANSWERS = Reads(lambda path: (*model_parts(path), *below(path)))
BASELINE_FILE = Reads(lambda path: (path.with_suffix(".npz"),))


# --- what is written ---


def _head(path: Path, size: int = _MOST_TEXT) -> str:
    """The file's text, as far as it is of this size."""
    try:
        with path.open("rb") as file:
            return file.read(size).decode("utf-8", "replace")
    except OSError:
        return ""


def _stamped(path: Path) -> bool:
    from quantlab.model.ir import is_ir, read_ir
    from quantlab.model.model import read_proto
    from quantlab.quantize.stamp import SOURCE_KEY

    graph = path.with_suffix(".xml") if path.suffix == ".bin" else path
    try:
        if is_ir(graph):
            return SOURCE_KEY in read_ir(graph).metadata
        return any(entry.key == SOURCE_KEY for entry in read_proto(graph).metadata_props)
    except QuantlabError:
        return False


def _baseline(path: Path) -> bool:
    from quantlab.gate.baseline import load_baseline

    try:
        return bool(load_baseline(path))
    except (QuantlabError, OSError):
        return False


def _answers(path: Path) -> bool:
    from quantlab.evaluate.predictions import Predictions
    from quantlab.gate.baseline import MOST_STORED

    try:
        return bool(len(Predictions.load(path, max_bytes=2 * MOST_STORED)))
    except QuantlabError:
        return False


def _figures(path: Path) -> bool:
    from quantlab.report.export import EXTRA

    try:
        found = json.loads(_head(path))
        return isinstance(found, list) and all(e["extra"].startswith(EXTRA) for e in found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


def _csv(path: Path) -> bool:
    from quantlab.report.comparison_export import compared_csv
    from quantlab.report.export import as_csv

    return _head(path).startswith((as_csv((), ""), compared_csv(())))


def _page(path: Path) -> bool:
    from quantlab.report.export import MARKER

    return _head(path).rstrip().endswith(MARKER)


def _comment(path: Path) -> bool:
    from quantlab.report.gate import MARKER

    return (_head(path).rstrip().splitlines() or [""])[-1].startswith(MARKER)


def _junit(path: Path) -> bool:
    from quantlab.report.gate import SUITE

    return f'<testsuite name="{SUITE}' in _head(path, 1000)


def _ledger_page(path: Path) -> bool:
    from quantlab.report.ledger import BEGINNING

    return _head(path, 1000).startswith(BEGINNING)


def _ledger_csv(path: Path) -> bool:
    from quantlab.report.ledger import ledger_csv

    return _head(path).startswith(ledger_csv(()))


def _plot(path: Path) -> bool:
    from quantlab.report.plot_metadata import is_ours

    with suppress(OSError), path.open("rb") as file:
        return is_ours(file.read(_MOST_TEXT))
    return False


def _inputs(path: Path) -> bool:
    from quantlab.data.ready import is_ours

    return is_ours(path)


INT8 = FileKind("int8 model that quantlab wrote", _stamped)
BASELINE = FileKind("baseline that this quantlab can read", _baseline)
ANSWERS = FileKind("answers that quantlab wrote", _answers)
JUNIT = FileKind("JUnit XML of quantlab gate", _junit)
COMMENT = FileKind("comment of quantlab gate", _comment)
FIGURES = FileKind("JSON of figures that quantlab wrote", _figures)
CSV = FileKind("CSV of quantlab bench or compare", _csv)
PAGE = FileKind("page of quantlab bench or compare", _page)
PLOT = FileKind("plot of quantlab's", _plot)
INPUTS = FileKind("file of quantlab data npz", _inputs)
LEDGER = (
    FileKind("ledger of quantlab's", _ledger_page),
    FileKind("ledger of quantlab's", _ledger_csv),
)


def int8_path(model: object) -> Path:
    """Where the int8 file of a model is written when no place is named."""
    return Path(f"{model_path(str(model)).stem}.int8.onnx")


def _int8_name(values: Values) -> Path | None:
    return int8_path(values["model"]) if values.get("model") else None


def _export_kind(path: Path) -> FileKind:
    return {".json": FIGURES, ".csv": CSV}.get(path.suffix.lower(), PAGE)


def _baseline_kind(path: Path) -> FileKind:
    return ANSWERS if path.suffix == ".npz" else BASELINE


def _answers_beside(path: Path, values: Values) -> list[Path]:
    return [] if values.get("no_predictions") else [path.with_suffix(".npz")]


def _ledger_files(folder: Path) -> list[tuple[Path, FileKind]]:
    return list(zip((folder / "ledger.md", folder / "ledger.csv"), LEDGER, strict=True))


def _weights_beside(path: Path, values: Values) -> list[Path]:
    from quantlab.model.ir import is_ir, weights_path

    return [weights_path(path)] if is_ir(path) else []


WRITES_INT8 = Writes(lambda path: INT8, beside=_weights_beside, usual=_int8_name)
WRITES_BASELINE = Writes(_baseline_kind, beside=_answers_beside)
WRITES_JUNIT = Writes(lambda path: JUNIT)
WRITES_COMMENT = Writes(lambda path: COMMENT)
WRITES_FIGURES = Writes(lambda path: FIGURES)
WRITES_EXPORT = Writes(_export_kind)
WRITES_PLOT = Writes(lambda path: PLOT)
ADDS_SUMMARY = Writes(usual=lambda values: os.environ.get("GITHUB_STEP_SUMMARY"))
ADDS_ROWS = Writes()
FETCHES = Writes(at=fetched_path)
FILLS = Fills()
FILLS_RUNS = Fills(parts=run_parts)
FILLS_LEDGER = Fills(_ledger_files)
FILLS_MLFLOW = Fills(usual=lambda values: os.environ.get("MLFLOW_TRACKING_URI"))
FILLS_HOME = Fills(usual=lambda values: os.environ.get("QUANTLAB_SERVER_HOME"))
