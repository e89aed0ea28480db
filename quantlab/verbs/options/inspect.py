"""The options of ``quantlab inspect``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from quantlab.verbs import roles
from quantlab.verbs.options.option import Count, Option
from quantlab.verbs.options.shared import MODEL_FLAGS, DataOptions, ModelOptions, RunOptions

View = Literal[
    "inspect",
    "portability",
    "layers",
    "sensitivity",
    "preprocess-audit",
    "test-data",
    "quantization",
    "target",
]
_view = partial(Option, group="View")


class InspectOptions(DataOptions, ModelOptions, RunOptions):
    """The options of ``quantlab inspect``. ``int8`` is the second model of ``layers``;
    ``published`` a top-1 in percent, for ``preprocess-audit``."""

    COMMAND = "inspect"
    EXAMPLES = (
        "quantlab inspect mobilenetv2-12.onnx",
        "quantlab inspect --layers mobilenetv2-12.onnx int8.onnx --data val",
    )
    KEPT = False

    models: Annotated[
        tuple[str, ...],
        Option(
            "A .onnx file, or a published model's name; with --layers both models.",
            argument=True,
            flags=MODEL_FLAGS,
            configured=("model", "output"),
            metavar="MODEL [INT8]",
            group="Model",
            role=roles.MODEL,
        ),
    ] = ()
    model: str
    int8: str | None = None
    view: View = "inspect"
    scales: Annotated[bool, _view("Print every quantized tensor's scale and zero point.")] = False
    portability: Annotated[
        bool,
        _view("How many 16-bit pair sums would saturate on a CPU without VNNI, and the damage."),
    ] = False
    layers: Annotated[
        bool, _view("Errors layer by layer: quantlab inspect --layers FP32 INT8.")
    ] = False
    fp32: Annotated[
        str | None,
        _view("With --layers: the fp32 model, where INT8 is the argument.", role=roles.MODEL),
    ] = None
    sensitivity: Annotated[
        bool, _view("What each group of nodes costs in int8, left out and alone, of a fp32 model.")
    ] = False
    preprocess_audit: Annotated[
        bool, _view("Which preprocessing the model was trained for, and what a wrong one costs.")
    ] = False
    published: Annotated[
        float | None,
        Field(gt=0, le=100),
        _view("With --preprocess-audit: a published top-1 in percent, to see what it fits."),
    ] = None
    quantization: Annotated[bool, _view("Every operator's output scale and zero point.")] = False
    form: Annotated[
        Literal["table", "csv", "json"], _view("Of --quantization.", flags=("--format",))
    ] = "table"
    test_data: Annotated[
        Path | None,
        _view(
            "Check against stored inputs and outputs: a test_data_set_0, or the folder above.",
            role=roles.FOLDER,
        ),
    ] = None
    target: Annotated[
        str | None,
        _view("Every breach of a target's rules: x86, openvino, tensorrt, ... (docs/targets.md)."),
    ] = None
    images: Annotated[
        Count | None,
        Option(
            "Images to run; 32 with --portability, 64 with --sensitivity, 400 with "
            "--preprocess-audit, else 16.",
            group="Images",
        ),
    ] = None
