"""Find which preprocessing a model was trained for, by its accuracy through several pipelines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from quantlab.data.preprocess import IMAGENET_MEAN, IMAGENET_STD, PIPELINES, Pipeline, get_pipeline
from quantlab.errors import RecipeError
from quantlab.model.model import InputSpec
from quantlab.stats.paired import CONFIDENCE, Interval, Share, paired_difference, wilson

_UNIT = "−1 to 1"
_VALUES = {
    (IMAGENET_MEAN, IMAGENET_STD): "ImageNet mean/std",
    (IMAGENET_MEAN[::-1], IMAGENET_STD[::-1]): "ImageNet mean/std",
    ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)): _UNIT,
    ((127.0, 127.0, 127.0), (128.0, 128.0, 128.0)): _UNIT,
    ((104.0, 117.0, 123.0), (1.0, 1.0, 1.0)): "minus 104,117,123",
    ((123.68, 116.78, 103.94), (1.0, 1.0, 1.0)): "minus 124,117,104",
}


class Tried(BaseModel):
    """One pipeline's score: ``values`` and ``color`` are what the model sees of its pixels.

    ``behind`` is the share of all images that the best pipeline gets right more; its Tango interval
    holds together with those of all other pipelines at 95% (Bonferroni).
    """

    model_config = ConfigDict(frozen=True)

    name: str
    values: str
    color: str
    top1: Share
    behind: float
    interval: Interval

    @property
    def surely_worse(self) -> bool:
        """Whether the best pipeline is significantly better."""
        return self.interval.low > 0

    @property
    def sees(self) -> str:
        """The values and colour order that the model sees, in words."""
        return f"{self.values} in {self.color}"


class Audit(BaseModel):
    """A model through several pipelines, the best first.

    ``chosen`` is the one that quantlab would take, ``left_out`` why others were not tried, by name;
    ``published`` is a top-1 as a fraction.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    images: int
    tried: tuple[Tried, ...]
    chosen: str
    left_out: dict[str, str] = {}
    published: float | None = None

    @property
    def best(self) -> Tried:
        """The one with most right answers."""
        return self.tried[0]

    @property
    def group(self) -> tuple[Tried, ...]:
        """The best pipeline and those that are not significantly worse."""
        return tuple(x for x in self.tried if not x.surely_worse)

    @property
    def wrong(self) -> tuple[Tried, ...]:
        """The pipelines that are significantly worse, the best of them first."""
        return tuple(x for x in self.tried if x.surely_worse)

    @property
    def settled(self) -> bool:
        """Whether the group agrees on values and colour order: only the geometry is open then."""
        return len({x.sees for x in self.group}) == 1

    @property
    def of_chosen(self) -> Tried:
        """The score of the pipeline that quantlab would take."""
        return next(x for x in self.tried if x.name == self.chosen)

    @property
    def fitting(self) -> tuple[Tried, ...]:
        """The pipelines whose interval contains the published accuracy."""
        return tuple(x for x in self.tried if (self.published or -1.0) in x.top1.interval)


def candidates(chosen: Pipeline, spec: InputSpec) -> tuple[tuple[Pipeline, ...], dict[str, str]]:
    """The chosen pipeline, the standard ones for this input and each with its channels swapped; and
    the names of those that are left out, with the reason.

    What gives the model the same pixels as an earlier one is left out, as is what cannot be cut to
    the input's size; nothing is swapped into what a standard one gives.
    """
    tried, left_out = [_with_distinct_name(chosen, spec)], dict[str, str]()
    for standard in PIPELINES.values():
        try:
            tried.append(get_pipeline(standard, size=spec.sides))
        except RecipeError as error:
            left_out[standard.name] = error.problem
    first: dict[tuple[object, ...], Pipeline] = {}
    known = {_sees(pipeline, spec) for pipeline in tried}
    others = [p for p in map(swapped, tried) if _sees(p, spec) not in known]
    for pipeline in [*tried, *others]:
        same = first.setdefault(_pixels(pipeline, spec), pipeline)
        if same.name != pipeline.name and pipeline.name in PIPELINES:
            left_out[pipeline.name] = f"the same pixels as {same.name}"
    return tuple(first.values()), left_out


