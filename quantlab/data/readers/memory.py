"""Read images from memory: arrays, and datasets of other libraries by their protocols.

Nothing of torch, Hugging Face or TensorFlow is imported: an item is a pair or a mapping, an image
is a PIL image, an encoded file or anything that NumPy can read (``__array__``).
"""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from quantlab.data.dataset import Content, Dataset, digest_of
from quantlab.data.images import MAX_PIXELS, upright_rgb
from quantlab.errors import DataError

TAKEN = (
    "Give a path, a URL, (images, labels), or a sequence or an iterable of (image, label) or of "
    "{'image': …, 'label': …}."
)


class Indexed(Protocol):
    """A collection with a length and items by index, as torch's and Hugging Face's datasets are."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any: ...


class MemorySource:
    """Images of an indexed collection, taken out when asked for, one at a time."""

    def __init__(self, items: Indexed, digests: Sequence[str], ready: bool) -> None:
        self._items, self._digests, self._ready = items, digests, ready
        self._lock = threading.Lock()

    def read(self, index: int) -> Content:
        """The image. Raises DataError when it is not the one that was there at first."""
        with self._lock:
            content = content_of(parts_of(self._items[index])[0], name_of(index))
        if digest_of(content, self._ready) != self._digests[index]:
            raise DataError(
                f"{name_of(index)}: another image than before, as random changes would make.",
                "Switch random cropping, flipping and the like off: these images are to be judged.",
            )
        return content


def read(data: object) -> Dataset:
    """The images of ``data`` with their labels; each is looked at once, for its content's digest.

    An iterable without a length and indices is read to its end and kept in memory; batches of it,
    as a DataLoader gives them, are taken apart. Floats make the dataset ``ready``. Raises
    DataError for what is no collection of images.
    """
    items = _items(data)
    contents, labels = list[Content](), list[int | None]()
    digests, kinds = list[str](), set[bool]()
    kept = not isinstance(items, _Indexed)
    for index, item in enumerate(items if kept else map(items.__getitem__, range(len(items)))):
        image, label = parts_of(item)
        content = content_of(image, name_of(index))
        ready = not isinstance(content, bytes) and content.dtype.kind == "f"
        kinds.add(ready)
        digests.append(digest_of(content, ready))
        labels.append(_label(label, name_of(index)))
        if kept:
            contents.append(content)
    if not digests:
        raise DataError("the data holds no images.", TAKEN)
    if len(kinds) > 1:
        raise DataError(
            "some images are pixels (uint8) and some are ready inputs (floats).",
            "Give all of them in one form.",
        )
    (ready,) = kinds
    known = [label for label in labels if label is not None]
    if known and len(known) < len(labels):
        raise DataError(
            f"{name_of(labels.index(None))} has no label, and others have one.",
            "Label all images, or none.",
        )
    dataset = Dataset(
        root=f"{type(data).__name__} in memory",
        names=tuple(map(name_of, range(len(digests)))),
        labels=np.array(known, np.int64) if known else None,
        source=MemorySource(contents if kept else items, digests, ready),
        class_names=_class_names(data),
        label_source="given with the images" if known else "none",
        ready=ready,
    )
    return dataset.knowing(digests)


class _Indexed:
    """An indexed collection, as opposed to one that can be read once only."""

    def __init__(self, items: Indexed) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


class _Pairs(_Indexed):
    """Images [n, …] and their labels [n], or None."""

    def __init__(self, images: Indexed, labels: Indexed | None) -> None:
        super().__init__(images)
        self._labels = labels
        if labels is not None and len(labels) != len(images):
            raise DataError(
                f"{len(images)} images have {len(labels)} labels.", "Give one label an image."
            )

    def __getitem__(self, index: int) -> Any:
        return self._items[index], None if self._labels is None else self._labels[index]


def _items(data: Any) -> Any:
    """``data`` as something indexed, or an iterator of items that is used up once."""
    if isinstance(data, str | bytes | Mapping | Dataset):
        raise DataError(f"{type(data).__name__} is no collection of images.", TAKEN)
    if _rank(data) >= 3:
        return _Pairs(data, None)
    if isinstance(data, tuple) and len(data) == 2 and _are_labels(data[1]):
        images, labels = data
        if _rank(images) >= 3 or isinstance(images, list | tuple):
            return _Pairs(images, labels)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _Indexed(data)
    if isinstance(data, Iterable):
        return (pair for item in data for pair in _apart(item))
    raise DataError(f"{type(data).__name__} is no collection of images.", TAKEN)


def _rank(value: object) -> int:
    """The number of dimensions of an array of any library, 0 for anything else."""
    return len(getattr(value, "shape", ()))


def _are_labels(value: object) -> bool:
    """Whether it is None or a row of integers."""
    if value is None or (_rank(value) == 1):
        return True
    return isinstance(value, list | tuple) and all(isinstance(x, int | np.integer) for x in value)


def _apart(item: Any) -> Iterator[tuple[Any, Any]]:
    """One image with its label; those of a batch one by one."""
    image, label = parts_of(item)
    if _rank(image) == 4 and (label is None or _rank(label) == 1):
        yield from zip(image, repeat(None) if label is None else label, strict=False)
    else:
        yield image, label


def parts_of(item: Any) -> tuple[Any, Any]:
    """The image and the label, or None, of a pair, of a mapping with ``image`` and ``label``, or of
    an image alone. Raises DataError."""
    if isinstance(item, Mapping):
        if "image" not in item:
            raise DataError(
                f"an item has {', '.join(map(str, item)) or 'nothing'} and no 'image'.",
                "Name the columns 'image' and 'label'.",
            )
        return item["image"], item.get("label")
    if isinstance(item, tuple | list):
        if len(item) != 2:
            raise DataError(f"an item has {len(item)} parts, not (image, label).", TAKEN)
        return item[0], item[1]
    return item, None


def name_of(index: int) -> str:
    """The name given to an image that has no file."""
    return f"[{index}]"


def content_of(image: Any, name: str) -> Content:
    """The image as a Source gives it: the bytes of a file, pixels uint8 [h, w, 3], or a ready
    input float32 [3, h, w] or [h, w, 3]. Raises DataError ``"<name>: <reason>."``."""
    if isinstance(image, bytes):
        return image
    if isinstance(image, Mapping) and isinstance(image.get("bytes"), bytes):
        encoded: bytes = image["bytes"]
        return encoded
    if isinstance(image, str | os.PathLike):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise DataError(f"{name}: {image} cannot be read: {error.strerror}.") from error
    if isinstance(image, Image.Image):
        return np.asarray(upright_rgb(image))
    try:
        array = np.asarray(image)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{name}: {type(image).__name__} cannot be read as an array: {error}.",
            "A tensor must be on the CPU and without a gradient: tensor.detach().cpu().",
        ) from error
    if array.dtype == np.uint8:
        return _pixels(array, name)
    if array.dtype.kind == "f":
        return _input(array, name)
    raise DataError(
        f"{name}: {type(image).__name__} of {array.dtype} {list(array.shape)} is no image.",
        "Give a PIL image, uint8 pixels, or floats as the model takes them.",
    )


def _pixels(array: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """uint8 [h, w], [h, w, c] or [c, h, w] as RGB [h, w, 3]; alpha is dropped."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        raise DataError(f"{name}: uint8 {list(array.shape)} is no image.", "Give [h, w, 3].")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise DataError(f"{name}: {list(array.shape)} is over the bound of {MAX_PIXELS} pixels.")
    colours = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    return np.ascontiguousarray(colours)


def _input(array: NDArray[Any], name: str) -> NDArray[np.float32]:
    """A ready input: float [3, h, w] or [h, w, 3], perhaps with a batch of one around it."""
    image = array[0] if array.ndim == 4 and len(array) == 1 else array
    if image.ndim != 3 or 3 not in (image.shape[0], image.shape[2]):
        raise DataError(
            f"{name}: {array.dtype} {list(array.shape)} is no ready input.", "Give [3, h, w]."
        )
    return np.ascontiguousarray(image, np.float32)


def _label(label: Any, name: str) -> int | None:
    if label is None:
        return None
    try:
        return operator.index(label)
    except TypeError as error:
        raise DataError(
            f"{name}: the label {label!r} is no class index.", "Labels are integers from 0."
        ) from error


def _class_names(data: Any) -> tuple[str, ...] | None:
    """As torchvision's datasets (``classes``) or Hugging Face's (``features``) have them."""
    features = getattr(data, "features", None)
    column = features.get("label") if isinstance(features, Mapping) else None
    names = getattr(column, "names", None) or getattr(data, "classes", None)
    named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    return tuple(names) if named and names else None
