"""Images that a program holds: arrays, and other libraries' datasets by their protocols."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from quantlab.data.crops import load_crops
from quantlab.data.preprocess import get_pipeline, ready
from quantlab.data.readers import open_dataset
from quantlab.data.readers.memory import read
from quantlab.errors import DataError
from quantlab.testing import npz_file
from quantlab.testing.examples import example_images

IMAGES, LABELS = example_images(2)


class Tensor:
    """What NumPy can read, and nothing else: as torch's and TensorFlow's tensors are."""

    def __init__(self, value: Any) -> None:
        self.value = np.asarray(value)
        self.shape = self.value.shape

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, index: int) -> Tensor:
        return Tensor(self.value[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.value

    def __index__(self) -> int:
        return int(self.value)


class TorchLike:
    """A map-style dataset, and the indices that it was asked for."""

    classes = ("cat", "dog", "fox", "owl")

    def __init__(self, images: Any) -> None:
        self.images, self.asked = images, list[int]()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self.asked.append(index)
        return self.images[index], int(LABELS[index])


class HuggingFaceLike:
    """Rows are mappings; the label's names are in ``features``."""

    features = {"label": SimpleNamespace(names=["cat", "dog", "fox", "owl"])}  # noqa: RUF012

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"image": Image.fromarray(IMAGES[index]), "label": int(LABELS[index])}


class Batched:
    """As a DataLoader or a batched ``tf.data``: iterable, of batches."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in (slice(0, 3), slice(3, 6), slice(6, 8)):
            yield Tensor(IMAGES[rows].transpose(0, 3, 1, 2)), Tensor(LABELS[rows])


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


FORMS: dict[str, Any] = {
    "arrays": lambda: (IMAGES, LABELS),
    "lists": lambda: (list(IMAGES), LABELS.tolist()),
    "pairs": lambda: list(zip(IMAGES, LABELS, strict=True)),
    "mappings": lambda: [{"image": x, "label": y} for x, y in zip(IMAGES, LABELS, strict=True)],
    "PIL": lambda: [(Image.fromarray(x), int(y)) for x, y in zip(IMAGES, LABELS, strict=True)],
    "torch": lambda: TorchLike([Tensor(x.transpose(2, 0, 1)) for x in IMAGES]),
    "hugging face": HuggingFaceLike,
    "generator": lambda: ((x, y) for x, y in zip(IMAGES, LABELS, strict=True)),
    "tensors": lambda: (Tensor(IMAGES), Tensor(LABELS)),
    "batches": Batched,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_images(form: str, tmp_path: Path) -> None:
    file = open_dataset(npz_file(tmp_path / "x.npz", LABELS.tolist(), 40))
    found = read(FORMS[form]())
    assert found.labels is not None
    assert found.labels.tolist() == LABELS.tolist()
    assert all(np.array_equal(found[i].image, IMAGES[i]) for i in range(len(IMAGES)))
    assert found.content_digests == read((IMAGES, LABELS)).content_digests
    assert len(found.content_digests[0]) == len(file.content_digests[0]) == 64


def test_pixels_have_the_digests_that_an_npz_gives_them(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES, labels=LABELS)
    assert read((IMAGES, LABELS)).content_digests == (
        open_dataset(tmp_path / "x.npz").content_digests
    )


def test_encoded_files_are_read_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(IMAGES[0]))
    for image in (png(IMAGES[0]), tmp_path / "0.png", {"bytes": png(IMAGES[0]), "path": None}):
        found = read([(image, 0)])
        assert np.array_equal(found[0].image, IMAGES[0])


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 1), (1, 9, 7)])
def test_grey_becomes_rgb(shape: tuple[int, ...]) -> None:
    grey = np.arange(63, dtype=np.uint8).reshape(9, 7)
    (found,) = (np.asarray(read([grey.reshape(shape)])[0].image),)
    assert np.array_equal(found, np.stack([grey] * 3, axis=-1))


def test_an_upright_image_whatever_its_exif_says() -> None:
    image = Image.fromarray(IMAGES[0][:20])
    exif = image.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    image.save(file, "jpeg", exif=exif)
    with Image.open(io.BytesIO(file.getvalue())) as opened:
        assert read([(opened, 0)])[0].image.size == (20, 40)


def test_class_names() -> None:
    assert read(TorchLike(IMAGES)).class_names == ("cat", "dog", "fox", "owl")
    assert read(HuggingFaceLike()).class_names == ("cat", "dog", "fox", "owl")
    assert read((IMAGES, LABELS)).class_names is None


def test_an_indexed_dataset_is_not_copied_and_read_again_when_needed(tmp_path: Path) -> None:
    given = TorchLike(IMAGES)
    found = read(given)
    assert given.asked == list(range(8))
    load_crops(found, get_pipeline("torchvision", size=32), cache_dir=tmp_path)
    load_crops(read(given), get_pipeline("torchvision", size=32), cache_dir=tmp_path)
    assert len(given.asked) == 24  # digests, crops, digests: the crops are known


def test_random_changes_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    class Augmented(TorchLike):
        def __getitem__(self, index: int) -> tuple[Any, int]:
            return rng.permutation(self.images[index]), 0

    with pytest.raises(DataError, match="another image than before"):
        load_crops(
            read(Augmented(IMAGES)), get_pipeline("torchvision", size=32), cache_dir=tmp_path
        )


def test_floats_are_ready_inputs_bit_for_bit(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    found = read((inputs, LABELS))
    assert found.ready
    crops = load_crops(found, ready(32), cache_dir=tmp_path)
    assert crops.array.dtype == np.float32
    assert np.array_equal(crops.array.transpose(0, 3, 1, 2), inputs)
    again = load_crops(found, ready(32), cache_dir=tmp_path)
    assert np.array_equal(again.array, crops.array)


def test_inputs_of_another_size_are_bad_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\[3, 8, 8\] is not an input of 32 x 32"):
        load_crops(
            read(np.zeros((2, 3, 8, 8), np.float32)), ready(32), cache_dir=tmp_path, max_bad=0
        )


WRONG: dict[str, tuple[Any, str]] = {
    "a number": (3, "int is no collection"),
    "a mapping": ({"train": []}, "dict is no collection"),
    "nothing": ([], "holds no images"),
    "counts": ((IMAGES, LABELS[:3]), "8 images have 3 labels"),
    "three parts": ([(IMAGES[0], 0, 1)], "has 3 parts"),
    "no image": ([{"img": IMAGES[0], "label": 0}], "img, label and no 'image'"),
    "integers": ([(IMAGES[0].astype(np.int64), 0)], r"\[0\]: ndarray of int64"),
    "a shape": ([(IMAGES[0, 0, 0], 0)], "is no image"),
    "a label": ([(IMAGES[0], "cat")], "the label 'cat' is no class index"),
    "some labels": ([(IMAGES[0], 1), (IMAGES[1], None)], r"\[1\] has no label"),
    "both kinds": ([IMAGES[0], np.zeros((3, 32, 32))], "some images are pixels"),
    "an object": ([(object(), 0)], "is no image"),
    "a file": ([("nothing.jpg", 0)], "cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_image_is_said(case: str) -> None:
    data, words = WRONG[case]
    with pytest.raises(DataError, match=words):
        read(data)
