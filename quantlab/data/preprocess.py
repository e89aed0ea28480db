"""Pipelines: from an upright image to the model's input, pinned to a resizer and versioned."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from quantlab._util.yamlfile import read_yaml, validate
from quantlab.errors import DataError, MissingExtraError, RecipeError, meant
from quantlab.model.model import InputSpec

_MAX_SIDE = 4096
_MAX_RESIZED = 25_000_000
_NEAR = 0.1  # of a pixel's step: float16 keeps less

Resizer = Literal["pillow-bilinear", "pillow-bicubic", "opencv-bilinear"]
Number = Annotated[float, Field(allow_inf_nan=False)]
Size = tuple[int, int]  # width, height, as Pillow and OpenCV have it
Box = tuple[int, int, int, int]  # left, top, right, bottom
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Pipeline(BaseModel):
    """A preprocessing pipeline: resize, crop, colour order, mean and standard deviation.

    ``resize`` is the length of the shorter side, or (height, width) to resize straight to;
    ``crop`` is one side of a square, or (height, width);
    ``mean`` and ``std`` are on the scale 0 to 255 and in the order that ``color`` names.

    Examples:
        >>> from quantlab import Pipeline
        >>> pipeline = Pipeline(
        ...     resizer="pillow-bilinear", resize=256, crop=224, mean=(0, 0, 0), std=(255, 255, 255)
        ... )
        >>> pipeline.sized(112).resize
        128
        >>> pipeline.sized((128, 64)).crop
        (128, 64)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="custom", max_length=100)
    version: int = Field(default=1, ge=1)
    resizer: Resizer
    resize: int | tuple[int, int]
    crop: int | tuple[int, int]
    color: Literal["RGB", "BGR"] = "RGB"
    mean: tuple[Number, Number, Number]
    std: tuple[Positive, Positive, Positive]

    @field_validator("resize", "crop", mode="before")
    @classmethod
    def _sides_in_words(cls, value: object) -> object:
        sides = value if isinstance(value, (list, tuple)) and len(value) == 2 else [value]
        if all(type(side) is int and 1 <= side <= _MAX_SIDE for side in sides):
            return value
        raise ValueError(f"must be one side or [height, width], each from 1 to {_MAX_SIDE}")

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if any(crop > source for crop, source in zip(self.shape, _pair(self.resize), strict=True)):
            raise ValueError(
                f"the crop ({_in_words(self.crop)}) is larger than its source "
                f"({_in_words(self.resize)})"
            )
        return self

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the crops in pixels."""
        return _pair(self.crop)

    @property
    def dtype(self) -> type[np.generic]:
        """The type of the crops: uint8."""
        return np.uint8

    @property
    def digest(self) -> str:
        """Twelve hex digits of all fields but the name."""
        return _short_hash(self.model_dump_json(exclude={"name"}))

    @property
    def crop_digest(self) -> str:
        """Twelve hex digits of what decides the uint8 crops; pipelines with the same digest share
        crops."""
        return _short_hash(self.model_dump_json(include={"resizer", "resize", "crop"}))

    def crop_image(self, image: Image.Image) -> NDArray[Any]:
        """An upright RGB image as uint8 [height, width, 3], RGB whatever ``color`` says; not always
        contiguous.

        Raises DataError for an image so elongated that resizing it would take too much memory,
        MissingExtraError when the resizer is OpenCV's and that is not installed.
        """
        width, height = self._resized(*image.size)
        if width * height > _MAX_RESIZED:
            raise DataError(f"{image.width} x {image.height} is too elongated to be resized.")
        tall, wide = self.shape
        left, top = round((width - wide) / 2), round((height - tall) / 2)
        box = (left, top, left + wide, top + tall)
        return _RESIZERS[self.resizer](image, (width, height), box)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after resizing, rounded as torchvision's functional.resize does."""
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        if width < height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def normalize(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 RGB [n, h, w, 3] as float32 [n, h, w, 3]: colours ordered, minus mean, by std."""
        return np.ascontiguousarray(self._planes(crops).transpose(0, 2, 3, 1))

    def to_input(self, crops: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
        """uint8 RGB [n, h, w, 3] in the model's layout and dtype; a grey model gets luminance.

        A uint8 model normalizes by itself and gets raw pixels, colours ordered. Raises RecipeError
        when the crops are not of the model's size.
        """
        if crops.shape[1:3] != (spec.height, spec.width):
            raise RecipeError(
                f"The pipeline {self.name} gives {crops.shape[1]} x {crops.shape[2]} pixels, the "
                f"model's input {spec.name} takes {spec.height} x {spec.width}.",
                "Choose a pipeline with the model's crop.",
            )
        if spec.channels == 1:
            grey = luminance(crops)
            mean, std = self.grey
            planes = grey if spec.dtype == "uint8" else (grey - np.float32(mean)) / np.float32(std)
        else:
            planes = self._ordered(crops) if spec.dtype == "uint8" else self._planes(crops)
        ordered = planes if spec.layout == "NCHW" else planes.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(ordered)

    @property
    def grey(self) -> tuple[float, float]:
        """Mean and standard deviation for luminance: the means of those of the three colours."""
        return sum(self.mean) / 3, sum(self.std) / 3

    def from_input(self, array: NDArray[Any]) -> NDArray[Any]:
        """What ``to_input`` was given: uint8 RGB [height, width, 3], three times the luminance
        where it gave that.

        ``array`` is one image as a model takes it: [3, h, w] or [h, w, 3], or with 1 for 3, perhaps
        with a batch of one around it, uint8 or normalized floats. Raises DataError ``"<reason>."``
        where this pipeline cannot have given it.
        """
        image = array[0] if array.ndim == 4 and len(array) == 1 else array
        shape = self.shape
        if image.shape in ((3, *shape), (1, *shape)):
            image = image.transpose(1, 2, 0)
        elif image.shape not in ((*shape, 3), (*shape, 1)):
            raise DataError(f"{list(array.shape)} is not an input of {shape[0]} x {shape[1]}.")
        if image.dtype.kind == "f":
            image = self._pixels(image)
        elif image.dtype != np.uint8:
            raise DataError(f"an input of {image.dtype}, neither floats nor uint8.")
        image = np.broadcast_to(image, (*shape, 3))
        return np.ascontiguousarray(image if self.color == "RGB" else image[..., ::-1])

    def _pixels(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """[h, w, 3 or 1] with mean and std undone."""
        mean, std = self.grey if image.shape[2] == 1 else (self.mean, self.std)
        exact = image.astype(np.float64) * np.array(std) + np.array(mean)
        pixels = np.rint(exact).clip(0, 255)
        if not (np.abs(exact - pixels) <= _NEAR).all():
            raise DataError(
                f"not an input that the pipeline {self.name} gives (--pipeline names another)."
            )
        return np.asarray(pixels, np.uint8)

    def _ordered(self, crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """[n, 3, h, w], colours ordered; no copy of crops whose colours lie so."""
        ordered = crops if self.color == "RGB" else crops[..., ::-1]
        return np.ascontiguousarray(ordered.transpose(0, 3, 1, 2))

    def _planes(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        ordered = self._ordered(crops)
        planes = np.empty(ordered.shape, np.float32)
        mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (self.mean, self.std))
        for image, pixels in zip(planes, ordered, strict=True):  # one fits into a core's cache
            image[...] = pixels
            image -= mean
            image /= std
        return planes

    def sized(self, size: int | tuple[int, int]) -> Pipeline:
        """The same pipeline for a model of this input size: one side, or (height, width).

        A size between the crop and the shorter side is cut from the same resized image (caffe:
        227 from 256); any other scales the resizing with the crop. For another shape than the
        crop's the image is resized straight to that shape.
        """
        tall, wide = _pair(size)
        sources = _pair(self.resize)
        if self.shape[0] * wide == self.shape[1] * tall:
            if self.shape[0] <= tall and max(tall, wide) <= min(sources):
                return self.model_copy(update={"crop": _side(tall, wide)})
            scaled = [
                round(source * new / old)
                for source, new, old in zip(sources, (tall, wide), self.shape, strict=True)
            ]
            resize = scaled[0] if isinstance(self.resize, int) else tuple(scaled)
        else:
            more = min(sources) / max(self.shape)
            resize = (max(tall, round(tall * more)), max(wide, round(wide * more)))
        changed = {"crop": _side(tall, wide), "resize": resize}
        return validate(Pipeline, {**dict(self), **changed}, self.name)


def _pair(sides: int | tuple[int, int]) -> tuple[int, int]:
    return (sides, sides) if isinstance(sides, int) else sides


def _side(height: int, width: int) -> int | tuple[int, int]:
    return height if height == width else (height, width)


def _in_words(sides: int | tuple[int, int]) -> str:
    return str(sides) if isinstance(sides, int) else f"{sides[0]} x {sides[1]}"


class Ready(Pipeline):
    """The pipeline of inputs that the caller has preprocessed: it does not resize, crop or
    normalize.

    Its crops are float32 [height, width, 3]. ``inputs`` tells its definition from other pipelines'.
    """

    inputs: Literal["ready"] = "ready"

    @property
    def dtype(self) -> type[np.generic]:
        """Of the crops: the floats that the model takes."""
        return np.float32

    def crop_image(self, image: Image.Image) -> NDArray[Any]:
        """Raises DataError: this pipeline cannot preprocess images."""
        raise DataError("an image, where ready inputs are needed (or name a pipeline).")

    def from_input(self, array: NDArray[Any]) -> NDArray[Any]:
        """One input, float [3, h, w] or [h, w, 3], perhaps with a batch of one around it, as
        float32 [h, w, 3]. Raises DataError ``"<reason>."``."""
        image = array[0] if array.ndim == 4 and len(array) == 1 else array
        shape = self.shape
        if image.shape == (3, *shape):
            image = image.transpose(1, 2, 0)
        elif image.shape != (*shape, 3):
            raise DataError(f"{list(array.shape)} is not an input of {shape[0]} x {shape[1]}.")
        if image.dtype.kind != "f":
            raise DataError(f"an input of {image.dtype}, not of floats.")
        return np.ascontiguousarray(image, np.float32)

    def to_input(self, crops: NDArray[Any], spec: InputSpec) -> NDArray[Any]:
        """float32 [n, h, w, 3] in the model's layout. Raises RecipeError where it takes no floats
        of this size."""
        if spec.dtype != "float32" or crops.shape[1:3] != (spec.height, spec.width):
            raise RecipeError(
                f"The model's input {spec.name} takes {spec.dtype} {spec.height} x {spec.width}, "
                f"the ready inputs are float32 {crops.shape[1]} x {crops.shape[2]}.",
                "Make them of the model's size.",
            )
        ordered = crops.transpose(0, 3, 1, 2) if spec.layout == "NCHW" else crops
        return np.ascontiguousarray(ordered)

    def sized(self, size: int | tuple[int, int]) -> Pipeline:
        """For a model of another input size."""
        return self.model_copy(update={"crop": size, "resize": size})


def ready(size: int | tuple[int, int]) -> Ready:
    """The pipeline of ready inputs of ``size`` pixels a side, or (height, width)."""
    plain: dict[str, Any] = {"mean": (0, 0, 0), "std": (1, 1, 1), "resizer": "pillow-bilinear"}
    return Ready(name="ready", resize=size, crop=size, **plain)


def get_pipeline(
    spec: Pipeline | Mapping[str, Any] | Path | str, size: int | tuple[int, int] | None = None
) -> Pipeline:
    """A pipeline by name, from a mapping of all its fields, or from a YAML file of them.

    ``size`` is the height and width of the model's input, one number where they are equal; the
    pipeline is adapted to it. Raises RecipeError.
    """
    pipeline = _find(spec)
    return pipeline if size is None or _pair(size) == pipeline.shape else pipeline.sized(size)


def _find(spec: Pipeline | Mapping[str, Any] | Path | str) -> Pipeline:
    if isinstance(spec, Pipeline):
        return spec
    if isinstance(spec, Mapping):
        if "inputs" in spec:
            return validate(Ready, spec, "pipeline")
        return validate(Pipeline, spec, "pipeline")
    name = ALIASES.get(str(spec), str(spec))
    if name in PIPELINES:
        return PIPELINES[name]
    path = Path(spec)
    if path.suffix.lower() in (".yaml", ".yml") or path.is_file():
        return validate(Pipeline, read_yaml(path), str(path))
    known = (*PIPELINES, *ALIASES)
    hint = f"{meant(spec, known)} Known: {', '.join(known)}; or give a YAML file."
    raise RecipeError(f"There is no pipeline {str(spec)!r}.", hint.strip())


LUMA = (19595, 38470, 7471)
"""Weights of red, green and blue in 65,536ths: ITU-R 601, rounded as Pillow has them."""


def luminance(crops: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 RGB [n, h, w, 3] as grey [n, 1, h, w], the very values of Pillow's mode L."""
    weighed = crops.astype(np.int32) @ np.array(LUMA, np.int32)
    return ((weighed + 2**15) >> 16).astype(np.uint8)[:, None]


def opencv_version() -> str:
    """The version of OpenCV. Raises MissingExtraError when it is not installed."""
    return str(_opencv().__version__)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        purpose = "The resizer opencv-bilinear"
        raise MissingExtraError("opencv-python-headless", "opencv", purpose) from error
    return cv2


def _pillow(
    method: Image.Resampling, image: Image.Image, size: Size, box: Box
) -> NDArray[np.uint8]:
    """Only what the crop needs is computed where that gives the same pixels, to the last bit."""
    if size != image.size:
        image, box = _resized_part(method, image, size, box)
    cropped = image if box == (0, 0, *image.size) else image.crop(box)
    return np.stack([np.asarray(band) for band in cropped.split()]).transpose(1, 2, 0)


def _resized_part(
    method: Image.Resampling, image: Image.Image, size: Size, box: Box
) -> tuple[Image.Image, Box]:
    """The image resized to ``size``, or a part of that, and where ``box`` is in it."""
    left, top, right, bottom = box
    across = _stretch(image.width, size[0], left, right)
    down = _stretch(image.height, size[1], top, bottom)
    part = across.length, down.length
    if _rows_first(image.size, size) != _rows_first(image.size, part):
        return image.resize(size, method), box
    resized = image.resize(part, method, (across.first, down.first, across.last, down.last))
    x, y = across.start, down.start
    return resized, (left - x, top - y, right - x, bottom - y)


class _Stretch(NamedTuple):
    """Along one side, ``length`` pixels of the resized image from ``start`` on, and where in the
    image itself they begin and end."""

    start: int
    length: int
    first: float
    last: float


def _stretch(source: int, resized: int, start: int, end: int) -> _Stretch:
    """From ``start`` to ``end`` where Pillow's numbers, float32 and then double, hold the place of
    each of these pixels exactly: it weighs the same pixels then as for all. Else the whole side,
    as where nothing is to be resized along it."""
    common = math.gcd(source, resized)
    parts = resized // common
    if source == resized or parts & (parts - 1) or end * (source // common) >= 2**24:
        return _Stretch(0, resized, 0, source)
    return _Stretch(start, end - start, start * source / resized, end * source / resized)


def _rows_first(source: Size, resized: Size) -> bool:
    """Whether newer versions of Pillow resize the height first, which rounds differently."""
    fewer = source[1] - resized[1]
    return fewer > 0 and fewer > 2 * (source[0] - resized[0])


def _opencv_bilinear(image: Image.Image, size: Size, box: Box) -> NDArray[np.uint8]:
    cv2 = _opencv()
    pixels: NDArray[np.uint8] = cv2.resize(np.asarray(image), size, interpolation=cv2.INTER_LINEAR)
    left, top, right, bottom = box
    return pixels[top:bottom, left:right]


_RESIZERS: dict[Resizer, Callable[[Image.Image, Size, Box], NDArray[np.uint8]]] = {
    "pillow-bilinear": partial(_pillow, Image.Resampling.BILINEAR),
    "pillow-bicubic": partial(_pillow, Image.Resampling.BICUBIC),
    "opencv-bilinear": _opencv_bilinear,
}
"""How to resize an image to a size and crop it to a box."""


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _pipeline(
    name: str,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    **fields: Any,
) -> Pipeline:
    geometry = {"resizer": "pillow-bilinear", "resize": 256, "crop": 224}
    return Pipeline.model_validate({"name": name, **geometry, "mean": mean, "std": std, **fields})


PIPELINES: dict[str, Pipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        _pipeline("torchvision", IMAGENET_MEAN, IMAGENET_STD),
        _pipeline("timm-bicubic", IMAGENET_MEAN, IMAGENET_STD, resizer="pillow-bicubic"),
        _pipeline("tf", (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
        _pipeline("caffe", (104, 117, 123), (1, 1, 1), color="BGR"),
        _pipeline("lite", (127, 127, 127), (128, 128, 128), resizer="pillow-bicubic"),
        _pipeline("inc", IMAGENET_MEAN, IMAGENET_STD, resizer="opencv-bilinear", resize=(256, 256)),
        _pipeline("paddle", IMAGENET_MEAN, IMAGENET_STD, resizer="opencv-bilinear"),
        _pipeline("mxnet", (123.68, 116.78, 103.94), (1, 1, 1), resizer="opencv-bilinear"),
        _pipeline(
            "caffe2",
            IMAGENET_MEAN[::-1],
            IMAGENET_STD[::-1],
            resizer="opencv-bilinear",
            color="BGR",
        ),
    )
}
"""The named pipelines. A change of one's pixels or numbers raises its version."""

ALIASES = {"mmcls": "torchvision", "keras": "tf", "mindcv": "paddle"}
"""What other frameworks call the pipelines above."""
