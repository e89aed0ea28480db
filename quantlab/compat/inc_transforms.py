"""Convert Neural Compressor's transforms for ONNX Runtime into one Pipeline. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from quantlab._util.yamlfile import validate
from quantlab.data.preprocess import IMAGENET_STD, PIPELINES, Pipeline
from quantlab.errors import RecipeError

TransformKind = Literal["used", "same", "ignored"]


@dataclass(frozen=True)
class Step:
    """One transform: the pipeline's keys it became, or why it has no effect."""

    name: str
    kind: TransformKind
    became: str = ""
    why: str = ""


def pipeline_of(transforms: Mapping[str, Any]) -> tuple[str | dict[str, Any] | None, list[Step]]:
    """The pipeline (the name of one of quantlab's, else a mapping) and what each transform is to
    it. No pipeline when they do not make an image of one size."""
    made = _Composed()
    steps = [_step(made, str(name), arguments) for name, arguments in transforms.items()]
    try:
        pipeline = validate(Pipeline, made.fields(), "pipeline")
    except (RecipeError, ValueError) as error:
        reason = error.problem if isinstance(error, RecipeError) else str(error)
        unused = [_unused(step, reason.removeprefix("pipeline: ")) for step in steps]
        return None, unused
    same = (name for name, known in PIPELINES.items() if known.digest == pipeline.digest)
    return next(same, made.fields()), steps


def _unused(step: Step, reason: str) -> Step:
    return Step(step.name, "ignored", why=reason) if step.kind == "used" else step


@dataclass
class _Composed:
    """The combined effect of the transforms so far: geometry, and values as (x - mean) / std."""

    resizer: str = "opencv-bilinear"
    resize: int | list[int] | None = None
    crop: int | None = None
    color: str = "RGB"
    mean: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    std: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0])

    def fields(self) -> dict[str, Any]:
        """As a Pipeline's mapping. Raises ValueError when the image has no certain size."""
        if self.resize is None:
            raise ValueError("nothing resizes the image: the pipeline is found as without a file")
        crop = self.crop
        if crop is None and isinstance(self.resize, list) and self.resize[0] == self.resize[1]:
            crop = self.resize[0]
        if crop is None:
            raise ValueError("no square is cropped: the pipeline is found as without a file")
        return {
            "name": "neural-compressor",
            "resizer": self.resizer,
            "resize": self.resize,
            "crop": crop,
            "color": self.color,
            "mean": [round(value, 6) for value in self.mean],
            "std": [round(value, 6) for value in self.std],
        }

    def normalize(self, mean: list[float], std: list[float]) -> None:
        """Append: subtract ``mean`` and divide by ``std``."""
        self.mean = [m + s * n for m, s, n in zip(self.mean, self.std, mean, strict=True)]
        self.std = [s * n for s, n in zip(self.std, std, strict=True)]

    def to(self, resize: int | list[int]) -> None:
        """Append a resize. Raises ValueError after a crop, which no pipeline can express."""
        if self.crop is not None or self.resize is not None:
            raise ValueError("a pipeline resizes once, and then crops")
        self.resize = resize

    def cut(self, side: int) -> None:
        """Append a centre crop. Raises ValueError after another crop."""
        if self.crop is not None:
            raise ValueError("a pipeline crops once")
        self.crop = side


def _step(made: _Composed, name: str, arguments: Any) -> Step:
    if name in _SAME:
        return Step(name, "same", why=_SAME[name])
    if name not in _STEPS:
        random = name.startswith("Random")
        why = "calibration and evaluation are not random" if random else "no pipeline has it"
        return Step(name, "ignored", why=why)
    if arguments is not None and not isinstance(arguments, Mapping):
        return Step(name, "ignored", why="not a mapping of arguments")
    try:
        became, why = _STEPS[name](made, arguments or {})
    except ValueError as error:
        return Step(name, "ignored", why=str(error))
    return Step(name, "used", became, why)


_Said = tuple[str, str]
"""The pipeline's keys, and a remark."""
_RESIZERS = {
    "bilinear": ("opencv-bilinear", ""),
    "bicubic": ("pillow-bicubic", "OpenCV's bicubic becomes Pillow's"),
    "nearest": ("opencv-bilinear", "quantlab has no nearest neighbour"),
}
_SWAPPED = "Neural Compressor swaps the sides of an image that is not square; quantlab does not"


def _rescale(made: _Composed, _: Mapping[str, Any]) -> _Said:
    made.normalize([0.0] * 3, [255.0] * 3)
    return "std", ""


def _normalize(made: _Composed, arguments: Mapping[str, Any]) -> _Said:
    made.normalize(_three(arguments, "mean", 0.0), _positive(_three(arguments, "std", 1.0)))
    return "mean, std", ""


