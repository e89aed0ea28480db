"""Baseline: what one model was accepted with, in a small file that stands in a repository.

A gate compares with it instead of running the first model again. The file is for people who review
its changes; the model's answers lie beside it, compressed, so that the comparison can be made image
by image. Where they are missing the accuracies' intervals are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from quantlab._util.flat import flat
from quantlab._util.yamlfile import read_yaml, validate
from quantlab.compare.comparison import Where
from quantlab.errors import DataError, IsaChangeError, RecipeError, RecordError
from quantlab.evaluate.accuracy import Accuracy
from quantlab.evaluate.predictions import Predictions
from quantlab.gate.criterion import Unpaired
from quantlab.gate.rules import Decision, Rule, combine
from quantlab.gate.verdict import judge_unpaired
from quantlab.stats.paired import Share

MOST_STORED = 128 * 1024**2
"""Answers that take more bytes are not kept: they do not belong into a repository."""
_DECIMALS = 6
_SHA256 = r"^[0-9a-f]{64}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BaselineModel(_Part):
    """The model."""

    name: str
    sha256: str = Field(pattern=_SHA256)
    bytes: int = Field(gt=0)


class BaselineImages(_Part):
    """The images; ``digest`` is of their contents, names and labels."""

    images: int = Field(gt=0)
    digest: str = Field(pattern=_SHA256)


class BaselineRate(_Part):
    """An accuracy: ``right`` of all images, as a fraction with Wilson's 95% interval."""

    right: int = Field(ge=0)
    value: float
    low: float
    high: float


class Answers(_Part):
    """The file of the answers, beside the baseline."""

    file: str = Field(pattern=r"^[\w][\w.-]*\.npz$")
    sha256: str = Field(pattern=_SHA256)


class Baseline(_Part):
    """One accepted model. ``metrics`` is empty for unlabelled images; ``isa`` is the kind of int8
    instructions that gave the answers; without ``predictions`` nothing is paired."""

    schema_version: Literal[1] = 1
    model: BaselineModel
    data: BaselineImages
    pipeline: dict[str, Any]
    metrics: dict[Literal["top1", "top5"], BaselineRate]
    isa: str
    versions: dict[str, str]
    predictions: Answers | None = None

    @model_validator(mode="after")
    def _counts_fit(self) -> Baseline:
        for name, rate in self.metrics.items():
            if abs(rate.value - rate.right / self.data.images) > 10**-_DECIMALS:
                raise ValueError(
                    f"metrics.{name}: value {rate.value} is not {rate.right} of "
                    f"{self.data.images} images"
                )
        return self


def baseline_of(
    predictions: Predictions,
    accuracy: Accuracy | None,
    *,
    size_bytes: int,
    environment: Mapping[str, str],
) -> Baseline:
    """What is to be accepted. ``environment`` are the facts of ``runtime.environment``."""
    shares = {} if accuracy is None else {"top1": accuracy.top1, "top5": accuracy.top5}
    return Baseline(
        model=BaselineModel(
            name=predictions.model_name, sha256=predictions.model_sha256, bytes=size_bytes
        ),
        data=BaselineImages(images=len(predictions), digest=predictions.dataset_digest),
        pipeline=dict(predictions.pipeline),
        metrics={name: _rate(share) for name, share in shares.items() if share is not None},
        isa=environment["isa"],
        versions={name: environment[name] for name in ("quantlab", "onnxruntime", "pillow")},
    )


def _rate(share: Share) -> BaselineRate:
    value, low, high = (
        round(x, _DECIMALS) for x in (share.value, share.interval.low, share.interval.high)
    )
    return BaselineRate(right=share.count, value=value, low=low, high=high)


def as_yaml(baseline: Baseline, update: str) -> str:
    """The file's text; ``update`` is the command that wrote it."""
    heading = f"# What `quantlab gate` compares with. Written by:\n# {update}\n"
    data = baseline.model_dump(mode="json", exclude_none=True)
    return heading + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def load_baseline(path: Path) -> Baseline:
    """Read the file. Raises RecordError when it is missing, damaged, or a newer quantlab's."""
    if not path.is_file():
        raise RecordError(
            f"{path}: there is no such baseline.",
            f"Accept a model first: quantlab baseline update MODEL --baseline {path}",
        )
    try:
        data = read_yaml(path)
        version = data.get("schema_version")
        if version != 1:
            raise RecordError(
                f"{path} has schema version {version}; this quantlab reads version 1.",
                "A newer quantlab wrote it, or it is no baseline.",
            )
        return validate(Baseline, data, str(path))
    except RecipeError as error:
        raise RecordError(
            f"the baseline is damaged: {error.problem}",
            "Take the file from version control again, or accept anew: quantlab baseline update "
            "--force",
        ) from error


