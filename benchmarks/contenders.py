"""Who takes part in benchmarks/fidelity.py, on which models, with which recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantlab.recipe import Recipe

PEERS = ("quantlab", "ort", "inc", "nncf")
HISTOGRAM_BYTES = 6 * 2**30
"""Quantizers that keep every activation get as many calibration images as fit into this."""


@dataclass(frozen=True)
class Subject:
    """A model of the benchmark: a file under QUANTLAB_DATA/models, or a published name.

    ``size`` is its input's height and width, one number where they are equal. ``pipeline`` is a
    name or a pipeline's fields. The image folders lie under QUANTLAB_DATA; ``labelled``: their
    labels are the model's classes.
    """

    name: str
    pipeline: str | dict[str, Any]
    size: int | tuple[int, int] = 224
    calibration: str = "imagenet/calib1000"
    evaluation: tuple[str, ...] = ("imagenet/val1300", "imagenet/imagenette500")
    labelled: bool = True


def _beside(name: str, images: str, pipeline: str | dict[str, Any], size: Any = 224) -> Subject:
    """A model whose images lie beside it."""
    folders = [f"models/modern/{images}/{part}" for part in ("calib", "eval")]
    return Subject(f"modern/{name}", pipeline, size, folders[0], (folders[1],), labelled=False)


_LINES = {
    "resizer": "pillow-bilinear",
    "resize": [48, 192],
    "crop": [48, 192],
    "color": "BGR",
    "mean": [127.5] * 3,
    "std": [127.5] * 3,
}
_DIGITS = {
    "resizer": "pillow-bilinear",
    "resize": 64,
    "crop": 64,
    "mean": [127.5] * 3,
    "std": [63.75] * 3,
}
SUBJECTS = (
    Subject("mobilenetv2-12", "torchvision"),
    Subject("efficientnet-lite0", "lite"),
    Subject("mobilenetv1-tf", "tf"),
    Subject("squeezenet1.1-caffe", "caffe", 227),
    Subject("modern/shufflenetv2-1.0", "torchvision"),
    Subject("modern/efficientnet-b0", "torchvision", labelled=False),
    _beside("pplcnet-x1_0", "doc", "torchvision"),
    _beside("mobilenetv3-text", "lines", _LINES, (48, 192)),
    _beside("mobilevit-xxs-digits", "digits", _DIGITS, 64),
)


@dataclass(frozen=True)
class Contender:
    """A recipe and who follows it. ``options`` go to the engine's constructor; ``keeps``: it keeps
    every activation; ``images`` is what it gets instead of as many as the others; ``only`` limits
    it to these models."""

    peer: str
    title: str
    recipe: Recipe
    options: dict[str, Any] = field(default_factory=dict)
    keeps: bool = False
    images: int | None = None
    only: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """For tables and file names."""
        return f"{self.peer} {self.title}"


def _plain(**fields: Any) -> Recipe:
    off = {"equalize": False, "bias_correction": False, "rounding": "nearest"}
    return Recipe(**{"range_search": False, **off, **fields})


def _ort(ranges: str, title: str = "") -> Contender:
    keeps = ranges in ("percentile", "entropy")
    return Contender("ort", title or ranges, _plain(engine="ort", ranges=ranges), keeps=keeps)


def _inc(ranges: str, title: str) -> Contender:
    recipe = _plain(engine="inc", ranges=ranges)
    return Contender("inc", title, recipe, keeps=ranges != "minmax")


def _nncf(title: str, accurate: bool) -> Contender:
    recipe = _plain(engine="nncf", ranges="mean", bias_correction=True)
    return Contender("nncf", title, recipe, {"accurate": accurate})


FIRST = ("mobilenetv2-12",)
_OF_IMAGENET = tuple(s.name for s in SUBJECTS if s.calibration == Subject.calibration)
_LOGITS_TOO = _plain(engine="ort", ranges="minmax", fp32_output=False)
CONTENDERS = (
    Contender("quantlab", "default", Recipe()),
    Contender("quantlab", "default, 1,000 images", Recipe(), images=1000, only=_OF_IMAGENET),
    Contender("quantlab", "qoperator", Recipe(format="qoperator"), only=FIRST),
    Contender("quantlab", "mse ranges", Recipe(ranges="mse", range_search=False), only=FIRST),
    Contender("quantlab", "no corrections", _plain(ranges="mean")),
    Contender("quantlab", "not portable", Recipe(portable=False), only=FIRST),
    Contender("quantlab", "7-bit weights", Recipe(reduce_range=True), only=FIRST),
    Contender("quantlab", "a16w8", Recipe(activations="u16"), only=FIRST),
    _ort("minmax"),
    Contender("ort", "minmax, logits too", _LOGITS_TOO, only=FIRST),
    _ort("mean", "mean (moving average)"),
    _ort("percentile"),
    _ort("entropy"),
    _inc("minmax", "minmax"),
    _inc("entropy", "kl"),
    _nncf("fast bias correction", accurate=False),
    _nncf("accurate bias correction", accurate=True),
)
PARTS = ("equalize", "bias_correction", "rounding", "range_search")
_ON: dict[str, Any] = {name: Recipe.model_fields[name].default for name in PARTS}


def _own(title: str, **fields: Any) -> Contender:
    return Contender("quantlab", title, Recipe(**fields))


def _only(*parts: str) -> dict[str, Any]:
    """Fields of a recipe with no part on but these."""
    return _plain(ranges="mean", **{name: _ON[name] for name in parts}).model_dump()


_OFF: dict[str, Any] = _only()
ABLATION = (
    _own("default"),
    *(_own(f"default without {name}", **{name: _OFF[name]}) for name in PARTS),
    _own("default, per tensor", per_channel=False),
    _own("default, logits quantized too", fp32_output=False),
    _own("no part", **_OFF),
    *(_own(f"{name} alone", **_only(name)) for name in PARTS),
    _own("bias_correction + equalize", **_only("bias_correction", "equalize")),
    _own("bias_correction + equalize + rounding", **_only(*PARTS[:3])),
    *(
        _own(f"no part, ranges {ranges}", **{**_OFF, "ranges": ranges})
        for ranges in ("minmax", "moving-average", "percentile", "entropy", "mse")
    ),
    _own("no part, smooth 0.5", **{**_OFF, "smooth": 0.5}),
    _own("default, not portable", portable=False),
    _own("default, 7-bit weights", reduce_range=True),
    _own("default, u8u8", weights="u8"),
    _own("default, s8s8", activations="s8"),
    _own("default, a16w8", activations="u16"),
    _own("default, a16w16", activations="s16", weights="s16"),
    _own("default, int4 weights", weights="s4"),
)
REFERENCE = "ort minmax"
"""ONNX Runtime's own per-channel QDQ file, to which speeds are compared too."""


def chosen(subject: str, peers: Sequence[str]) -> list[Contender]:
    """The contenders on that model among these peers."""
    return [c for c in CONTENDERS if c.peer in peers and (not c.only or subject in c.only)]


def images_for(contender: Contender, images: int, activation_bytes: int) -> int:
    """How many calibration images it gets of ``images``."""
    fitting = max(1, HISTOGRAM_BYTES // max(1, activation_bytes))
    return min(images, fitting) if contender.keeps else contender.images or images


def parse_peers(texts: Sequence[str]) -> dict[str, str]:
    """``name=PYTHON`` as a mapping. Raises ValueError for anything else."""
    peers = {}
    for text in texts:
        name, sign, python = text.partition("=")
        if not sign or not python or name not in PEERS[1:]:
            raise ValueError(
                f"--peer {text}: expected one of {', '.join(PEERS[1:])}, as inc=PYTHON"
            )
        # Not resolved: the link in a virtual environment's bin is what selects the environment.
        peers[name] = str(Path(python).absolute())
    return peers
