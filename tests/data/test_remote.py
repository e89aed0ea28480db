"""Datasets by URL: fetched once, whole or not at all, within a bound."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from quantlab._util.cache import entries, trim
from quantlab._util.paths import cache_dir
from quantlab.data import remote
from quantlab.data.readers import open_dataset, reopen
from quantlab.data.remote import fetched
from quantlab.errors import DataError, MissingExtraError
from quantlab.testing import image_folder, listed_folder, npz_file

pytest.importorskip("fsspec", reason="quantlab[cluster] is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return image_folder(tmp_path / "far", 3, per_class=2, size=16)


@pytest.fixture
def url(folder: Path) -> str:
    return folder.as_uri()


def names(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


def test_the_copy_is_whole_and_made_once(url: str, folder: Path) -> None:
    told: list[tuple[int, int]] = []
    path = fetched(url, progress=lambda done, total: told.append((done, total)))
    assert path.is_relative_to(cache_dir() / "datasets")
    assert names(path) == names(folder)
    assert all((path / n).read_bytes() == (folder / n).read_bytes() for n in names(folder))
    assert told[-1][0] == told[-1][1] == sum((folder / n).stat().st_size for n in names(folder))
    assert fetched(url, progress=lambda *_: pytest.fail("fetched again")) == path


def test_a_change_at_the_url_is_another_copy(url: str, folder: Path) -> None:
    first = fetched(url)
    os.utime(folder / "0" / "000.png", (1, 1))
    second = fetched(url)
    (folder / "0" / "000.png").unlink()
    third = fetched(url)
    assert len({first, second, third}) == 3
    assert len(names(third)) == len(names(first)) - 1


def test_a_dataset_by_url_is_the_dataset(url: str, folder: Path) -> None:
    here, there = open_dataset(folder), open_dataset(url)
    assert there.root == url
    assert (there.names, there.digest) == (here.names, here.digest)
    assert there.opening is not None
    assert there.opening.path == url
    assert reopen(there.opening).digest == here.digest


def test_lists_and_single_files(tmp_path: Path) -> None:
    listed = listed_folder(tmp_path / "listed", [0, 1, 2], size=16)
    assert open_dataset(listed.as_uri()).names == open_dataset(listed).names
    file = npz_file(tmp_path / "data.npz", [0, 1, 1])
    assert open_dataset(file.as_uri()).digest == open_dataset(file).digest


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing: nothing is there"):
        fetched((tmp_path / "missing").as_uri())


@pytest.mark.parametrize("url", ["nonsense://bucket/val", "s3://"])
def test_urls_that_cannot_be_read(url: str) -> None:
    with pytest.raises(DataError, match="cannot be read") as found:
        fetched(url)
    assert len(str(found.value).splitlines()) <= 2


def test_more_than_the_cache_may_hold(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", "100 B")
    with pytest.raises(DataError, match="more than the 100 that the cache may") as found:
        fetched(url)
    assert "QUANTLAB_CACHE_SIZE" in found.value.remedy
    assert not (cache_dir() / "datasets").exists()


class Breaking:
    """A file system that breaks off after some files."""

    def __init__(self, system: Any) -> None:
        self.system = system

    def __getattr__(self, name: str) -> Any:
        return getattr(self.system, name)

    def get(self, sources: list[str], targets: list[str]) -> None:
        self.system.get(sources[:2], targets[:2])
        raise ConnectionError("the connection was lost")


def test_what_breaks_off_leaves_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    opened = fsspec.core.url_to_fs

    def breaking(*words: Any) -> Any:
        system, root = opened(*words)
        return Breaking(system), root

    monkeypatch.setattr(fsspec.core, "url_to_fs", breaking)
    with pytest.raises(DataError, match="connection was lost"):
        fetched(url)
    assert not [p for p in (cache_dir() / "datasets").iterdir() if p.suffix != ".lock"]
    monkeypatch.undo()
    monkeypatch.setenv("QUANTLAB_CACHE", str(cache_dir()))


def test_a_copy_that_is_not_whole_is_fetched_again(url: str, folder: Path) -> None:
    path = fetched(url)
    remote.side(path).unlink()
    (path / "0" / "000.png").unlink()
    assert names(fetched(url)) == names(folder)


def test_names_outside_are_refused() -> None:
    for address in ("/root/val/../../etc/passwd", "/root/val/a//b", "/root/val/a\\b"):
        with pytest.raises(DataError, match="outside of the dataset"):
            remote._remote("s3://x", "/root/val", address, {"size": 1})


def test_many_who_want_it_fetch_it_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    fetch = remote._fetch

    def slow(*words: Any) -> None:
        calls.append("fetch")
        time.sleep(0.2)
        fetch(*words)

    monkeypatch.setattr(remote, "_fetch", slow)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetched(url))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 4
    assert calls == ["fetch"]


def test_old_copies_make_room_and_new_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [image_folder(tmp_path / n, 2, size=16, seed=i).as_uri() for i, n in enumerate("abc")]
    first = fetched(urls[0])
    size = json.loads(remote.side(first).read_bytes())["bytes"]
    monkeypatch.setenv("QUANTLAB_CACHE_SIZE", f"{2.5 * size} B")
    second = fetched(urls[1])
    with pytest.raises(DataError, match="no room") as found:
        fetched(urls[2])
    assert "cache clear --kind datasets" in found.value.remedy
    os.utime(remote.side(first), (1, 1))
    fetched(urls[2])
    assert not first.exists()
    assert second.is_dir()
    trim(cache_dir(), 0)
    assert len(entries(cache_dir(), ("datasets",))) == 2


def test_the_cache_lists_and_clears_them(url: str) -> None:
    from click.testing import CliRunner

    from quantlab.cli import main

    path = fetched(url)
    listed = CliRunner().invoke(main, ["cache", "ls", "--json"])
    (entry,) = json.loads(listed.stdout)["results"]["entries"]
    assert (entry["kind"], entry["of"]) == ("datasets", url)
    cleared = CliRunner().invoke(main, ["cache", "clear", "--kind", "datasets"])
    assert cleared.exit_code == 0
    assert not path.exists()
    assert entries(cache_dir()) == []


def test_without_fsspec(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="needs the package fsspec") as found:
        fetched(url)
    assert "quantlab[cluster]" in found.value.remedy


def test_without_s3fs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingExtraError, match="s3fs") as found:
        fetched("s3://bucket/never-seen")
    assert "quantlab[s3]" in found.value.remedy


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server of this process."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="quantlab[s3] is not installed")
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    yield system
    s3fs.S3FileSystem.clear_instance_cache()
    running.stop()


@pytest.mark.filterwarnings("default")
def test_s3(bucket: Any, folder: Path) -> None:
    bucket.put(str(folder), "bucket/val", recursive=True)
    assert open_dataset("s3://bucket/val").digest == open_dataset(folder).digest
    before = fetched("s3://bucket/val")
    bucket.pipe("bucket/val/0/000.png", b"another")
    bucket.invalidate_cache()
    assert fetched("s3://bucket/val") != before
