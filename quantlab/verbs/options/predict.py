"""The options of ``quantlab predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from quantlab.verbs import roles
from quantlab.verbs.options.option import Count, Option
from quantlab.verbs.options.shared import MODEL_FLAGS, ModelOptions, RunOptions, Synsets


class PredictOptions(ModelOptions, RunOptions):
    """The options of ``quantlab predict``."""

    COMMAND = "predict"
    EXAMPLES = (
        "quantlab predict mobilenetv2-12.onnx cat.jpg dog.jpg",
        "quantlab predict mobilenetv2-12 cat.jpg --top 1 --json",
    )
    KEPT = False

    model: Annotated[
        str,
        Option(
            "A .onnx file, or a published model's name.",
            argument=True,
            flags=MODEL_FLAGS,
            group="Model",
            role=roles.MODEL,
            main=True,
        ),
    ]
    images: Annotated[
        tuple[Path, ...],
        Field(min_length=1),
        Option("Image files.", argument=True, metavar="IMAGE...", group="Images", role=roles.FILE),
    ]
    top: Annotated[Count, Option("Classes shown.", group="Output")] = 5
    synsets: Synsets = None
