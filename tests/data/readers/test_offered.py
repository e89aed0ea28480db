"""Readers that other packages offer by entry point."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from quantlab.data import readers
from quantlab.data.dataset import Dataset
from quantlab.data.readers import endings, open_dataset
from quantlab.errors import DataError
from quantlab.verbs.roles import dataset_parts


class Stack:
    """A format: raw images of 4 x 4 pixels, their labels in order; a folder is its files' one."""

    def __init__(self, path: Path) -> None:
        files = sorted(path.glob("*.stack")) if path.is_dir() else [path]
        data = b"".join(file.read_bytes() for file in files)
        if len(data) % 48:
            raise ValueError("half an image")
        self.images = np.frombuffer(data, np.uint8).reshape(-1, 4, 4, 3)

    def read(self, index: int) -> bytes:
        content = io.BytesIO()
        Image.fromarray(self.images[index]).save(content, "PNG")
        return content.getvalue()


def read(path: Path, *, labelled: bool) -> Dataset:
    source = Stack(path)
    count = len(source.images)
    labels = np.arange(count, dtype=np.int64) if labelled else None
    return Dataset(str(path), tuple(f"{i}" for i in range(count)), labels, source)


def read_nothing(path: Path, *, labelled: bool) -> str:
    return "nothing"


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package that offers readers is installed."""
    module = ModuleType("acme")
    vars(module).update(read=read, read_nothing=read_nothing)
    monkeypatch.setitem(sys.modules, "acme", module)
    offered = {"stack": "read", "npz": "read", "nothing": "read_nothing", "gone": "missing"}
    entries = [EntryPoint(name, f"acme:{what}", readers.GROUP) for name, what in offered.items()]
    monkeypatch.setattr(readers, "entry_points", lambda group: entries)
    readers._offered.cache_clear()
    yield
    readers._offered.cache_clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "Some.STACK"
    path.parent.mkdir()
    path.write_bytes(bytes(range(96)))
    return path


def test_a_file_with_the_ending_is_read_by_it(file: Path) -> None:
    found = open_dataset(file)
    assert (found.names, found.root) == (("0", "1"), str(file))
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    assert np.asarray(found[1].image).ravel().tolist() == list(range(48, 96))
    assert open_dataset(file, labelled=False).labels is None
    assert readers.reopen(found.opening).digest == found.digest  # type: ignore[arg-type]


def test_a_folder_of_such_files_is_read_by_it(file: Path) -> None:
    for name in ("a.stack", "b.stack"):
        (file.parent / name).write_bytes(bytes(48))
    file.unlink()
    assert len(open_dataset(file.parent)) == 2
    Image.new("RGB", (8, 8)).save(file.parent / "photo.png")
    assert open_dataset(file.parent).names == ("photo.png",)


def test_the_endings_of_quantlab_stay_its_own(tmp_path: Path) -> None:
    assert endings() == (*readers.FILES, ".gone", ".nothing", ".stack")
    images = np.zeros((3, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(3))
    assert len(open_dataset(tmp_path / "a.npz")) == 3


def test_outputs_are_kept_off_such_files(file: Path) -> None:
    assert file in set(dataset_parts(file.parent))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("half.stack", "the reader of .stack files of acme:read failed: ValueError: half an image"),
        ("a.nothing", "the reader of .nothing files of acme:read_nothing gave a str."),
        ("a.gone", "the reader of .gone files of acme:missing failed: AttributeError"),
    ],
)
def test_whatever_goes_wrong_names_the_package(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"1")
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path / name)
    assert said in caught.value.problem
    assert "Update or remove acme" in (caught.value.remedy or "")


def test_an_unknown_ending_names_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "a.mystery").write_bytes(b"1")
    with pytest.raises(DataError, match=r"\.parquet, \.gone, \.nothing, \.stack"):
        open_dataset(tmp_path / "a.mystery")