def swapped(pipeline: Pipeline) -> Pipeline:
    """The pipeline fed with its channels in the other order, its numbers left where they are: what
    comes of images in BGR where RGB is meant."""
    other = "BGR" if pipeline.color == "RGB" else "RGB"
    return pipeline.model_copy(update={"color": other, "name": f"{pipeline.name} in {other}"})


def normalizations(chosen: Pipeline, spec: InputSpec) -> tuple[Pipeline, ...]:
    """The chosen pipeline, then its crops with the values and colours of the standard ones, as far
    as the model can tell these apart."""
    first = {_sees(chosen, spec)[1:]: _with_distinct_name(chosen, spec)}
    for standard in PIPELINES.values():
        part = standard.model_dump(include={"name", "color", "mean", "std"})
        first.setdefault(_sees(standard, spec)[1:], chosen.model_copy(update=part))
    return tuple(first.values())


def values_of(pipeline: Pipeline, spec: InputSpec) -> str:
    """What becomes of the pixels' values, in words."""
    if spec.dtype == "uint8":
        return "raw pixels"
    known = _VALUES.get((pipeline.mean, pipeline.std))
    mean, std = (",".join(f"{v:g}" for v in part) for part in (pipeline.mean, pipeline.std))
    return known or f"minus {mean}, by {std}"


def color_of(pipeline: Pipeline, spec: InputSpec) -> str:
    """The colours that the model sees, in order."""
    return pipeline.color if spec.channels == 3 else "grey"


def _with_distinct_name(chosen: Pipeline, spec: InputSpec) -> Pipeline:
    """The chosen pipeline, renamed where it has a standard one's name but other fields."""
    standard = PIPELINES.get(chosen.name)
    if standard is None or get_pipeline(standard, size=spec.sides).digest == chosen.digest:
        return chosen
    return chosen.model_copy(update={"name": f"own {chosen.name}"})


def _sees(pipeline: Pipeline, spec: InputSpec) -> tuple[str, str, str]:
    """Its geometry, and what the model sees in words."""
    return pipeline.crop_digest, values_of(pipeline, spec), color_of(pipeline, spec)


def _pixels(pipeline: Pipeline, spec: InputSpec) -> tuple[object, ...]:
    """What decides the model's input."""
    values: tuple[object, ...] = () if spec.dtype == "uint8" else (pipeline.mean, pipeline.std)
    if spec.channels == 1:
        values = () if spec.dtype == "uint8" else pipeline.grey
    return (pipeline.crop_digest, color_of(pipeline, spec), *values)


def audit(
    model: str,
    spec: InputSpec,
    pipelines: Sequence[Pipeline],
    answers: Iterable[NDArray[np.int64]],
    labels: NDArray[np.int64],
    *,
    left_out: dict[str, str] | None = None,
    published: float | None = None,
) -> Audit:
    """Compare the answers through ``pipelines``, the first of which is the chosen one.

    ``answers`` are the model's first answers [n] through each of them on the same images and
    ``labels`` [n] the right ones. The pipeline with most right answers is compared with each other
    image by image. The intervals hold together: with 95% confidence the truly best pipeline is not
    called wrong, whichever seems best here.
    """
    right = np.array([found == labels for found in answers])
    counts, n = right.sum(axis=1), len(labels)
    order = np.argsort(-counts, kind="stable").tolist()
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(order) - 1)

    def tried(i: int) -> Tried:
        best, count = right[order[0]], int(counts[i])
        lost, gained = int((best & ~right[i]).sum()), int((~best & right[i]).sum())
        return Tried(
            name=pipelines[i].name,
            values=values_of(pipelines[i], spec),
            color=color_of(pipelines[i], spec),
            top1=Share(count=count, n=n, value=count / n, interval=wilson(count, n)),
            behind=(lost - gained) / n,
            interval=paired_difference(lost, gained, n, confidence),
        )

    return Audit(
        model=model,
        images=n,
        tried=tuple(tried(i) for i in order),
        chosen=pipelines[0].name,
        left_out=left_out or {},
        published=published,
    )
