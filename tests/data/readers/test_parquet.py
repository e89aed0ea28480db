from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quantlab.data.readers import open_dataset, parquet
from quantlab.errors import DataError, MissingExtraError
from quantlab.testing import pixels, truncate
from quantlab.testing.formats import encoded, parquet_file

pytest.importorskip("pyarrow")
LABELS = [4, 0, 2]


def test_a_file(tmp_path: Path) -> None:
    dataset = open_dataset(parquet_file(tmp_path / "a.parquet", LABELS), num_classes=5)
    assert dataset.labels is not None
    assert (dataset.labels.dtype, dataset.labels.tolist()) == (np.dtype(np.int64), LABELS)
    assert dataset.names == ("a.parquet[0]", "a.parquet[1]", "a.parquet[2]")
    assert (dataset.label_source, dataset.class_names) == ("the column of labels", None)
    for i in (2, 0, 1):
        assert np.array_equal(np.asarray(dataset[i].image), pixels(LABELS[i], i, 64))
    assert len(set(dataset.content_digests)) == 3


def test_a_folder_of_files(tmp_path: Path) -> None:
    for seed in (1, 0):
        parquet_file(tmp_path / f"val-{seed}.parquet", LABELS, seed=seed)
    (tmp_path / "README.md").write_text("of a hub")
    dataset = open_dataset(tmp_path)
    assert dataset.labels is not None
    assert dataset.labels.tolist() == LABELS * 2
    assert dataset.names[2:4] == ("val-0.parquet[2]", "val-1.parquet[0]")
    assert np.array_equal(np.asarray(dataset[5].image), pixels(2, 1002, 64))


def test_plain_bytes_and_other_names(tmp_path: Path) -> None:
    columns = {"image": None, "label": None, "img": [encoded(n) for n in LABELS], "labels": LABELS}
    dataset = open_dataset(parquet_file(tmp_path / "a.parquet", LABELS, **columns))
    assert dataset.labels is not None
    assert dataset.labels.tolist() == LABELS
    assert np.array_equal(np.asarray(dataset[1].image), pixels(0, 0, 64))


def test_without_labels(tmp_path: Path) -> None:
    dataset = open_dataset(parquet_file(tmp_path / "a.parquet", LABELS, label=None))
    assert (dataset.labels, dataset.label_source) == (None, "none")


def test_the_hubs_class_names(tmp_path: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(parquet_file(tmp_path / "a.parquet", LABELS))
    features = {"label": {"names": list("abcde"), "_type": "ClassLabel"}}
    facts = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(facts), tmp_path / "a.parquet")
    assert open_dataset(tmp_path / "a.parquet").class_names == ("a", "b", "c", "d", "e")


def test_an_empty_row_is_a_bad_image(tmp_path: Path) -> None:
    images = [{"bytes": encoded(1), "path": "a"}, {"bytes": None, "path": "b"}, None]
    dataset = open_dataset(parquet_file(tmp_path / "a.parquet", LABELS, image=images))
    assert np.array_equal(np.asarray(dataset[0].image), pixels(1, 0, 64))
    for i in (1, 2):
        with pytest.raises(DataError, match=rf"a\.parquet\[{i}\]: no image in this row"):
            dataset[i]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": None}, r"has no column of images \(label\).\nGive a file with"),
        ({"image": [1, 2, 3]}, "has no column of images"),
        ({"image": [{"path": "a"}] * 3}, "has no column of images"),
        ({"label": ["a", "b", "c"]}, "the column 'label' is string with 0 empty rows"),
        ({"label": [1, None, 2]}, "the column 'label' is int64 with 1 empty rows"),
        ({"label": [1.0, 2.0, 3.0]}, "the column 'label' is double"),
    ],
)
def test_other_columns(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_dataset(parquet_file(tmp_path / "a.parquet", LABELS, **columns))


def test_files_that_differ(tmp_path: Path) -> None:
    parquet_file(tmp_path / "a.parquet", LABELS)
    parquet_file(tmp_path / "b.parquet", LABELS, label=None)
    with pytest.raises(DataError, match="do not all have the same columns"):
        open_dataset(tmp_path)


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet_file(tmp_path / "a.parquet", LABELS)
    dataset = open_dataset(path)
    monkeypatch.setattr(parquet, "MAX_GROUP_BYTES", 10)
    with pytest.raises(DataError, match=r"row group 1 holds .*\nWrite it with smaller row groups"):
        dataset[2]
    truncate(path)
    with pytest.raises(DataError, match=r"is not a readable Parquet file: .*\nCopy it again"):
        open_dataset(path)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.parquet cannot be read: "):
        dataset[0]


def test_an_empty_file(tmp_path: Path) -> None:
    path = parquet_file(tmp_path / "a.parquet", [], image=[b""], label=[1])
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path).slice(0, 0), path)
    with pytest.raises(DataError, match="holds no images"):
        open_dataset(path)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet_file(tmp_path / "a.parquet", LABELS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtraError, match=r"needs the package pyarrow.*\n.*quantlab\[parquet\]"
    ):
        open_dataset(path)
