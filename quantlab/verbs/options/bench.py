"""The options of ``quantlab bench``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from quantlab.bench.defaults import SECONDS, Isolation
from quantlab.verbs import roles
from quantlab.verbs.options.option import Batch, Count, Option, Seconds, Stored
from quantlab.verbs.options.shared import (
    MODEL_FLAGS,
    MOST_ROUNDS,
    MOST_THREADS,
    Compat,
    Exports,
    Force,
    InputOptions,
    PlainSeed,
    Rounds,
    RunOptions,
)

_timing = partial(Option, group="Timing")
_load = partial(Option, group="Speed")
_other = partial(Option, group="Images")
Rate = Annotated[float, Field(gt=0)]


class ProfileOptions(InputOptions):
    """What of ``quantlab bench`` a profile needs: it is taken at the first batch size."""

    models: tuple[str, ...]
    batch_sizes: tuple[int, ...] = (1,)
    threads: int = 1
    seed: int = 0


class BenchOptions(InputOptions, RunOptions):
    """The options of ``quantlab bench``; ``isolation`` is of latency alone."""

    COMMAND = "bench"
    EXAMPLES = (
        "quantlab bench mobilenetv2-12.onnx int8.onnx --batch 1,8",
        "quantlab bench int8.onnx --instances 2 --rate 50,100 --export bench.csv",
    )

    models: Annotated[
        tuple[str, ...],
        Option(
            "One or more: .onnx files, or published models' names.",
            argument=True,
            flags=MODEL_FLAGS,
            configured=("model", "output"),
            required=False,
            form_help="",
            group="Model",
            role=roles.MODEL,
            remote=Stored("models"),
            most=8,
            needed=True,
            label="Model",
            main=True,
            boxes=4,
        ),
    ]
    batch_sizes: Annotated[
        tuple[Count, ...],
        _timing(
            "Batch sizes: 1,8,256, or the option several times.",
            flags=("--batch", "--batch_size", "-b"),
            metavar="N,N,...",
            commas=True,
            remote=Annotated[tuple[Batch, ...], Field(min_length=1, max_length=8)],
            label="Batch sizes",
            form_help="Numbers with spaces between them.",
            main=True,
        ),
    ] = (1,)
    rounds: Annotated[
        Rounds | None,
        _timing("Default: as many as the time allows.", remote=True, most=MOST_ROUNDS),
    ] = None
    seconds: Annotated[
        Seconds,
        Field(gt=0),
        _timing("For each batch size or rate, about: 30s, 2m.", remote=True, most=3600, main=True),
    ] = SECONDS
    threads: Annotated[Count, _load("Of each model.", remote=True, most=MOST_THREADS)] = 1
    instances: Annotated[
        Count | None,
        _load("So many processes at once.", flags=("--instances", "-i"), remote=True, most=256),
    ] = None
    processes: Annotated[
        Count | None, _load("Times --instances so many.", flags=("--processes", "-p"))
    ] = None
    cores_per_instance: Annotated[
        Count | None, _load("CPUs and threads of each.  [default: 1]", remote=True, most=256)
    ] = None
    rates: Annotated[
        tuple[Rate, ...],
        _load(
            "Offered load in images/s: latency when requests come at random.",
            flags=("--rate",),
            metavar="N,N,...",
            commas=True,
            remote=Annotated[
                tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(max_length=8)
            ],
            form_help="Images a second, with spaces between them: latency when requests come at "
            "random.",
        ),
    ] = ()
    provider: Annotated[
        str | None,
        _load(
            "Execution provider: cpu, openvino, cuda, ... for all models.",
            reader="quantlab.runtime.providers:providers_of",
        ),
    ] = None
    isolation: Isolation = "fresh"
    compat: Compat = None
    mode: Annotated[
        Literal["performance", "accuracy"],
        _other("accuracy: quantlab evaluate, with the next two."),
    ] = "performance"
    dataset_location: Annotated[
        Path | None,
        _other(
            "With --mode accuracy: images.", flags=("--dataset_location",), role=roles.OTHER_DATA
        ),
    ] = None
    label_path: Annotated[
        Path | None,
        _other(
            "With --mode accuracy: `name label` a line.", flags=("--label_path",), role=roles.FILE
        ),
    ] = None
    exports: Exports = ()
    profile: Annotated[
        bool,
        Option(
            "Then where the time goes, by operator, and why not faster.", group="View", remote=True
        ),
    ] = False
    force: Force = False
    seed: PlainSeed = 0

    @staticmethod
    def exclusive(asked: Any) -> bool:
        """See Options."""
        return True
