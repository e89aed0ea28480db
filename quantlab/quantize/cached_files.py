"""Cache of quantized files of quantlab's own engines, in the cache folder."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from quantlab._util.cache import Store, key_of
from quantlab._util.source import source_digest
from quantlab.data.calibration import CalibrationImages
from quantlab.data.crops import CROPS_FORMAT, decoder
from quantlab.model.model import Model
from quantlab.recipe import Recipe
from quantlab.runtime.environment import environment, versions

ENGINES = ("quantlab", "ort")
"""Those whose files depend on nothing but what the key holds."""


def file_key(model: Model, recipe: Recipe, images: CalibrationImages) -> str:
    """Changes whenever the file may: with the model, the recipe, each image and their order, the
    pipeline, quantlab's source, the libraries they use, and the CPU's instructions."""
    pipeline = images.crops.pipeline
    inputs = [images.crops.digests, pipeline.model_dump(mode="json"), CROPS_FORMAT]
    libraries = [versions(("numpy", "scipy", "onnx", "onnxruntime")), environment()["isa"]]
    read_as = [model.input.layout, model.output_kind, model.output_name]
    facts = [model.sha256, *read_as, recipe.model_dump(mode="json")]
    parts = [facts, inputs, decoder(pipeline), libraries, source_digest()]
    return key_of(*parts)


def recall_model(key: str, folder: Path) -> bytes | None:
    """The cached file, or None where ``folder`` holds no complete one."""

    def read(path: Path, facts: dict[str, Any]) -> bytes | None:
        content = path.read_bytes()
        return content if hashlib.sha256(content).hexdigest() == facts["sha256"] else None

    return Store(folder, ".onnx").find(key, read)


def keep_model(content: bytes, key: str, subject: str, folder: Path) -> None:
    """Write the file to the cache. A folder that cannot be written is no error."""
    sha256 = hashlib.sha256(content).hexdigest()
    Store(folder, ".onnx").keep(key, subject, lambda path: path.write_bytes(content), sha256=sha256)