def load_answers(baseline: Baseline, path: Path) -> Predictions | None:
    """The answers beside the baseline at ``path``, None when the file is not there.

    Raises RecordError when it is not the one that the baseline names, or too large.
    """
    if baseline.predictions is None:
        return None
    file = path.with_name(baseline.predictions.file)
    if not file.is_file():
        return None
    if file.stat().st_size > MOST_STORED:
        raise RecordError(f"{file} is larger than {MOST_STORED >> 20} MiB: no baseline's answers.")
    if hashlib.sha256(file.read_bytes()).hexdigest() != baseline.predictions.sha256:
        raise RecordError(
            f"{file} is not the file that {path.name} names: its sha256 differs.",
            "Take both from version control again, or accept anew: quantlab baseline update "
            "--force",
        )
    answers = Predictions.load(file, max_bytes=2 * MOST_STORED)
    facts = (answers.model_sha256, answers.dataset_digest, len(answers))
    if facts != (baseline.model.sha256, baseline.data.digest, baseline.data.images):
        raise RecordError(f"{file} holds answers of another model or of other images.")
    return answers


def check_same_images(baseline: Baseline, digest: str, images: int, path: Path) -> None:
    """Raises DataError when these are not the images that the baseline was made on."""
    if digest != baseline.data.digest:
        raise DataError(
            f"{path} was made on other images: {baseline.data.images:,} of digest "
            f"{baseline.data.digest[:12]}, here are {images:,} of digest {digest[:12]}.",
            "Gate on the same images and labels, or accept anew: quantlab baseline update",
        )


def check_same_pipeline(baseline: Baseline, pipeline: Mapping[str, Any], path: Path) -> None:
    """Raises DataError when images were preprocessed in another way."""
    if dict(pipeline) != baseline.pipeline:
        apart = ", ".join(
            f"{row.key.removeprefix('pipeline.')} {row.old} there and {row.new} here"
            for row in _rows({"pipeline": baseline.pipeline}, {"pipeline": dict(pipeline)})
        )
        raise DataError(
            f"{path} was made through another preprocessing: {apart}.",
            "Gate with the same --pipeline, or accept anew: quantlab baseline update",
        )


def check_same_isa(baseline: Baseline, isa: str, path: Path) -> None:
    """Raises IsaChangeError when this CPU multiplies int8 in another way."""
    if isa != baseline.isa:
        raise IsaChangeError(
            f"{path} was made with {baseline.isa} instructions, this CPU has {isa}: int8 models "
            "may answer differently here.",
            "Gate on a CPU of the same kind, or allow it: --allow-isa-change",
        )


class Difference(_Part):
    """A key with two values; None where one side does not have it."""

    key: str
    old: str | None
    new: str | None


def differences(old: Baseline, new: Baseline) -> tuple[Difference, ...]:
    """Every key whose value changed, in the file's order."""
    sides = [b.model_dump(mode="json", exclude_none=True) for b in (old, new)]
    return tuple(_rows(*sides))


def _rows(old: Mapping[str, Any], new: Mapping[str, Any]) -> Sequence[Difference]:
    first, second = flat(old), flat(new)
    return [
        Difference(key=key, old=first.get(key), new=second.get(key))
        for key in dict.fromkeys([*first, *second])
        if first.get(key) != second.get(key)
    ]


def is_accepted_file(baseline: Baseline, sha256: str, environment: Mapping[str, str]) -> bool:
    """Whether a model is the very file that was accepted, and what makes answers of images here is
    what did there: then they are the same, as the images and the preprocessing are."""
    there = {"isa": baseline.isa, **{name: baseline.versions.get(name) for name in _ANSWERING}}
    return sha256 == baseline.model.sha256 and all(
        environment.get(name) == value for name, value in there.items()
    )


_ANSWERING = ("onnxruntime", "pillow")
"""The libraries on whose versions answers depend."""


def decide_unpaired(
    baseline: Baseline,
    accuracy: Accuracy | None,
    size_bytes: int | None,
    rules: Sequence[Rule],
    *,
    accepted_file: bool = False,
    where: Where | None = None,
) -> Decision:
    """The decision without the baseline's answers: accuracies by their intervals, the size as it
    is; what needs the images one by one is inconclusive. ``accepted_file``: see
    ``is_accepted_file``; little but the size has to be judged then. ``where``: of the model."""
    known = Unpaired(
        before={name: (r.right, baseline.data.images) for name, r in baseline.metrics.items()},
        now={} if accuracy is None else {"top1": accuracy.top1, "top5": accuracy.top5},
        size_bytes=size_bytes,
        sha256=baseline.model.sha256,
        same_file=accepted_file,
        where=where,
    )
    judged = [rule for rule in rules if rule.level != "off"]
    return combine((rule, judge_unpaired(rule.criterion, known)) for rule in judged)
