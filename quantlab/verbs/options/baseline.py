"""The options of ``quantlab baseline``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from quantlab.verbs import roles
from quantlab.verbs.options.option import Name, Option, Stored
from quantlab.verbs.options.shared import (
    BASELINE,
    MODEL_FLAGS,
    OUTPUT_FLAGS,
    DataOptions,
    EvaluationOptions,
    Force,
    RunOptions,
)


class BaselineUpdateOptions(DataOptions, EvaluationOptions, RunOptions):
    """The options of ``quantlab baseline update``."""

    COMMAND = "baseline update"
    EXAMPLES = (
        "quantlab baseline update int8.onnx --data val",
        "quantlab baseline update int8.onnx --data val -o accepted.yaml --no-predictions",
    )

    model: Annotated[
        str,
        Option(
            "A .onnx file, or a published model's name.",
            argument=True,
            flags=MODEL_FLAGS,
            form_help="",
            group="Model",
            role=roles.MODEL,
            remote=Stored("models"),
            main=True,
        ),
    ]
    baseline: Annotated[
        Path,
        Option(
            "The file to write.",
            group="Output",
            flags=("--baseline", *OUTPUT_FLAGS),
            role=roles.WRITES_BASELINE,
            job_file=BASELINE,
        ),
    ] = Path(BASELINE)
    no_predictions: Annotated[
        bool, Option("Write no answers (.npz) beside it.", group="Output")
    ] = False
    name: Annotated[
        str,
        Option(
            "Letters, digits and . _ + - only. A known name takes the new answers.",
            group="Output",
            command=False,
            remote=Name,
            needed=True,
            label="Name of the baseline",
            main=True,
        ),
    ] = ""
    force: Force = False


class BaselineShowOptions(RunOptions):
    """The options of ``quantlab baseline show``."""

    COMMAND = "baseline show"
    EXAMPLES = (
        "quantlab baseline show",
        "quantlab baseline show accepted.yaml --json",
    )
    KEPT = False

    file: Annotated[Path, Option(argument=True, role=roles.FILE)] = Path(BASELINE)


class BaselineDiffOptions(RunOptions):
    """The options of ``quantlab baseline diff``."""

    COMMAND = "baseline diff"
    EXAMPLES = (
        "quantlab baseline diff old.yaml",
        "quantlab baseline diff old.yaml new.yaml",
    )
    KEPT = False

    old: Annotated[Path, Option(argument=True, role=roles.FILE)]
    new: Annotated[Path, Option(argument=True, role=roles.FILE)] = Path(BASELINE)
