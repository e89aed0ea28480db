from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from quantlab.data.readers import open_dataset, webdataset
from quantlab.errors import DataError
from quantlab.testing import pixels, truncate
from quantlab.testing.formats import encoded, pairs, tar_shard


def test_a_shard(tmp_path: Path) -> None:
    shard = tar_shard(tmp_path / "a.tar", [("notes.txt", b"x"), *pairs([4, 0, 2])])
    dataset = open_dataset(shard, num_classes=5)
    assert dataset.labels is not None
    assert (dataset.labels.dtype, dataset.labels.tolist()) == (np.dtype(np.int64), [4, 0, 2])
    assert dataset.names == ("a.tar/d/000.png", "a.tar/d/001.png", "a.tar/d/002.png")
    assert (dataset.problems, dataset.label_source) == ((), "the shards' .cls files")
    for i, label in enumerate((4, 0, 2)):
        assert np.array_equal(np.asarray(dataset[i].image), pixels(label, i, 64))
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]


@pytest.mark.parametrize("pattern", ["", "v-{8..10}.tar", "v-{08..10}.tar", "v-{0..1}{0..9}.tar"])
def test_several_shards(tmp_path: Path, pattern: str) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    width = 1 if pattern == "v-{8..10}.tar" else 2
    for label, number in enumerate((8, 9, 10)):
        tar_shard(folder / f"v-{number:0{width}d}.tar", pairs([label, label + 1], seed=label))
    if pattern == "v-{0..1}{0..9}.tar":
        with pytest.raises(DataError, match=r"v-00\.tar cannot be read: no such file"):
            open_dataset(folder / pattern)
        return
    dataset = open_dataset(folder / pattern)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1, 1, 2, 2, 3]
    assert len(set(dataset.names)) == 6
    assert np.array_equal(np.asarray(dataset[4].image), pixels(2, 2000, 64))


def test_keys_end_at_the_first_dot_of_the_name(tmp_path: Path) -> None:
    image = encoded(1)
    members = [("v1.0/a.left.png", image), ("v1.0/a.cls", b" 3\n"), ("v1.0/.b.png", image)]
    dataset = open_dataset(tar_shard(tmp_path / "a.tar", members))
    assert dataset.names == ("a.tar/v1.0/a.left.png",)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [3]


@pytest.mark.parametrize("label", [b"", b"cat", b"-1", b"1" * 10, b"1" + b" " * 200])
def test_an_image_without_a_class_index_is_a_problem(tmp_path: Path, label: bytes) -> None:
    members = [*pairs([1]), ("e/9.png", encoded(1)), ("e/9.cls", label)]
    dataset = open_dataset(tar_shard(tmp_path / "a.tar", members))
    assert len(dataset) == 1
    assert [(p.name, p.reason) for p in dataset.problems] == [
        ("a.tar/e/9.png", "no class index in a .cls of the same key")
    ]


def test_no_label_at_all(tmp_path: Path) -> None:
    dataset = open_dataset(tar_shard(tmp_path / "a.tar", pairs([1, 2])[::2]))
    assert (dataset.labels, len(dataset), dataset.problems) == (None, 2, ())


def test_links_and_holes_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("d.png", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../real.png")
        info.size = len(encoded(1))
        archive.addfile(info, io.BytesIO(encoded(1)))
    dataset = open_dataset(tmp_path / "a.tar")
    assert dataset.names == ("a.tar/../../real.png",)
    assert np.array_equal(np.asarray(dataset[0].image), pixels(1, 0, 64))


def test_every_cut_of_a_shard_is_noticed(tmp_path: Path) -> None:
    path = tar_shard(tmp_path / "a.tar", pairs([1, 2])[1:])
    data = path.read_bytes()
    end = len(data.rstrip(b"\0")) // 512 * 512 + 512
    for size in range(0, end, 256):
        path.write_bytes(data[:size])
        with pytest.raises(DataError, match="not a readable tar"):
            open_dataset(path)
    path.write_bytes(data[: end + 512])
    assert len(open_dataset(path)) == 1


def test_damaged_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_shard(tmp_path / "a.tar", pairs([1, 2, 3]))
    dataset = open_dataset(path)
    truncate(path, 0.2)
    with pytest.raises(DataError, match=r"a\.tar/d/002\.png: the shard is cut off"):
        dataset[2]
    with pytest.raises(DataError, match=r"a\.tar is not a readable tar: .*\nA shard is an un"):
        open_dataset(path)
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(DataError, match="is not a readable tar"):
        open_dataset(path)
    path.unlink()
    with pytest.raises(DataError, match="cannot be read: no such file"):
        dataset[0]
    monkeypatch.setattr(webdataset, "MAX_FILE_BYTES", 10)
    with pytest.raises(DataError, match="larger than"):
        dataset[0]


@pytest.mark.parametrize("name", ["v-{5..4}.tar", "v-{0..10000}.tar", "v-{0..99}{0..999}.tar"])
def test_patterns_are_bounded(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not count from 1 to 10000 shards"):
        open_dataset(tmp_path / name)


def test_a_tar_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder or file"):
        open_dataset(tmp_path / "none.tar")