def _resize(made: _Composed, arguments: Mapping[str, Any]) -> _Said:
    sides = _sides(arguments.get("size"))
    resizer, why = _RESIZERS.get(str(arguments.get("interpolation", "bilinear")), ("", ""))
    if not resizer:
        raise ValueError("quantlab has no such interpolation")
    made.to([sides[-1], sides[0]])
    made.resizer = resizer
    return "resize, resizer", why


def _center_crop(made: _Composed, arguments: Mapping[str, Any]) -> _Said:
    made.cut(_square(*_sides(arguments.get("size"))))
    return "crop", ""


def _with_aspect_ratio(made: _Composed, arguments: Mapping[str, Any]) -> _Said:
    side = _square(_side(arguments.get("height")), _side(arguments.get("width")))
    scale = _number(arguments.get("scale", 87.5))
    if scale <= 0:
        raise ValueError("scale is not a percentage")
    made.to(int(100 * side / scale))
    made.resizer = "pillow-bilinear"
    return "resize, resizer", "OpenCV's averaging becomes Pillow's bilinear, which averages too"


def _resize_crop_imagenet(made: _Composed, arguments: Mapping[str, Any]) -> _Said:
    """Means up to 1 are of values that were divided by 255 (ONNX), others are not (TensorFlow)."""
    side = _square(_side(arguments.get("height")), _side(arguments.get("width")))
    mean = _three(arguments, "mean_value", 0.0)
    small = max(mean) <= 1
    unit = [value / 255 for value in IMAGENET_STD]
    std = _three(arguments, "std_value", unit) if small else [1 / _scale(arguments)] * 3
    if arguments.get("subpixels", "RGB") not in ("RGB", "BGR"):
        raise ValueError("subpixels is neither RGB nor BGR")
    made.to(_side(arguments.get("resize_side", 256)))
    made.cut(side)
    made.color = arguments.get("subpixels", "RGB")
    if small:
        _rescale(made, {})
    made.normalize(mean, _positive(std))
    random = "; the random crop becomes a central one" if arguments.get("random_crop") else ""
    return "resize, crop, mean, std", f"{_SWAPPED if small else ''}{random}".removeprefix("; ")


def _bilinear_imagenet(made: _Composed, arguments: Mapping[str, Any]) -> _Said:
    """The central part of both sides, resized: as the whole resized and then cut."""
    side = _square(_side(arguments.get("height")), _side(arguments.get("width")))
    part = _number(arguments.get("central_fraction", 0.875))
    if not 0 < part <= 1:
        raise ValueError("central_fraction is not a fraction")
    whole = round(side / part)
    mean, scale = _three(arguments, "mean_value", 0.0), _scale(arguments)
    made.to([whole, whole])
    made.cut(side)
    _rescale(made, {})
    made.normalize([0.5] * 3, [0.5] * 3)
    made.normalize(mean, [1 / scale] * 3)
    return "resize, crop, mean, std", ""


_STEPS: dict[str, Callable[[_Composed, Mapping[str, Any]], _Said]] = {
    "Rescale": _rescale,
    "ToTensor": _rescale,
    "Normalize": _normalize,
    "Resize": _resize,
    "CenterCrop": _center_crop,
    "ResizeWithAspectRatio": _with_aspect_ratio,
    "ResizeCropImagenet": _resize_crop_imagenet,
    "BilinearImagenet": _bilinear_imagenet,
}
_SAME = {
    "Transpose": "the model's layout is detected",
    "Cast": "the model's input type is detected",
    "AlignImageChannel": "every image is made RGB",
    "ToArray": "",
    "ToNDArray": "",
    "ToPILImage": "",
    "ParseDecodeImagenet": "images are decoded",
}


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{value!r} is not a number") from None
    if isinstance(value, bool) or not abs(number) < 1e6:
        raise ValueError(f"{value!r} is not a number of this kind")
    return number


def _side(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is not a side in pixels")
    return value


def _sides(value: Any) -> tuple[int, int]:
    sides = value if isinstance(value, list) else [value]
    if len(sides) not in (1, 2):
        raise ValueError("size is one side or two")
    return _side(sides[0]), _side(sides[-1])


def _square(height: int, width: int) -> int:
    if height != width:
        raise ValueError("a pipeline crops squares")
    return height


def _three(arguments: Mapping[str, Any], key: str, default: float | list[float]) -> list[float]:
    """One number a channel, from a list, from words, or one for all."""
    value = arguments.get(key, default)
    items = value.replace(",", " ").split() if isinstance(value, str) else value
    numbers = [_number(item) for item in (items if isinstance(items, list) else [items])]
    if len(numbers) not in (1, 3):
        raise ValueError(f"{key} is not a number for each of three channels")
    return numbers * (3 // len(numbers))


def _positive(std: list[float]) -> list[float]:
    if min(std) <= 1e-6:
        raise ValueError("std is not positive")
    return std


def _scale(arguments: Mapping[str, Any]) -> float:
    scale = _number(arguments.get("scale", 1.0))
    if scale <= 0:
        raise ValueError("scale is not positive")
    return scale
