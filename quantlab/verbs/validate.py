"""validate: evaluate a model whose images and preprocessing a configuration names."""

from __future__ import annotations

from pathlib import Path

from quantlab.data.readers import LIST_NAMES
from quantlab.errors import ModelError, RecipeError
from quantlab.verbs.config import settled
from quantlab.verbs.evaluate import EvaluateOptions
from quantlab.verbs.options.validate import ValidateOptions as ValidateOptions


def evaluation_of(spec: ValidateOptions) -> EvaluateOptions:
    """The same as options of ``quantlab evaluate``. Raises QuantlabError where no ONNX model is
    named."""
    model = settled(spec).model
    if model is None:
        raise RecipeError(f"{spec.config} names no model.", "Give --ckpt_path MODEL.onnx.")
    if model.endswith(".ckpt"):
        raise ModelError(
            f"{model} is a checkpoint of MindSpore, not an ONNX file.",
            "docs/recipes/mindcv.md says how to export it.",
        )
    data = None if spec.data is None else validation_part(spec.data)
    return EvaluateOptions(**{**spec.model_dump(exclude={"origins"}), "model": model, "data": data})


def validation_part(folder: Path | str) -> Path | str:
    """``val/`` of a folder with one split a folder, as ImageNet is laid out; else the folder, or
    the URL."""
    if isinstance(folder, str):
        return folder
    part = folder / "val"
    listed = any((folder / name).is_file() for name in LIST_NAMES)
    return part if part.is_dir() and not listed else folder
