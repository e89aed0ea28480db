"""The options of ``quantlab evaluate``, of a model and of another device's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from quantlab.verbs import roles
from quantlab.verbs.options.option import Option, Stored
from quantlab.verbs.options.shared import (
    MODEL_FLAGS,
    ConfigOptions,
    DataOptions,
    EvaluateCompat,
    LogInterval,
    RunOptions,
    ShardedOptions,
    Synsets,
)


class EvaluateOptions(DataOptions, ShardedOptions, RunOptions):
    """The options of ``quantlab evaluate``."""

    COMMAND = "evaluate"
    EXAMPLES = (
        "quantlab evaluate mobilenetv2-12.onnx --data val",
        "quantlab evaluate --results answers --label val.txt",
    )

    model: Annotated[
        str,
        Option(
            "A .onnx file, or a published model's name.",
            argument=True,
            flags=MODEL_FLAGS,
            configured=("model",),
            required=False,
            form_help="",
            group="Model",
            role=roles.MODEL,
            remote=Stored("models"),
            main=True,
        ),
    ]
    log_interval: LogInterval = None
    results: Annotated[
        Path | None,
        Option(
            "Instead of MODEL: another device's answers (docs/evaluate.md).",
            group="Model",
            role=roles.FOLDER,
        ),
    ] = None
    label: Annotated[
        Path | None,
        Option(
            "With --results: `name label` a line, or images.", group="Images", role=roles.OTHER_DATA
        ),
    ] = None
    compat: EvaluateCompat = None


class ResultsOptions(ConfigOptions):
    """Of ``quantlab evaluate``, those of ``--results``."""

    results: Path
    label: Path
    synsets: Synsets = None
