"""The options of ``quantlab validate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from quantlab.verbs import roles
from quantlab.verbs.options.option import Count, Option
from quantlab.verbs.options.shared import EvaluationOptions, RunOptions


class ValidateOptions(EvaluationOptions, RunOptions):
    """The options of ``quantlab validate``."""

    COMMAND = "validate"
    EXAMPLES = (
        "quantlab validate mobilenetv2.yaml --data_dir val",
        "quantlab validate mobilenetv2.yaml --ckpt_path mobilenetv2-12.onnx",
    )

    config: Annotated[
        Path | None,
        Option(
            "quantlab's or MindCV's YAML.",
            argument=True,
            flags=("--config", "-c"),
            group="Model",
            main=True,
            required=True,
            role=roles.FILE,
        ),
    ] = None
    data: Annotated[
        Path | None,
        Option(
            "Images; of a folder with val/: that one.",
            flags=("--data_dir",),
            group="Images",
            role=roles.DATA,
        ),
    ] = None
    model: Annotated[
        str | None,
        Option(
            "The .onnx file, instead of the configuration's.",
            flags=("--ckpt_path",),
            config="model",
            group="Model",
            role=roles.MODEL,
            main=True,
        ),
    ] = None
    log_interval: Annotated[
        Count | None,
        Option(
            "A running line every N images.",
            flags=("--log-interval", "--log_interval"),
            group="Output",
        ),
    ] = None
