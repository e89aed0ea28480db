"""The options of ``quantlab quantize``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from quantlab.cluster.executor import INLINE
from quantlab.verbs import roles
from quantlab.verbs.options.option import Option, Seed, Stored
from quantlab.verbs.options.shared import (
    FP32,
    MOST_SEED,
    DataOptions,
    Executor,
    FileName,
    ModelOptions,
    RunOptions,
    TargetName,
)


class QuantizeOptions(DataOptions, ModelOptions, RunOptions):
    """The options of ``quantlab quantize``."""

    COMMAND = "quantize"
    EXAMPLE = "quantlab quantize --model mobilenetv2-12.onnx --data train --output int8.onnx"

    model: Annotated[str, FP32]
    recipe: Annotated[
        str | None,
        Option(
            "A YAML file or a published model's name. Default: the best we have.",
            group="Calibration",
            role=roles.FILE,
            remote=Stored("recipes"),
            form_help="Only this recipe.",
            main=True,
        ),
    ] = None
    target: TargetName = None
    seed: Annotated[
        Seed | None,
        Option("Overrides the recipe's.", group="Calibration", remote=True, most=MOST_SEED),
    ] = None
    executor: Executor = INLINE
    output: Annotated[
        Path,
        Option(
            "The int8 file; NAME.xml: OpenVINO IR.",
            group="Output",
            role=roles.WRITES_INT8,
            remote=FileName | None,
            local=True,
            form_help="Default: the model's name and .int8.onnx.",
        ),
    ]
    force: Annotated[
        bool,
        Option(
            "Write also a file whose answers are unrelated to fp32's, and in the place of one "
            "that quantlab did not write, but of no input.",
            group="Output",
            remote=True,
            local=True,
            momentary=True,
        ),
    ] = False
