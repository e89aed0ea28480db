from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from quantlab.data.dataset import Dataset, ImageProblem, describe
from quantlab.data.readers import open_dataset
from quantlab.errors import DataError
from quantlab.testing import image_folder, npz_file, photo, pixels, truncate


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return open_dataset(image_folder(tmp_path / "images", 3, per_class=2))


def test_samples_come_in_order(dataset: Dataset) -> None:
    samples = [dataset[i] for i in range(len(dataset))]
    assert [s.label for s in samples] == [0, 0, 1, 1, 2, 2]
    assert [s.name for s in samples][:3] == ["0/000.png", "0/001.png", "1/000.png"]
    assert np.array_equal(np.asarray(samples[3].image), np.asarray(photo(1, 1)))


def test_indices_work_like_a_lists(dataset: Dataset) -> None:
    assert dataset[-1].name == dataset[5].name
    assert len(list(dataset)) == 6  # type: ignore[call-overload]
    with pytest.raises(IndexError):
        dataset[6]


def test_content_digest_is_the_files_sha256(dataset: Dataset, tmp_path: Path) -> None:
    data = (tmp_path / "images/1/000.png").read_bytes()
    assert dataset.content_digest(2) == hashlib.sha256(data).hexdigest()
    assert dataset.content_digests[2] == dataset.content_digest(2)


def test_digest_changes_with_content_label_and_order(dataset: Dataset, tmp_path: Path) -> None:
    same = open_dataset(tmp_path / "images")
    assert same.digest == dataset.digest
    photo(1, 99).save(tmp_path / "images/1/000.png")
    others = [
        open_dataset(tmp_path / "images"),
        dataset.subset([1, 0, 2, 3, 4, 5]),
        dataset.subset([0, 1]),
        open_dataset(tmp_path / "images", labelled=False),
    ]
    assert len({dataset.digest, *(d.digest for d in others)}) == 5


def test_a_subset_keeps_its_images(dataset: Dataset) -> None:
    for whole in (dataset, open_dataset(Path(dataset.root))):
        part = whole.subset(np.array([4, 1])).subset([1, 0])
        assert part.names == ("0/001.png", "2/000.png")
        assert part.labels is not None
        assert part.labels.tolist() == [0, 2]
        assert part[1].name == "2/000.png"
        assert part.content_digests == (dataset.content_digests[1], dataset.content_digests[4])
    assert len(dataset.subset([])) == 0


def test_an_unreadable_file_has_an_empty_digest(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "images/0/000.png").unlink()
    assert dataset.content_digests[0] == ""
    with pytest.raises(DataError, match=r"^0/000\.png: cannot be read: no such file"):
        dataset.content_digest(0)
    with pytest.raises(DataError, match=r"^0/000\.png: cannot be read"):
        dataset[0]


def test_a_truncated_file_is_an_error_only_when_asked_for(tmp_path: Path) -> None:
    image_folder(tmp_path / "d", 2)
    truncate(tmp_path / "d/0/000.png")
    dataset = open_dataset(tmp_path / "d")
    assert dataset.content_digests[0] != ""
    with pytest.raises(DataError, match=r"0/000\.png: the file is truncated"):
        dataset[0]


def test_npz_digests_are_of_the_pixels(tmp_path: Path) -> None:
    first = open_dataset(npz_file(tmp_path / "a.npz", [1, 0]))
    second = open_dataset(npz_file(tmp_path / "b.npz", [1, 0]))
    assert first.content_digests == second.content_digests
    assert first.content_digest(0) != first.content_digest(1)
    assert np.array_equal(np.asarray(first[0].image), pixels(1, 0, 64))


def test_describe_names_ten_and_counts_the_rest() -> None:
    problems = [ImageProblem(f"{i}.jpg", "gone") for i in range(12)]
    text = describe(problems)
    assert text.startswith("0.jpg: gone; 1.jpg: gone")
    assert text.endswith("9.jpg: gone; and 2 more")
    assert describe(problems[:1]) == "0.jpg: gone"
