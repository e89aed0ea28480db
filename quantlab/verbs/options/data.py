"""The options of ``quantlab data``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from quantlab.verbs import roles
from quantlab.verbs.options.option import Option
from quantlab.verbs.options.shared import (
    MODEL_FLAGS,
    OUTPUT_FLAGS,
    DataOptions,
    Force,
    ModelOptions,
    RunOptions,
)


class NpzOptions(DataOptions, ModelOptions, RunOptions):
    """The options of ``quantlab data npz``."""

    COMMAND = "data"
    EXAMPLES = (
        "quantlab data npz mobilenetv2-12.onnx --data val --output npz",
        "quantlab data npz mobilenetv2-12.onnx --data val.tar -o npz --force",
    )

    form: Annotated[
        Literal["npz"], Option(argument=True, required=True, group="Model", main=True)
    ] = "npz"
    model: Annotated[
        str,
        Option(
            "Whose input: a .onnx file or a published model.",
            argument=True,
            flags=MODEL_FLAGS,
            group="Model",
            role=roles.MODEL,
            main=True,
        ),
    ]
    output: Annotated[
        Path,
        Option("The folder to write to.", group="Output", flags=OUTPUT_FLAGS, role=roles.FILLS),
    ]
    force: Force = False
