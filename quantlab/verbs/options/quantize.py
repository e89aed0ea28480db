"""The options of ``quantlab quantize``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

from quantlab.cluster.executor import INLINE
from quantlab.model.kinds import ActivationType, FileFormat, RangeMethod
from quantlab.verbs import roles
from quantlab.verbs.options.option import Count, Name, Option, Seed, Stored
from quantlab.verbs.options.shared import (
    FP32,
    MOST_COUNT,
    MOST_SEED,
    OUTPUT_FLAGS,
    DataOptions,
    Executor,
    FileName,
    ModelOptions,
    RunOptions,
    TargetName,
)

_field = partial(Option, group="Calibration", remote=True)


class QuantizeOptions(DataOptions, ModelOptions, RunOptions):
    """The options of ``quantlab quantize``."""

    COMMAND = "quantize"
    EXAMPLES = (
        "quantlab quantize mobilenetv2-12.onnx --data train -o int8.onnx",
        "quantlab quantize m.onnx --data train --target openvino --ranges mse --per-tensor",
    )

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
    engine: Annotated[
        str | None,
        _field("Who quantizes: quantlab, ort, inc, nncf.  [default: quantlab]", remote=Name | None),
    ] = None
    ranges: Annotated[
        RangeMethod | None, _field("How activation ranges are estimated.  [default: mean]")
    ] = None
    per_channel: Annotated[
        bool | None,
        _field(
            "A scale for each output channel of weights.  [default: per channel]",
            off="--per-tensor",
            form_help="A scale for each output channel of weights; no: one a tensor.",
        ),
    ] = None
    activations: Annotated[
        ActivationType | None, _field("The type of activations.  [default: u8]")
    ] = None
    format: Annotated[
        FileFormat | None, _field("How the file says it.  [default: qdq]", any_case=True)
    ] = None
    calibration_size: Annotated[
        Count | None, _field("Calibration images in all.", most=MOST_COUNT)
    ] = None
    images_per_class: Annotated[
        Count | None,
        _field("Calibration images of each class, instead.", most=MOST_COUNT),
    ] = None
    seed: Annotated[Seed | None, _field("Of the calibration sample.", most=MOST_SEED)] = None
    executor: Executor = INLINE
    output: Annotated[
        Path | None,
        Option(
            "The int8 file; NAME.xml: OpenVINO IR. Default: <model>.int8.onnx here.",
            group="Output",
            flags=OUTPUT_FLAGS,
            role=roles.WRITES_INT8,
            remote=FileName | None,
            local=True,
            form_help="Default: the model's name and .int8.onnx.",
        ),
    ] = None
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

    @property
    def changes(self) -> dict[str, Any]:
        """What is asked of the recipe's fields, in their places."""
        asked = {name: getattr(self, name) for name in _FIELDS}
        return {name: value for name, value in asked.items() if value is not None}


_FIELDS = (
    "engine",
    "ranges",
    "per_channel",
    "activations",
    "format",
    "calibration_size",
    "images_per_class",
    "seed",
)
