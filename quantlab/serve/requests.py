"""Requests: each verb's options that a client may set, and the command line made of them. Pure.

A client names things that the service holds, never a path. The fields are the verb's own options.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import click
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from quantlab.model.model import Layout, OutputKind
from quantlab.tune.trials import Pick
from quantlab.verbs.config import IncStrategy, Strategy

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}$",
        description="letters, digits and . _ + - only",
        examples=["mobilenetv2-12"],
    ),
]
"""A name in the service, or a model's sha256."""
Words = Annotated[
    str, Field(max_length=200, pattern=r"^[A-Za-z0-9.][A-Za-z0-9.,_%<>=+ -]*$", examples=["1%"])
]
"""A rule or a criterion: no option, no path, and no ``module:function`` of a client's choice."""
FileName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,94}\.onnx$",
        description="what the int8 file is called; default: MODEL.int8.onnx",
    ),
]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Threads = Annotated[int, Field(ge=0, le=1024)]
Batch = Annotated[int, Field(ge=1, le=1024)]
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]


class _Request(BaseModel):
    """``MODELS`` and ``DATASETS`` are the fields that name such, ``COMMAND`` the words of the verb,
    ``ALWAYS`` the options that it is always given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    MODELS: ClassVar[tuple[str, ...]] = ("model",)
    DATASETS: ClassVar[tuple[str, ...]] = ("data",)
    COMMAND: ClassVar[tuple[str, ...]]
    ALWAYS: ClassVar[tuple[str, ...]] = ()

    @property
    def exclusive(self) -> bool:
        """Whether it times models, and so needs a machine for itself."""
        return False


class _OfModel(_Request):
    pipeline: Name | None = Field(None, description="preprocessing: a name such as torchvision")
    layout: Layout | None = None
    output_kind: OutputKind | None = None
    size: Annotated[int, Field(ge=1, le=2048)] | None = None
    threads: Threads = Field(0, description="0: all cores")


class _OfImages(_OfModel):
    data: Name = Field(description="a dataset's name")
    max_bad: Annotated[float, Field(ge=0, le=1)] = 0.01


class _Evaluated(_OfImages):
    batch_size: Batch | None = None
    split: Annotated[str, Field(pattern=r"^\d{1,4}x\d{1,4}$")] | None = None
    fold_preprocess: bool = False


class TuneRequest(_Evaluated):
    """Find the best int8 file."""

    DATASETS: ClassVar[tuple[str, ...]] = ("data", "eval_data")
    COMMAND: ClassVar[tuple[str, ...]] = ("tune",)

    verb: Literal["tune"]
    model: Name
    eval_data: Name | None = Field(None, description="to judge on; default: part of data")
    recipe: Name | None = Field(None, description="try only this recipe")
    output: FileName | None = None
    max_decline: Words | None = Field(None, examples=["1%", "0.5pp"])
    criterion: Words | None = Field(None, examples=["agreement >= 96%"])
    images_per_class: Count | None = None
    calibration_size: Count | None = None
    seed: Seed = 0
    budget: Annotated[float, Field(gt=0, le=7 * 86400)] = Field(300.0, description="seconds")
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.0
    strategy: Strategy = "ladder"
    engine: Name = "quantlab"
    inc_strategy: IncStrategy | None = None
    quant_format: Literal["QDQ", "QOperator", "default"] | None = None
    max_trials: Count | None = None
    target_speedup: Annotated[float, Field(ge=0, le=1e6)] | None = None
    pick: Pick = "best"
    no_bench: bool = False
    no_audit: bool = False
    allow_overlap: bool = False
    gate: bool = Field(False, description="exit with the verdict")

    @property
    def exclusive(self) -> bool:
        """See _Request."""
        return not self.no_bench


class QuantizeRequest(_OfImages):
    """One model, one recipe, one int8 file."""

    COMMAND: ClassVar[tuple[str, ...]] = ("quantize",)

    verb: Literal["quantize"]
    model: Name
    recipe: Name | None = None
    output: FileName | None = None
    seed: Seed | None = None
    force: bool = Field(False, description="keep also a file unrelated to the fp32 model")


class EvaluateRequest(_Evaluated):
    """Top-1 and top-5 of one model."""

    COMMAND: ClassVar[tuple[str, ...]] = ("evaluate",)

    verb: Literal["evaluate"]
    model: Name
    log_interval: Count | None = None


class CompareRequest(_Evaluated):
    """What int8 lost and gained."""

    MODELS: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    COMMAND: ClassVar[tuple[str, ...]] = ("compare",)

    verb: Literal["compare"]
    fp32: Name
    int8: Name
    max_decline: Words | None = None
    criterion: Words | None = None
    batch_sizes: Annotated[tuple[Batch, ...], Field(min_length=1, max_length=8)] = (1,)
    rounds: Annotated[int, Field(ge=2, le=10_000)] | None = None
    no_bench: bool = False
    early_stop: bool = False
    seed: Seed = 0

    @property
    def exclusive(self) -> bool:
        """See _Request."""
        return not self.no_bench


class GateRequest(_Evaluated):
    """Rules for CI: fp32 and int8, or int8 and a baseline."""

    MODELS: ClassVar[tuple[str, ...]] = ("models",)
    COMMAND: ClassVar[tuple[str, ...]] = ("gate",)
    ALWAYS: ClassVar[tuple[str, ...]] = (
        *("--junit", "junit.xml", "--comment", "comment.md"),
        *("--benchmark-json", "benchmark.json"),
    )

    verb: Literal["gate"]
    models: Annotated[tuple[Name, ...], Field(min_length=1, max_length=2)]
    require: Annotated[tuple[Words, ...], Field(max_length=50)] = Field(
        (), validation_alias=AliasChoices("require", "fail_if")
    )
    baseline: Name | None = None
    allow_isa_change: bool = False
    annotations: bool = Field(False, description="print GitHub's ::error:: lines too")
    rounds: Annotated[int, Field(ge=2, le=10_000)] | None = None
    seed: Seed = 0

    @property
    def exclusive(self) -> bool:
        """See _Request. Only a rule of latency times."""
        return any("latency" in rule for rule in self.require)


class BenchRequest(_Request):
    """Latency and throughput of models, interleaved."""

    MODELS: ClassVar[tuple[str, ...]] = ("models",)
    DATASETS: ClassVar[tuple[str, ...]] = ()
    COMMAND: ClassVar[tuple[str, ...]] = ("bench",)

    verb: Literal["bench"]
    models: Annotated[tuple[Name, ...], Field(min_length=1, max_length=8)]
    batch_sizes: Annotated[tuple[Batch, ...], Field(min_length=1, max_length=8)] = (1,)
    rounds: Annotated[int, Field(ge=2, le=10_000)] | None = None
    seconds: Annotated[float, Field(gt=0, le=3600)] = 25.0
    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    instances: Annotated[int, Field(ge=1, le=256)] | None = None
    cores_per_instance: Annotated[int, Field(ge=1, le=256)] | None = None
    rates: Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(max_length=8)] = ()
    size: Annotated[int, Field(ge=1, le=2048)] | None = None
    profile: bool = False
    seed: Seed = 0

    @property
    def exclusive(self) -> bool:
        """See _Request."""
        return True


class BaselineRequest(_Evaluated):
    """Accept what a model answers, as the baseline ``name``."""

    COMMAND: ClassVar[tuple[str, ...]] = ("baseline", "update")
    ALWAYS: ClassVar[tuple[str, ...]] = ("--baseline", "quantlab-baseline.yaml")

    verb: Literal["baseline"]
    model: Name
    name: Name


AnyRequest: TypeAlias = (
    TuneRequest
    | QuantizeRequest
    | CompareRequest
    | EvaluateRequest
    | BenchRequest
    | GateRequest
    | BaselineRequest
)
Request = Annotated[AnyRequest, Field(discriminator="verb")]
REQUESTS: dict[str, type[_Request]] = {
    "tune": TuneRequest,
    "quantize": QuantizeRequest,
    "compare": CompareRequest,
    "evaluate": EvaluateRequest,
    "bench": BenchRequest,
    "gate": GateRequest,
    "baseline": BaselineRequest,
}
VERBS = tuple(REQUESTS)
_NO_OPTIONS = {"verb", "name"}
"""Fields that are no option of the verb."""


@dataclass(frozen=True)
class Places:
    """Where a job's inputs are, relative to its folder. ``models`` in the order of the request;
    ``data`` by field."""

    models: Sequence[str]
    data: Mapping[str, str] = field(default_factory=dict)
    lists: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    baseline: str | None = None


def model_names(request: _Request) -> list[str]:
    """The models that it names, in order."""
    values = [getattr(request, name) for name in request.MODELS]
    return [name for value in values for name in ((value,) if isinstance(value, str) else value)]


def dataset_names(request: _Request) -> dict[str, str]:
    """By field, the datasets that it names."""
    found = {name: getattr(request, name) for name in request.DATASETS}
    return {field: name for field, name in found.items() if name is not None}


def command_line(request: _Request, places: Places) -> list[str]:
    """The arguments of ``quantlab`` that do what is asked, in the job's folder. What equals its
    default is left out."""
    command = command_of(request.COMMAND)
    options = {p.name: p.opts for p in command.params if isinstance(p, click.Option)}
    words = [*request.COMMAND]
    positional = not set(request.MODELS) <= options.keys()
    if not positional:
        words += ["--model", places.models[0]]
    given = _given(request, places)
    for name, value in given.items():
        words += _option(next(o for o in options[name] if o.startswith("--")), value)
    words += request.ALWAYS
    if request.COMMAND == ("quantize",) and "output" not in given:
        words += ["--output", f"{PurePosixPath(places.models[0]).stem}.int8.onnx"]
    return [*words, *(places.models if positional else ())]


def _given(request: _Request, places: Places) -> dict[str, Any]:
    """By name, the options that differ from their defaults, files in the places of names."""
    values = request.model_dump(exclude_defaults=True)
    named: dict[str, Any] = {**places.data, **places.lists}
    named |= {"recipe": places.recipe} if places.recipe else {}
    named |= {"baseline": places.baseline} if places.baseline else {}
    skipped = {*request.MODELS, *request.DATASETS, *_NO_OPTIONS}
    return {**{name: v for name, v in values.items() if name not in skipped}, **named}


def _option(flag: str, value: Any) -> list[str]:
    if value is None or value is False:
        return []
    if value is True:
        return [flag]
    values = value if isinstance(value, tuple | list) else (value,)
    return [f"{flag}={each}" for each in values]


def command_of(path: Sequence[str]) -> click.Command:
    """The verb of these words, such as ``("baseline", "update")``."""
    command: click.Command = import_module(f"quantlab.cli.{path[0]}").command
    for word in path[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    return command
